"""What holds for every story an agent may tell."""

from datetime import timedelta
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from processors.health.attention import Attention, look
from processors.health.fleet import Fleet, Placed
from processors.health.judging import Changed, Limits, absence, judge
from processors.health.state import observation, unseen
from processors.health.telling import waves
from schemas.events import AcceptedEvent
from tests.processors_health.telling import at, beat, event, fault, started, stopped, traffic

LIMITS = Limits()
quickly = settings(max_examples=50, deadline=None)
seconds = st.floats(0, 300, allow_nan=False)
metrics = st.one_of(
    st.none(),
    st.builds(
        traffic,
        error_rate=st.one_of(st.none(), st.floats(0, 1)),
        latency_ms=st.one_of(st.none(), st.floats(0, 30_000)),
        requests=st.integers(0, 50),
    ),
)


@st.composite
def stories(draw: st.DrawFn) -> list[Placed]:
    """Events of two agents in the order validate stored them, with late ones among them."""
    placed, arrival = [], 0.0
    for sequence in range(1, draw(st.integers(1, 25)) + 1):
        arrival += draw(st.floats(0, 20))
        occurred = at(arrival - draw(st.one_of(st.just(0.0), st.floats(-50, 50))))
        more: dict[str, Any] = {
            "received": at(arrival),
            "sequence": sequence,
            "agent_id": draw(st.sampled_from(["a", "b"])),
        }
        kind = draw(st.sampled_from(["good", "bad", "started", "ended", "crashed", "fault"]))
        what: AcceptedEvent
        if kind in {"good", "bad"}:
            what = beat(occurred, "HEALTHY" if kind == "good" else "UNHEALTHY", metrics=draw(metrics), **more)
        elif kind == "started":
            what = started(occurred, **more)
        elif kind == "fault":
            what = fault("latency", occurred, **more)
        else:
            what = stopped(occurred, exit_code=0 if kind == "ended" else 1, **more)
        placed.append(Placed(sequence, what))
    return placed


def final(fleet: Fleet) -> dict[str, Any]:
    return {key: agent.model_copy(update={"applied": 0}) for key, agent in fleet.agents.items()}


def told(changes: list[Changed]) -> list[tuple[str, ...]]:
    return [(change.cause, change.agent.agent_id, change.agent.health, change.agent.status) for change in changes]


def read(story: list[Placed], cuts: list[int]) -> tuple[Fleet, list[Changed]]:
    fleet, changes, start = Fleet(LIMITS), [], 0
    for cut in [*sorted({min(cut, len(story)) for cut in cuts}), len(story)]:
        batch = story[start:cut]
        if batch:
            changes += fleet.read(batch, batch[-1].sequence)
        start = cut
    return fleet, changes


@quickly
@given(stories(), st.lists(st.integers(0, 25), max_size=6))
def test_the_verdict_does_not_depend_on_where_batches_are_cut(story: list[Placed], cuts: list[int]) -> None:
    whole, cut = read(story, []), read(story, cuts)
    assert final(whole[0]) == final(cut[0])
    assert told(whole[1]) == told(cut[1])


@quickly
@given(stories(), st.data())
def test_reading_again_from_any_checkpoint_on_changes_nothing(story: list[Placed], data: st.DataObject) -> None:
    """A crash between an agent's checkpoint and the position's: what was applied is read again."""
    fleet, _ = read(story, [])
    before = dict(fleet.agents)
    assert fleet.read(story[data.draw(st.integers(0, len(story))) :], story[-1].sequence) == []
    assert fleet.agents == before


@quickly
@given(stories(), st.data())
def test_changes_lost_in_a_crash_are_told_again_with_the_same_causes(story: list[Placed], data: st.DataObject) -> None:
    saved_at, crash_at = sorted(data.draw(st.tuples(st.integers(0, len(story)), st.integers(0, len(story)))))
    _, straight = read(story, [])
    first, told_first = read(story[:saved_at], [])
    again = Fleet(LIMITS)
    again.restore(first.agents.values())
    lost = Fleet(LIMITS)
    lost.restore(first.agents.values())
    told_lost = lost.read(story[saved_at:crash_at], crash_at) if crash_at > saved_at else []
    told_again = again.read(story[saved_at:], len(story)) if saved_at < len(story) else []
    assert told(told_again)[: len(told_lost)] == told(told_lost)
    assert told(told_first) + told(told_again) == told(straight)


@quickly
@given(st.floats(0.1, 60), st.lists(st.floats(0, 1), min_size=1, max_size=30), st.floats(0, 0.99))
def test_an_agent_is_never_unhealthy_while_good_heartbeats_arrive_on_time(
    interval: float, jitter: list[float], look_at: float
) -> None:
    agent, moment = None, 0.0
    for late in jitter:
        moment += interval * (1 + late)
        seen = beat(at(moment), interval_s=interval)
        agent = agent or unseen(seen)
        verdict = judge(agent, seen, LIMITS)
        assert not hasattr(verdict, "agent") or verdict.agent.health == "HEALTHY"
        agent = verdict.agent  # type: ignore[union-attr]
        assert absence(agent, at(moment + interval * 3 * look_at), at(0), LIMITS) is None


@quickly
@given(stories())
def test_every_unhealthy_spell_knows_when_it_began_and_every_state_can_be_written(story: list[Placed]) -> None:
    fleet = Fleet(LIMITS)
    for placed in story:
        fleet.read([placed], placed.sequence)
        for agent in fleet.agents.values():
            shown = observation(agent)
            assert type(agent).model_validate_json(agent.model_dump_json(exclude_none=True)) == agent
            assert (shown.health != "UNHEALTHY") or shown.began_at is not None
            assert shown.began_at is None or shown.health != "HEALTHY"
            assert agent.newest is None or agent.newest <= max(each.event.ingest.received_at for each in story)


@given(st.lists(st.tuples(st.floats(0, 3), st.booleans(), st.booleans(), st.booleans()), max_size=40))
@settings(max_examples=200)
def test_attention_lasts_only_while_everything_is_heard(looks: list[tuple[float, bool, bool, bool]]) -> None:
    attention, moment, reconnects, unbroken = Attention(), 0.0, 0, None
    for gap, caught_up, connected, reconnected in looks:
        moment += gap
        reconnects += reconnected
        heard = caught_up and connected
        broken = not heard or reconnected or gap > 2
        unbroken = None if not heard else moment if broken or unbroken is None else unbroken
        attention = look(attention, at(moment), caught_up=caught_up, connected=connected, reconnects=reconnects)
        if attention.since is None:
            assert not heard
        else:
            assert unbroken is not None
            assert abs(attention.since - at(unbroken)) < timedelta(milliseconds=1)


def test_other_events_are_left_aside() -> None:
    fleet = Fleet(LIMITS)
    assert fleet.read([Placed(1, event("agent.status_changed", at(0)))], 1) == []
    assert fleet.agents == {}


def test_a_fleet_beyond_its_bound_counts_what_it_leaves_aside() -> None:
    fleet = Fleet(LIMITS, most=1)
    fleet.read([Placed(1, beat(at(0))), Placed(1, beat(at(0), agent_id="b"))], 1)
    assert (len(fleet.agents), fleet.left_aside) == (1, 1)


@quickly
@given(stories(), st.lists(st.tuples(st.integers(0, 25), seconds), max_size=8), seconds)
def test_looking_only_when_somebody_may_be_silent_too_long_misses_nobody(
    story: list[Placed], looks: list[tuple[int, float]], attentive: float
) -> None:
    """However often it was looked before, who is silent is who would be found by looking at everybody."""
    fleet = Fleet(LIMITS)
    for number, placed in enumerate(story):
        fleet.read([placed], placed.sequence)
        for _, later in (each for each in looks if each[0] == number):
            now = placed.event.ingest.received_at + timedelta(seconds=later)
            every = [key for key, agent in fleet.agents.items() if absence(agent, now, at(attentive), LIMITS) is not None]
            assert sorted(fleet.silent(now, at(attentive))) == sorted(every)


@given(st.lists(st.sampled_from("abcd"), max_size=30), st.integers(1, 5))
def test_changes_are_told_together_but_never_two_of_one_agent(agents: list[str], most: int) -> None:
    """Whatever is told at once may arrive in any order; an agent's own changes keep theirs."""
    changes = [Changed(unseen(beat(at(n), agent_id=agent)), None, None, at(n), str(n)) for n, agent in enumerate(agents)]
    found = list(waves(changes, most))
    assert [change for wave in found for change in wave] == changes
    assert all(1 <= len(wave) <= most for wave in found)
    assert all(len({change.agent.agent_id for change in wave}) == len(wave) for wave in found)
