"""One alert for each budget threshold that is reached, however close together, and after a restart no other."""

from datetime import UTC, datetime, timedelta
from typing import Any

import orjson

from processors.alerts.board import Board
from processors.alerts.readings import of_events
from processors.alerts.rules import load_rules
from streams.messages import Received
from tests.events import event

T0 = datetime(2026, 11, 20, 12, tzinfo=UTC)


def message(sequence: int, *thresholds: float, budget: str = "b", at: datetime = T0, kind: str = "hit", **given: Any) -> Received:

    lines = []
    for threshold in thresholds:
        section = {
            "budget_id": budget, "scope": "tenant", "period": "day", "threshold": threshold, "limit_usd": "10", "spent_usd": "9",
        }  # fmt: skip
        one = event(
            f"budget.threshold_{kind}", budget=section, attributes={"reason": f"{budget} has reached {threshold:.0%}"} | given
        )
        one["occurred_at"] = at.isoformat()
        one["ingest"] = {"received_at": at.isoformat(), "sequence": sequence, "position": 0, "flags": []}
        lines.append(orjson.dumps(one))
    return Received("events.acme.budget", b"\n".join(lines), sequence, sequence, int(at.timestamp() * 1e9), 0, "")


def test_every_crossing_has_its_own_alert_and_the_limit_is_critical() -> None:
    board = Board(load_rules(None).rules)
    hits = message(1, 0.5, 0.8, 1.0), message(2, 0.5, budget="c"), message(3, 0.5, at=T0 + timedelta(seconds=5))
    changes = [change for hit in hits for change in board.take(of_events(hit, board.metrics), hit.sequence)]
    assert [(change.rule, change.severity, change.state) for change in changes] == [
        ("budget_crossed", "warning", "firing"), ("budget_crossed", "warning", "firing"), ("budget_exhausted", "critical", "firing"),
        ("budget_crossed", "warning", "firing"), ("budget_crossed", "warning", "firing"),
    ]  # fmt: skip
    assert len({change.alert_id for change in changes}) == 5
    assert changes[1].summary == "b has reached 80%"
    again = [change for hit in hits for change in board.take(of_events(hit, board.metrics), hit.sequence)]
    assert again == []
    ended = board.advance(T0 + timedelta(hours=2))
    assert [change.state for change in ended] == ["resolved"] * 5


def test_a_crossing_that_holds_no_longer_ends_its_own_alert_at_once_and_no_other() -> None:
    board = Board(load_rules(None).rules)
    hits = message(1, 0.8, 1.0), message(2, 0.8, budget="c")
    fired = [change for hit in hits for change in board.take(of_events(hit, board.metrics), hit.sequence)]
    ids = [str(orjson.loads(line)["event_id"]) for line in hits[0].data.split(b"\n")]
    over = message(3, 0.8, at=T0 + timedelta(seconds=5), kind="cleared", crossing=ids[0], reason="the period is over")
    [ended] = board.take(of_events(over, board.metrics), over.sequence)
    assert (ended.alert_id, ended.state, ended.at, ended.note) == (
        fired[0].alert_id,
        "resolved",
        over.stored_at,
        "the period is over",
    )
    assert board.take(of_events(over, board.metrics), over.sequence) == []
    assert board.take(of_events(hits[0], board.metrics), hits[0].sequence) == []
    assert len(board.active()) == 2
    unknown = message(4, 1.0, budget="never", kind="cleared", crossing=ids[1])
    assert board.take(of_events(unknown, board.metrics), unknown.sequence) == []
    assert [change.state for change in board.advance(T0 + timedelta(hours=2))] == ["resolved"] * 2


def test_an_end_that_names_no_crossing_ends_none_and_hides_nothing_beside_it() -> None:
    """Attributes are anybody's: a budget's event that cannot be used costs no other event of its message."""
    board = Board(load_rules(None).rules)
    hit = message(1, 0.8)
    over = message(1, 0.8, kind="cleared", crossing="that one")
    both = Received(hit.subject, over.data + b"\n" + hit.data, 1, 1, hit.stored_ns, 0, "")
    changes = board.take(of_events(both, board.metrics), 1)
    assert [(change.rule, change.state) for change in changes] == [("budget_crossed", "firing")]
