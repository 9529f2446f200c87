"""Which faults are in force, and what they do to a request."""

from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from schemas.sections import Fault
from schemas.state import AskedFault
from sidecar.faults import Active, Cut, Delay, Fail, Hold, Reset, Slow, asked, due, passed, treatment, without

NOW = datetime(2026, 11, 20, tzinfo=UTC)


def fault(name: str, kind: Any, seconds: float = 60, **more: Any) -> Fault:
    return Fault(fault_id=name, kind=kind, until=NOW + timedelta(seconds=seconds), **more)


def test_an_expired_fault_never_begins() -> None:
    change = asked((), [fault("old", "latency", -1), fault("new", "latency", 5)], frozenset(), wall=NOW, monotonic=100)
    assert [item.fault.fault_id for item in change.active] == ["new"]
    assert change.active[0].deadline == 105


def test_no_fault_lasts_longer_than_a_day() -> None:
    change = asked((), [fault("far", "error", 10**8)], frozenset(), wall=NOW, monotonic=0)
    assert change.active[0].deadline == 86_400


def test_asking_again_neither_begins_nor_prolongs() -> None:
    """Nor does a wall clock that was set back."""
    first = asked((), [fault("a", "error", 10)], frozenset(), wall=NOW, monotonic=0)
    again = asked(first.active, [fault("a", "error", 10)], frozenset(), wall=NOW - timedelta(hours=1), monotonic=5)
    assert again.active == first.active
    assert again.is_nothing


def test_what_is_no_longer_asked_for_is_cleared() -> None:
    first = asked((), [fault("a", "error"), fault("b", "latency")], frozenset(), wall=NOW, monotonic=0)
    change = asked(first.active, [fault("b", "latency")], frozenset(), wall=NOW, monotonic=1)
    assert [(item.fault.fault_id, ending) for item, ending in change.ended] == [("a", "cleared")]


def test_a_spent_fault_is_left_aside() -> None:
    assert asked((), [fault("c", "crash")], frozenset({"c"}), wall=NOW, monotonic=0).active == ()
    first = asked((), [fault("c", "crash")], frozenset(), wall=NOW, monotonic=0)
    assert without(first.active, "c").active == ()


@given(st.lists(st.floats(min_value=0, max_value=100), max_size=8), st.floats(min_value=0, max_value=100))
def test_no_fault_is_in_force_after_its_deadline(deadlines: list[float], now: float) -> None:
    active = [Active(fault(str(index), "error"), deadline) for index, deadline in enumerate(deadlines)]
    change = passed(active, now)
    assert all(item.deadline > now for item in change.active)
    assert len(change.active) + len(change.ended) == len(active)
    assert bool(treatment(active, now, lambda: 0.0)) == bool(change.active)


def test_faults_compose_in_order() -> None:
    faults = [
        fault("e", "error", rate=0.5, status_code=503),
        fault("l", "latency", latency_ms=200, jitter_ms=100),
        fault("m", "latency", latency_ms=50),
    ]
    active = asked((), faults, frozenset(), wall=NOW, monotonic=0).active
    steps = treatment(active, 1, lambda: 0.25)
    match steps:
        case (Delay(_, first), Delay(_, second), Fail(_, 503)):
            assert (first, second) == (0.225, 0.05)
        case _:
            raise AssertionError(steps)
    assert not any(isinstance(step, Fail) for step in treatment(active, 1, lambda: 0.75))


def test_a_blackhole_swallows_what_an_error_would_answer() -> None:
    active = asked((), [fault("e", "error"), fault("b", "blackhole")], frozenset(), wall=NOW, monotonic=0).active
    assert [type(step) for step in treatment(active, 1, lambda: 0.0)] == [Hold]


def test_a_seed_strikes_the_same_requests_every_time() -> None:
    asking = AskedFault(**fault("e", "error", rate=0.4).model_dump(), seed=7)

    def struck() -> list[bool]:
        active = asked((), [asking], frozenset(), wall=NOW, monotonic=0).active
        return [bool(treatment(active, 1, lambda: 0.99)) for _ in range(40)]

    assert struck() == struck()
    assert 5 < sum(struck()) < 30


def test_a_fault_for_later_is_due_when_its_time_has_come_whatever_the_wall_clock_does() -> None:
    late = AskedFault(**fault("l", "latency").model_dump(), begins_at=NOW + timedelta(seconds=10))
    wanted, begins = due([late, fault("n", "error")], {}, wall=NOW, monotonic=100)
    assert [one.fault_id for one in wanted] == ["n"]
    assert begins == {"l": 110}
    wanted, begins = due([late], begins, wall=NOW - timedelta(hours=1), monotonic=111)
    assert [one.fault_id for one in wanted] == ["l"]
    assert begins == {}


def test_an_answer_may_be_slow_and_cut_and_a_reset_comes_before_both() -> None:
    cut = AskedFault(**fault("t", "truncate").model_dump(), intensity=10)
    active = asked((), [cut, fault("s", "throttle")], frozenset(), wall=NOW, monotonic=0).active
    match treatment(active, 1, lambda: 0.0):
        case (Cut(_, 10), Slow(_, rate)):
            assert rate == 1024
        case steps:
            raise AssertionError(steps)
    active = asked((), [cut, fault("r", "reset")], frozenset(), wall=NOW, monotonic=0).active
    assert [type(step) for step in treatment(active, 1, lambda: 0.0)] == [Reset]
