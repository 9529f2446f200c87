"""Drills: files judged by field, conditions and scores decided without a world, reports that show everything."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from agent_manager.drills import plan
from agent_manager.drills.conditions import Holds, Not, Sight, met, unhealthy_share
from agent_manager.drills.page import page
from agent_manager.drills.plan import Condition, DrillError, parse
from agent_manager.drills.score import Line, Report, wrong_restarts
from schemas.alerts import AlertChange
from schemas.state import AgentState, Incident, Observation

NOW = datetime(2026, 11, 1, tzinfo=UTC)
KEY = "acme.one"


def observation(agent: str = "one", **more: Any) -> Observation:
    values: dict[str, Any] = {"health": "HEALTHY", "status": "running", "since": NOW, "updated_at": NOW}
    return Observation(agent_id=agent, tenant_id="acme", **(values | more))


def state(**more: Any) -> AgentState:
    values: dict[str, Any] = {"desired": "running", "status": "running", "version": "1", "updated_at": NOW}
    return AgentState(agent_id="one", tenant_id="acme", **(values | more))


def sight(seen: Observation | None = None, kept: AgentState | None = None, *alerts: AlertChange) -> Sight:
    return Sight((KEY,), {KEY: seen} if seen else {}, {KEY: kept} if kept else {}, alerts, NOW)


def alert(at: datetime) -> AlertChange:
    return AlertChange(
        change_id="c", alert_id="a", rule="agent_unhealthy", severity="critical", state="firing", tenant_id="acme", agent_id="one",
        metric="agent_unhealthy", started_at=at, at=at, summary="x",
    )  # fmt: skip


def test_the_drills_that_come_along_can_be_read() -> None:
    found = plan.load("builtin/all")
    assert {one.name for one in found} == set(plan.builtin()) >= {"crash", "hang", "latency", "heartbeat-loss"}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("name: x\nsteps: []", "steps"),
        ("name: x\nsteps: [{inject: {fault: quake}}]", "steps[0].inject.fault"),
        ("name: x\nsteps: [{pause: 5s, clear: all}]", "name one of inject"),
        ("name: x\nsteps: [{expect: {within: 5s}}]", "name one condition"),
        ("name: x\nsteps: [{pause: soon}]", "is not a duration"),
        ("name: x\nstep: []\nsteps: [{pause: 1}]", "step"),
        ("- a", "must be keys and values"),
        ("a: [", "is not YAML"),
    ],
)
def test_what_is_wrong_with_a_drill_is_told_by_field(text: str, told: str) -> None:
    with pytest.raises(DrillError) as caught:
        parse(text, "mine.yaml")
    assert told in str(caught.value)
    assert "mine.yaml" in str(caught.value)


def test_a_drill_that_does_not_exist_is_answered_with_those_that_do() -> None:
    with pytest.raises(DrillError, match="builtin/crash"):
        plan.load("builtin/nothing")


def test_healed_means_noticed_after_the_injection_and_over() -> None:
    healed = Condition(healed=True)
    incident = Incident(began_at=NOW, detected_at=NOW + timedelta(seconds=1), reason="killed")
    assert met(healed, sight(observation(), state())) == Not("one: no trouble was noticed")
    assert met(healed, sight(observation(), state(incident=incident))) == Not("one: not over yet: killed")
    over = incident.model_copy(update={"recovered_at": NOW + timedelta(seconds=3)})
    assert met(healed, sight(observation(), state(incident=over))) == Holds()
    earlier = over.model_copy(update={"detected_at": NOW - timedelta(seconds=1)})
    assert isinstance(met(healed, sight(observation(), state(incident=earlier))), Not)


def test_an_alert_counts_only_when_it_fires_after_the_injection() -> None:
    wanted = Condition(alert="agent_unhealthy")
    assert isinstance(met(wanted, sight(observation(), None, alert(NOW - timedelta(seconds=1)))), Not)
    assert met(wanted, sight(observation(), None, alert(NOW + timedelta(seconds=1)))) == Holds()


def test_faults_count_as_the_sidecar_tells_them() -> None:
    seen = observation(active_faults=("latency",))
    assert met(Condition(fault="latency"), sight(seen)) == Holds()
    assert met(Condition(no_fault=True), sight(seen)) == Not("one: latency in force")
    assert met(Condition(no_fault=True), sight(observation())) == Holds()
    assert met(Condition(health="HEALTHY"), sight()) == Not("one: it was not heard of")


def test_only_restarts_of_others_are_wrong_and_only_others_count_for_the_fleet() -> None:
    assert wrong_restarts({"a": 1, KEY: 0}, {"a": 3, KEY: 5, "new": 2}, [KEY]) == {"a": 2}
    fleet = {KEY: observation(health="UNHEALTHY"), "acme.two": observation("two", health="UNHEALTHY"), "acme.3": observation("3")}
    assert unhealthy_share(fleet, [KEY]) == 0.5


def test_a_report_passes_only_when_everything_that_counts_held_and_its_page_shows_strangers_words_as_words() -> None:
    lines = (
        Line("inject crash", "done"),
        Line("expect it is healed", "passed", 1.5, 30),
        Line("no event lost", "failed", message="<script>"),
    )
    report = Report("crash", "a & b", ("one",), NOW, NOW + timedelta(seconds=9), lines)
    assert (report.passed, report.score) == (False, 50)
    shown = page([report])
    assert "&lt;script&gt;" in shown
    assert "<script>" not in shown
    assert "50 %" in shown
    good = Report("crash", "", ("one",), NOW, NOW, lines[:2])
    assert (good.passed, good.score) == (True, 100)
    assert not Report("crash", "", ("one",), NOW, NOW, lines[:2], aborted="too long").passed
