"""One alert for each budget threshold that is reached, however close together, and after a restart no other."""

from datetime import UTC, datetime, timedelta
from typing import Any

from processors.alerts.board import Board
from processors.alerts.readings import of_events
from processors.alerts.rules import load_rules
from streams.messages import Received
from tests.events import event

T0 = datetime(2026, 11, 20, 12, tzinfo=UTC)


def message(sequence: int, *thresholds: float, budget: str = "b", at: datetime = T0, **given: Any) -> Received:
    import orjson

    lines = []
    for threshold in thresholds:
        section = {
            "budget_id": budget, "scope": "tenant", "period": "day", "threshold": threshold, "limit_usd": "10", "spent_usd": "9",
        }  # fmt: skip
        one = event(
            "budget.threshold_hit", budget=section, attributes={"reason": f"{budget} has reached {threshold:.0%}"} | given
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
