from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from agent_manager.healing.verdict import Fit, Mending, Sick, Unknown, Verdict, judge
from schemas.state import Observation

START = datetime(2026, 11, 1, 12, tzinfo=UTC)
VERIFY = timedelta(seconds=30)


def at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


def seen(health: Any, status: Any = "running", since: float = 1, updated: float = 2, **more: Any) -> Observation:
    return Observation(agent_id="a", tenant_id="t", health=health, status=status, since=at(since), updated_at=at(updated), **more)


def judged(observation: Observation | None, now: float = 3) -> Verdict:
    return judge(observation, started_at=START, verify_within=VERIFY, now=at(now))


def test_an_observation_from_before_the_start_says_nothing() -> None:
    assert isinstance(judged(seen("UNHEALTHY", since=-9, updated=-1)), Unknown)
    assert isinstance(judged(seen("HEALTHY", since=-9, updated=0)), Unknown)


def test_a_verdict_from_before_the_start_is_not_held_against_the_new_instance_until_its_time_is_up() -> None:
    stale = seen("UNHEALTHY", since=-5, updated=2)
    assert isinstance(judged(stale, now=10), Unknown)
    assert isinstance(judged(stale, now=31), Sick)


def test_a_new_verdict_counts_at_once() -> None:
    assert isinstance(judged(seen("UNHEALTHY", since=1)), Sick)


def test_trouble_that_began_with_the_agents_process_ending_is_told_apart() -> None:
    assert judged(seen("UNHEALTHY", "error", began_at=at(0.5), reason="killed")) == Sick("killed", at(0.5), ended=True)


def test_silence_of_the_earlier_instance_is_not_the_new_ones() -> None:
    silent = seen("UNHEALTHY", "inactive", since=1, last_heartbeat=at(-14))
    assert isinstance(judged(silent), Unknown)
    own = seen("UNHEALTHY", "inactive", since=20, updated=20, last_heartbeat=at(4))
    assert judged(own, now=21) == Sick("unhealthy", at(20), absent=True)


def test_a_process_that_left_with_code_0_is_in_trouble_too_unless_it_was_told_to() -> None:
    assert isinstance(judged(seen("HEALTHY", "stopped", reason="exited with code 0")), Sick)
    assert isinstance(judged(seen("HEALTHY", "stopped", reason="stopped by command")), Unknown)


def test_healthy_and_recovering_are_what_they_say() -> None:
    assert judged(seen("HEALTHY")) == Fit(at(1))
    assert judged(seen("RECOVERING")) == Mending()
    assert isinstance(judged(None), Unknown)


@given(
    st.sampled_from(["HEALTHY", "UNHEALTHY", "RECOVERING"]),
    st.sampled_from(["starting", "running", "stopped", "error", "inactive"]),
    st.floats(-100, 0),
    st.floats(-100, 100),
)
def test_nothing_concluded_before_a_restart_ever_condemns_the_new_instance_within_the_deadline(
    health: str, status: str, since: float, updated: float
) -> None:
    observation = seen(health, status, since=since, updated=updated, reason="stopped by command", last_heartbeat=at(since))
    for now in (0, 10, 29.9):
        assert not isinstance(judged(observation, now=now), Sick)
