"""A seed is a schedule."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from chaos.schedule import SERVER, cards, plan
from processors.runner import ALL

PRODUCERS = ("producer1", "producer2", "producer3")


@given(st.integers(0, 2**63), st.floats(10, 7200))
def test_the_same_seed_gives_the_same_schedule_and_all_of_it_is_over_in_time(seed: int, seconds: float) -> None:
    actions = plan(seed, seconds, ALL, PRODUCERS)
    assert actions == plan(seed, seconds, ALL, PRODUCERS)
    assert all(action.at_s >= 0 and action.until_s <= seconds + 0.01 for action in actions)
    assert [action.at_s for action in actions] == sorted(action.at_s for action in actions)


def test_another_seed_gives_another_schedule() -> None:
    assert plan(1, 60, ALL, PRODUCERS) != plan(2, 60, ALL, PRODUCERS)


def test_a_minute_kills_every_process_and_an_hour_does_everything_many_times() -> None:
    for seed in range(20):
        killed = {action.target for action in plan(seed, 60, ALL, PRODUCERS) if action.kind == "kill"}
        assert len({*ALL, SERVER, *PRODUCERS} - killed) <= 1, seed
    hour = Counter((action.kind, action.target) for action in plan(1, 3600, ALL, PRODUCERS))
    assert all(hour[card] >= 10 for card in cards(ALL, PRODUCERS))
