"""The page model: what the page shows of what it was told."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboard.model import warehouse
from dashboard.model.agents import AgentParts, card
from dashboard.model.alerts import AlertBoard
from dashboard.model.fleet import Fleet
from dashboard.model.page import Link, PageModel
from dashboard.model.traffic import LatencyTrail, Traffic, traffic, weighted_percentile
from schemas.alerts import Acknowledgement, AlertChange
from schemas.budgets import BudgetsPage
from schemas.sections import Check
from schemas.state import AgentRecord, AgentState, FaultSet, Observation
from tests.dashboard.things import (
    NOW_MS,
    START,
    change,
    definition,
    faults,
    flag,
    incident,
    metrics,
    observation,
    record,
    standing,
    state,
)

KEY = "demo.chat-service"


def shown(**parts: Any) -> dict[str, Any]:
    return card(AgentParts("demo", "chat-service", **parts), NOW_MS)


def test_a_card_shows_what_was_measured() -> None:
    view = shown(record=record(), state=state(), observation=observation())
    assert view["name"] == "Chat Service"
    assert view["health"] == "HEALTHY"
    assert view["latency"] == 212.0
    assert view["error_rate"] == 0.0
    assert view["memory"] == 61_000_000


@pytest.mark.parametrize(
    ("parts", "head"),
    [
        ({}, "UNKNOWN"),
        ({"state": state(status="starting")}, "STARTING"),
        ({"state": state(status="error")}, "ERROR"),
        ({"state": state(desired="stopped", status="stopped"), "observation": observation()}, "STOPPED"),
        ({"observation": observation(status="stopped")}, "STOPPED"),
        ({"state": state(), "observation": observation(health="UNHEALTHY", status="stopped")}, "UNHEALTHY"),
        ({"state": state(status="starting"), "observation": observation(health="RECOVERING")}, "RECOVERING"),
        ({"state": state(status="error"), "observation": observation()}, "ERROR"),
    ],
)
def test_the_headline_is_health_unless_stopping_or_starting_says_more(parts: dict[str, Any], head: str) -> None:
    assert shown(**parts)["health"] == head


def test_the_reason_is_shown_only_while_something_is_wrong() -> None:
    assert shown(observation=observation(reason="2 good heartbeats"))["reason"] == ""
    assert shown(observation=observation(health="UNHEALTHY", reason="3 heartbeats missed"))["reason"] == "3 heartbeats missed"


def test_failing_probes_are_named() -> None:
    checks = (Check(name="http", kind="http", ok=False, error="timeout"), Check(name="tcp", kind="tcp", ok=True))
    assert shown(observation=observation(checks=checks))["failing"] == [{"name": "http", "error": "timeout"}]


def actions(**parts: Any) -> set[str]:
    return {name for name, allowed in shown(**parts)["actions"].items() if allowed}


def test_a_healthy_agent_can_be_broken_stopped_and_restarted() -> None:
    assert actions(state=state(), observation=observation()) == {"inject", "stop", "restart", "healing"}


def test_a_faulty_agent_can_be_cleared_and_recovered() -> None:
    assert {"clear", "recover"} <= actions(state=state(), observation=observation(), faults=faults())


def test_an_unhealthy_agent_can_be_recovered() -> None:
    assert "recover" in actions(state=state(), observation=observation(health="UNHEALTHY"))


def test_a_stopped_agent_can_only_be_started() -> None:
    stopped = state(desired="stopped", status="stopped")
    assert actions(state=stopped, observation=observation(status="stopped")) == {"start", "healing"}


def test_an_agent_without_a_manager_takes_no_orders() -> None:
    assert actions(observation=observation()) == set()


def test_a_fault_says_what_it_does_and_whether_it_is_in_force() -> None:
    asked = shown(observation=observation(), faults=faults())["faults"]
    assert asked == [{"kind": "latency", "label": "+2,500 ms", "until": NOW_MS + 300_000, "applied": False}]
    told = shown(observation=observation(active_faults=("latency",)), faults=faults())["faults"]
    assert told[0]["applied"]
    rate = faults(kind="error", latency_ms=None, rate=1.0)
    assert shown(faults=rate, observation=observation())["faults"][0]["label"] == "100 % errors"
    of_models = faults(kind="model_rate_limit", latency_ms=None, rate=0.5)
    assert shown(faults=of_models, observation=observation())["faults"][0]["label"] == "model: 429, 50 %"


def test_a_fault_the_sidecar_still_reports_is_shown_as_ending() -> None:
    view = shown(observation=observation(active_faults=("hang",)))
    assert view["faults"] == [{"kind": "hang", "label": "hang", "until": None, "applied": True}]


def test_the_latest_incident_shows_time_to_detect_and_to_recover() -> None:
    told = shown(state=state(incident=incident()))["incident"]
    assert (told["ttd"], told["ttr"]) == (3.2, 11.0)


def test_an_agent_given_up_on_comes_first_and_is_red() -> None:
    view = shown(state=state(gave_up=True), observation=observation(health="RECOVERING"))
    assert (view["rank"], view["tone"]) == (0, "bad")


def fleet(*observations: Observation) -> Fleet:
    made = Fleet()
    for one in observations:
        made.put(f"{one.tenant_id}.{one.agent_id}", Observation, one)
    return made


def test_cards_come_worst_first() -> None:
    made = fleet(observation("a"), observation("b", health="RECOVERING"), observation("c", health="UNHEALTHY"), observation("d"))
    made.put("demo.d", FaultSet, faults("d"))
    assert [view["id"] for view in made.cards(NOW_MS)] == ["c", "b", "d", "a"]


def test_only_changed_cards_are_shown_again() -> None:
    made = fleet(observation("a"), observation("b"))
    made.take_changes(NOW_MS)
    made.put("demo.b", AgentState, state("b"))
    assert [view["id"] for view in made.take_changes(NOW_MS)[0]] == ["b"]
    assert made.take_changes(NOW_MS) == ([], [])


def test_an_agent_nobody_knows_any_more_is_taken_away() -> None:
    made = fleet(observation("a"))
    made.put("demo.a", AgentRecord, record("a"))
    made.take_changes(NOW_MS)
    made.put("demo.a", Observation, None)
    assert made.take_changes(NOW_MS)[1] == []
    made.put("demo.a", AgentRecord, None)
    assert made.take_changes(NOW_MS) == ([], ["demo.a"])
    assert made.counts()["total"] == 0


def test_a_fault_that_runs_out_changes_the_card_by_itself() -> None:
    made = fleet(observation("a"))
    made.put("demo.a", FaultSet, faults("a", for_s=10))
    made.take_changes(NOW_MS)
    made.expire(NOW_MS + 9_000)
    assert made.take_changes(NOW_MS + 9_000)[0] == []
    made.expire(NOW_MS + 10_001)
    (view,), _ = made.take_changes(NOW_MS + 10_001)
    assert view["faults"] == []


def test_the_same_observation_twice_is_one_point_of_the_line() -> None:
    made = fleet(observation("a"), observation("a"), observation("a", START + timedelta(seconds=5)))
    assert made.cards(NOW_MS)[0]["history"] == [212, 212]


def test_agents_only_the_warehouse_remembers_get_no_card() -> None:
    made = fleet(observation("a"))
    made.use([{"tenant_id": "demo", "agent_id": "a", "cost_usd_24h": "1.5"}, {"tenant_id": "demo", "agent_id": "old"}])
    assert [(view["id"], view["cost"]) for view in made.cards(NOW_MS)] == [("a", "1.5")]


def test_an_overdue_agent_no_longer_counts_as_traffic() -> None:
    made = fleet(observation("a"), observation("b", START - timedelta(seconds=60)))
    assert [one.agent_id for one in made.measured(NOW_MS)] == ["a"]


def test_traffic_weighs_agents_by_their_requests() -> None:
    busy = observation("a", metrics=metrics(latency_ms=100.0, latency_p95_ms=200.0, requests=90, error_rate=0.0))
    slow = observation("b", metrics=metrics(latency_ms=1100.0, latency_p95_ms=2000.0, requests=10, error_rate=1.0))
    assert traffic([busy, slow]) == Traffic(mean_ms=200.0, p95_ms=2000.0, error_rate=0.1, requests_per_s=8.4)
    assert traffic([]) == Traffic(None, None, None, 0.0)


@given(st.lists(st.tuples(st.floats(0, 1e6), st.integers(1, 100)), min_size=1), st.floats(0.01, 1.0))
def test_a_weighted_percentile_has_its_share_below_it(values: list[tuple[float, int]], share: float) -> None:
    found = weighted_percentile(values, share)
    assert found is not None
    total = sum(weight for _, weight in values)
    assert sum(weight for value, weight in values if value <= found) >= share * total - 1e-6
    assert sum(weight for value, weight in values if value < found) < share * total + 1e-6


def test_the_latency_line_has_one_point_a_second_and_five_minutes() -> None:
    trail = LatencyTrail()
    for tenth in range(4000):
        trail.note(NOW_MS + tenth * 100, Traffic(1.0, 2.0, 0.0, 1.0))
    assert len(trail.points) == 300
    assert len(trail.take_fresh()) == 300
    assert trail.take_fresh() == []


def test_an_alert_is_one_row_from_firing_to_resolved() -> None:
    board = AlertBoard()
    board.take(change())
    assert [row["state"] for row in board.rows()] == ["firing"]
    assert board.firing() == 1
    board.take(change(state="resolved", at=START + timedelta(seconds=9), started_at=START))
    assert [row["state"] for row in board.rows()] == ["resolved"]
    assert board.firing() == 0


def test_an_acknowledgement_in_the_bucket_shows_before_the_alert_says_so() -> None:
    board = AlertBoard()
    board.take(change(alert_id="a1"))
    board.acknowledge("a1", Acknowledgement(alert_id="a1", by="eva", at=START))
    (row,) = board.rows()
    assert (row["state"], row["by"]) == ("acknowledged", "eva")
    assert board.firing() == 0


def test_an_alert_that_comes_back_is_the_same_row_counted_twice() -> None:
    board = AlertBoard()
    board.take(change(alert_id="a1"))
    board.take(change(alert_id="a1", state="resolved", at=START + timedelta(seconds=5)))
    board.take(change(alert_id="a2", at=START + timedelta(seconds=60)))
    (row,) = board.rows()
    assert (row["state"], row["episodes"], row["id"]) == ("firing", 2, "a2")


def _changes() -> list[AlertChange]:
    return [
        change(alert_id="a1"),
        change(alert_id="a1", state="acknowledged", at=START + timedelta(seconds=3)),
        change(alert_id="a1", state="resolved", at=START + timedelta(seconds=5)),
        change(alert_id="a2", at=START + timedelta(seconds=60)),
        change("spend", "b", alert_id="s1", severity="warning"),
    ]


@given(st.permutations(_changes()), st.lists(st.sampled_from(_changes()), max_size=5))
def test_alert_changes_in_any_order_and_repeated_show_the_same_rows(order: list[AlertChange], again: list[AlertChange]) -> None:
    board, straight = AlertBoard(), AlertBoard()
    for one in [*order, *again]:
        board.take(one)
    for one in _changes():
        straight.take(one)
    assert board.rows() == straight.rows()


def test_throughput_is_a_mean_without_holes_and_without_the_seconds_still_filling_up() -> None:
    at = datetime(2026, 11, 20, 12, 0, 0, tzinfo=UTC)
    rows = [{"at": (at - timedelta(seconds=5)).isoformat(), "value": 7}, {"at": at.isoformat(), "value": 1000}]
    line = warehouse.per_second(rows, NOW_MS + 400)
    assert [point[0] for point in line] == [NOW_MS - 2000 - 1000 * ago for ago in range(299, -1, -1)]
    assert [value for _, value in line[-5:]] == [0.0, 0.7, 0.7, 0.7, 0.7]


def test_money_is_added_exactly() -> None:
    used = warehouse.usage(
        [{"cost_usd_24h": "0.100000001", "runs_24h": 1}, {"cost_usd_24h": "0.200000002"}, {"cost_usd_24h": None}]
    )
    assert used.cost_usd == Decimal("0.300000003")


def test_small_spenders_are_shown_as_one() -> None:
    rows = [{"model": f"m{k}", "cost_usd": str(20 - k), "entries": 2} for k in range(12)]
    found = warehouse.spend(rows, "model")
    assert [one["label"] for one in found][-1] == "4 more"
    assert found[-1]["cost"] == "42"
    assert found[-1]["calls"] == 8


def test_a_fresh_page_model_says_it_is_connecting() -> None:
    view = PageModel().snapshot(NOW_MS)
    assert view["link"]["state"] == "connecting"
    assert not view["link"]["loaded"]
    assert view["cards"] == []


def test_a_warehouse_that_falls_silent_leaves_its_last_answer_standing() -> None:
    page = PageModel()
    page.answer("fleet", ({"tenant_id": "demo", "agent_id": "a", "runs_24h": 3, "cost_usd_24h": "1"},), NOW_MS)
    page.frame(NOW_MS)
    page.silence("no answer within 3 s", NOW_MS + 1000)
    frame = page.frame(NOW_MS + 1000)
    assert frame["warehouse"] == {"state": "silent", "since": NOW_MS + 1000, "message": "no answer within 3 s"}
    assert page.snapshot(NOW_MS + 1000)["figures"]["runs"] == 3


def test_an_answer_that_says_the_same_is_not_shown_again() -> None:
    page = PageModel()
    row = {"occurred_at": START.isoformat(), "agent_id": "a", "error_type": "E"}
    page.answer("failures", (row,), NOW_MS)
    assert "failures" in page.frame(NOW_MS)
    page.answer("failures", (row,), NOW_MS)
    assert not page.dirty


_VALUES = st.sampled_from(
    [
        (Observation, observation()),
        (Observation, observation(health="UNHEALTHY", at=START + timedelta(seconds=1))),
        (Observation, None),
        (AgentState, state()),
        (AgentState, state(desired="stopped", status="stopped")),
        (AgentState, None),
        (AgentRecord, record()),
        (AgentRecord, None),
        (FaultSet, faults()),
        (FaultSet, None),
    ]
)
_STEPS = st.one_of(
    st.tuples(st.just("put"), st.sampled_from([KEY, "demo.b", "other.b"]), _VALUES),
    st.tuples(st.just("alert"), st.sampled_from(_changes()), st.none()),
    st.tuples(st.just("spent"), st.sampled_from(["5", "20", "25"]), st.none()),
    st.tuples(st.just("refuse"), st.sampled_from([flag(), None]), st.none()),
    st.tuples(st.just("link"), st.sampled_from(["live", "away"]), st.none()),
    st.tuples(st.just("frame"), st.none(), st.none()),
)


@given(st.lists(_STEPS, max_size=40))
def test_a_tab_that_got_every_frame_shows_what_a_fresh_one_would(steps: list[tuple[str, Any, Any]]) -> None:
    page = PageModel()
    tab: dict[str, Any] = {**page.snapshot(NOW_MS)}
    cards = {view["key"]: view for view in tab.pop("cards")}

    def draw() -> None:
        frame = page.frame(NOW_MS)
        for key in frame.pop("gone", ()):
            cards.pop(key, None)
        for view in frame.pop("cards", ()):
            cards[view["key"]] = view
        tab.update(frame)

    for kind, one, two in steps:
        match kind:
            case "put":
                page.fleet.put(one, *two)
            case "alert":
                page.alerts.take(one)
            case "spent":
                page.budgets.define("demo.team-a", definition())
                page.budgets.stand(BudgetsPage(budgets=(standing(one),), as_of=START, ledger_sequence=7), NOW_MS)
            case "refuse":
                page.budgets.flag("demo.team-a", one)
            case "link":
                page.connect(Link(one, NOW_MS))
            case _:
                draw()
    draw()
    fresh = page.snapshot(NOW_MS)
    assert sorted(cards.values(), key=lambda view: str(view["key"])) == sorted(fresh["cards"], key=lambda view: str(view["key"]))
    for name in ("link", "alerts", "budgets", "figures"):
        assert tab[name] == fresh[name]
