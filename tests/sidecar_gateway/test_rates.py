from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.gateway.rates import Allowed, Rates, Wait


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(1, 300), st.floats(0, 5)), max_size=60), st.floats(1, 100))
def test_never_more_than_the_rate_and_what_was_saved_up(requests: list[tuple[int, float]], per_s: float) -> None:
    rates, now, taken, largest = Rates(per_s), 0.0, 0, 0
    for events, pause in requests:
        now += pause
        if isinstance(rates.take("t", events, now), Allowed):
            taken += events
            largest = max(largest, events)
        assert taken <= per_s * (now + 2) + largest + 1e-6


@settings(deadline=None)
@given(st.integers(1, 10_000), st.floats(0.1, 100))
def test_who_waits_as_long_as_he_is_told_is_let_in(events: int, per_s: float) -> None:
    rates = Rates(per_s)
    rates.take("t", 1, 0.0)
    answer = rates.take("t", events, 0.0)
    if isinstance(answer, Wait):
        assert answer.seconds > 0
        assert isinstance(rates.take("t", events, answer.seconds + 1e-6), Allowed)
