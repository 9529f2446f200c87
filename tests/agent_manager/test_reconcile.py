from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from agent_manager.healing.verdict import Fit, Mending, Sick, Unknown
from agent_manager.lifecycle.reconcile import (
    Absent,
    Alive,
    Circumstances,
    Desired,
    Ended,
    GiveUp,
    Leave,
    Restart,
    Seen,
    Start,
    Stop,
    decide,
    status_of,
)
from agent_manager.lifecycle.states import MOVES, is_legal, route
from schemas.sections import AgentStatus
from schemas.state import HealingConfig

NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
POLICY = HealingConfig(max_restarts=3, window_s=300, backoff_initial_s=1, backoff_max_s=60)


def circumstances(**changes: Any) -> Circumstances:
    given_: dict[str, Any] = {
        "policy": POLICY, "healing_enabled": True, "gave_up": False, "restarts": (), "draw": 0.5, "calm": True,
        "has_manifest": True, "patience": timedelta(seconds=15), "silence": timedelta(seconds=30),
    }  # fmt: skip
    return Circumstances(**(given_ | changes))


moments = st.floats(-1000, 0).map(lambda seconds: NOW + timedelta(seconds=seconds))
verdicts = st.one_of(
    st.builds(Fit, since=moments),
    st.just(Mending()),
    st.builds(Sick, reason=st.just("sick"), began_at=moments, ended=st.booleans(), absent=st.booleans()),
    st.just(Unknown("?")),
)
alive = st.builds(Alive, since=moments, confirmed=st.booleans(), was_fit=st.booleans(), verdict=verdicts)
sights = st.one_of(st.just(Absent()), alive, st.builds(Ended, reason=st.just("gone"), at=moments))
situations = st.builds(
    circumstances,
    healing_enabled=st.booleans(),
    gave_up=st.booleans(),
    restarts=st.lists(moments, max_size=5).map(lambda found: tuple(sorted(found))),
    draw=st.floats(0, 0.999),
    calm=st.booleans(),
    has_manifest=st.booleans(),
)


@given(st.sampled_from(["running", "stopped"]), sights, situations)
def test_an_agent_that_lives_is_never_started_a_second_time(desired: Desired, seen: Seen, situation: Circumstances) -> None:
    decision = decide(desired, seen, situation, NOW)
    if isinstance(seen, Alive):
        assert not isinstance(decision, Start)
    if desired == "stopped":
        assert not isinstance(decision, Start | Restart | GiveUp)
    if isinstance(decision, Stop):
        assert isinstance(seen, Alive)


@given(sights, situations)
def test_nothing_is_brought_up_after_giving_up_or_without_a_manifest(seen: Seen, situation: Circumstances) -> None:
    decision = decide("running", seen, situation, NOW)
    if situation.gave_up or not situation.has_manifest:
        assert isinstance(decision, Leave)


@given(sights, situations)
def test_with_self_healing_off_nothing_that_failed_is_restarted(seen: Seen, situation: Circumstances) -> None:
    decision = decide("running", seen, situation, NOW)
    if not situation.healing_enabled:
        assert not isinstance(decision, Restart | GiveUp)


@given(sights, situations)
def test_waiting_always_says_until_when_and_that_is_later(seen: Seen, situation: Circumstances) -> None:
    decision = decide("running", seen, situation, NOW)
    if isinstance(decision, Leave) and decision.wake_at is not None:
        assert decision.wake_at > NOW


def test_a_crash_is_answered_at_once_the_first_time_and_with_growing_patience_after() -> None:
    gone = Ended("killed", NOW)
    assert decide("running", gone, circumstances(), NOW) == Restart("killed", "ended", 1)
    waiting = decide("running", gone, circumstances(restarts=(NOW,), draw=0.0), NOW)
    assert isinstance(waiting, Leave)
    assert waiting.wake_at == NOW + timedelta(seconds=0.5)
    assert decide("running", gone, circumstances(restarts=(NOW,) * 3), NOW) == GiveUp("killed; 3 restarts in 300 s", 3)


def test_silence_is_not_healed_while_the_manager_itself_could_not_hear() -> None:
    silent = Alive(NOW - timedelta(hours=1), True, True, Sick("no heartbeat", NOW, absent=True))
    assert isinstance(decide("running", silent, circumstances(calm=False), NOW), Leave)
    assert isinstance(decide("running", silent, circumstances(), NOW), Restart)


def test_a_new_instance_may_fail_its_probes_for_a_while_but_not_die() -> None:
    young = NOW - timedelta(seconds=2)
    failing = Alive(young, True, False, Sick("probe fails", NOW))
    dead = Alive(young, True, False, Sick("killed", NOW, ended=True))
    assert decide("running", failing, circumstances(), NOW) == Leave("still coming up", young + timedelta(seconds=15))
    assert isinstance(decide("running", dead, circumstances(), NOW), Restart)


def test_a_sidecar_that_never_answers_is_replaced() -> None:
    mute = Alive(NOW - timedelta(seconds=31), False, False, Unknown("no observation yet"))
    assert decide("running", mute, circumstances(), NOW) == Restart("its sidecar does not answer", "unhealthy", 1)


steps = st.lists(
    st.one_of(
        st.sampled_from(["crash", "sick", "fit", "stop", "start"]),
        st.floats(0.1, 120).map(lambda seconds: ("wait", seconds)),
    ),
    max_size=60,
)


@settings(max_examples=200)
@given(steps, st.floats(0, 0.999))
def test_whatever_happens_there_is_at_most_one_instance_and_never_more_restarts_in_the_window_than_allowed(
    happenings: list[Any], draw: float
) -> None:
    now, gave_up = NOW, False
    desired: Desired = "running"
    seen: Seen = Absent()
    restarts: tuple[datetime, ...] = ()
    instances = 0
    for happening in happenings:
        if isinstance(happening, tuple):
            now += timedelta(seconds=happening[1])
        elif happening == "crash" and isinstance(seen, Alive):
            seen, instances = Ended("crashed", now), instances - 1
        elif happening in {"sick", "fit"} and isinstance(seen, Alive):
            verdict = Sick("sick", now) if happening == "sick" else Fit(now)
            seen = Alive(seen.since, True, seen.was_fit or happening == "fit", verdict)
        elif happening == "stop":
            desired = "stopped"
        elif happening == "start":
            desired, gave_up, restarts = "running", False, ()
        situation = circumstances(gave_up=gave_up, restarts=restarts, draw=draw)
        decision = decide(desired, seen, situation, now)
        match decision:
            case Start():
                instances += 1
                seen = Alive(now, True, False, Unknown("new"))
            case Stop():
                instances -= 1
                seen = Absent()
            case Restart():
                instances += 0 if isinstance(seen, Alive) else 1
                restarts = (*restarts, now)
                seen = Alive(now, True, False, Unknown("new"))
            case GiveUp():
                gave_up = True
            case Leave():
                pass
        assert instances == (1 if isinstance(seen, Alive) else 0)
        assert sum(1 for at in restarts if (now - at).total_seconds() < POLICY.window_s) <= POLICY.max_restarts


@given(st.lists(sights, min_size=1, max_size=20), st.booleans())
def test_the_state_shown_moves_only_along_the_table_and_arrives(seen: list[Seen], gave_up: bool) -> None:
    status: AgentStatus = "stopped"
    for sight in seen:
        wanted, _ = status_of(sight, gave_up=gave_up)
        for _step in range(3):
            following = route(status, wanted)
            assert is_legal(status, following)
            status = following
        assert status == wanted


def test_every_state_can_be_left_and_reached() -> None:
    assert set(MOVES) == {"starting", "running", "stopped", "error", "inactive"}
    assert {state for following in MOVES.values() for state in following} == set(MOVES)
