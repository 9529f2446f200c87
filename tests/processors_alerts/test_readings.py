"""What is read without being validated again is what the contract would read."""

import time
from datetime import timedelta
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.alerts.metrics import Metric, Scope
from processors.alerts.readings import FRESH_FOR, Reading, of_events, of_ledger
from schemas.events import AcceptedEvent
from streams.messages import Received
from tests.events import event

NOW_NS = time.time_ns()
WANTED: frozenset[Metric] = frozenset({"latency_ms", "error_rate", "spool_dropped", "memory_rss_bytes"})
BY_TENANT: frozenset[tuple[Metric, Scope]] = frozenset({("spend_usd", "tenant"), ("unpriced_model_calls", "tenant")})
BY_BOTH: frozenset[tuple[Metric, Scope]] = frozenset({*BY_TENANT, ("spend_usd", "agent")})


def stored(subject: str, rows: list[dict[str, Any]]) -> Received:
    return Received(subject, b"\n".join(map(orjson.dumps, rows)), 7, 1, NOW_NS, 0, "")


@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "agent_id": st.sampled_from(["a", "b"]),
                "reason": st.sampled_from(["priced", "priced", "priced", "unpriced"]),
                "cost_usd": st.decimals(-10, 10, places=9).map(lambda cost: format(cost, "f")),
            },
            optional={
                "client_cost_usd": st.just("99.9"),
                "note": st.sampled_from(['"cost_usd":"5"', '\\"cost_usd":"5"', '{"cost_usd":"5"}', '"reason":"unpriced"', "a\nb", "ends in \\"]),
                "unit_prices": st.just({"input": "2"}),
            },
        ),
        max_size=6,
    )
)  # fmt: skip
def test_amounts_found_by_their_mark_are_those_of_the_entries(rows: list[dict[str, Any]]) -> None:
    """Whatever notes and names say, a tenant's spend and unpriced calls are as when every entry is read."""
    entries = [{"tenant_id": "acme", "provider": "openai", "model": "gpt-4o", **row} for row in rows]
    message = stored("ledger.acme", entries)
    # Where a rule asks by agent, every entry is read.
    whole = [reading for reading in of_ledger(message, BY_BOTH) if reading.scope == "tenant"]
    assert list(of_ledger(message, BY_TENANT)) == whole
    spent = sum(float(row["cost_usd"]) for row in rows)
    assert [reading.measurement.value for reading in whole if reading.metric == "spend_usd"] == ([spent] if spent else [])


@given(
    metrics=st.none() | st.dictionaries(
        st.sampled_from(["latency_ms", "error_rate", "spool_dropped", "memory_rss_bytes", "cpu_percent"]), st.integers(0, 1) | st.none()
    ),
    interval=st.sampled_from([None, 0.5, 5.0, 60.0]),
    offset=st.integers(-5, 5),
)  # fmt: skip
def test_a_heartbeat_measures_what_the_contract_reads_in_it(
    metrics: dict[str, int | None] | None, interval: float | None, offset: int
) -> None:
    """Value, moment and freshness, with what is absent left out."""
    received_at = "2026-01-31T12:00:05Z"
    made = event(
        "agent.heartbeat", metrics=metrics, occurred_at=f"2026-01-31T12:00:{5 + offset:02d}.5Z",
        health={"status": "HEALTHY", "interval_s": interval}, ingest={"received_at": received_at, "sequence": 1, "position": 0},
    )  # fmt: skip
    read = AcceptedEvent.model_validate_json(orjson.dumps(made))
    line = read.model_dump_json(exclude_none=True).encode()
    message = Received("events.acme.heartbeat", line, 7, 1, NOW_NS, 0, "")
    found = {reading.metric: reading for reading in of_events(message, WANTED) if isinstance(reading, Reading)}
    assert set(found) == {name for name in WANTED if read.metrics is not None and getattr(read.metrics, name) is not None}
    for name, reading in found.items():
        measured = reading.measurement
        assert (reading.tenant_id, reading.agent_id, measured.cause) == ("acme", "planner", str(read.event_id))
        assert measured.value == getattr(read.metrics, name)
        assert measured.occurred_at == min(read.occurred_at, read.ingest.received_at)
        assert measured.fresh_for == max(FRESH_FOR, timedelta(seconds=3 * (interval or 0.0)))


def test_what_is_no_heartbeat_is_refused() -> None:
    """As a ValueError, which is told with its message."""
    with pytest.raises(ValueError, match="not a heartbeat"):
        list(of_events(stored("events.acme.heartbeat", [{"metrics": {"latency_ms": 1}}]), WANTED))
