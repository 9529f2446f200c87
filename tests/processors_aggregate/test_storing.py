"""Everything on the streams becomes rows, each once, with the offsets it belongs to."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from nats.aio.client import Client

from processors.aggregate.columns import EVENTS, TABLES, Table
from schemas.alerts import AlertChange
from schemas.events import KIND_OF, AcceptedEvent
from streams.dead_letters import bury
from streams.embedded import EmbeddedServer
from streams.messages import Received
from tests.conftest import until
from tests.processors_aggregate.conftest import Running
from tests.processors_aggregate.wire import Wire, accepted, charge, line

AT = datetime(2026, 11, 20, 10, 0, 0, 123456, UTC)

FULL: dict[str, dict[str, Any]] = {
    "run.failed": {"run": {"agent_id": "a", "run_id": "r", "workflow_id": "w", "status": "failed", "duration_ms": 12.5}},
    "step.completed": {"step": {"step_id": "s", "step_type": "plan", "name": "first", "status": "completed", "latency_ms": 1.25}},
    "model_call.completed": {
        "model_call": {
            "model_call_id": "c", "provider": "openai", "model": "gpt-4o", "step_id": "s", "response_id": "resp", "operation": "chat",
            "service_tier": "default", "latency_ms": 800.5, "time_to_first_token_ms": 99.5, "finish_reason": "stop", "streamed": True,
        },
        "resource_usage": {
            "input_tokens": 1000, "output_tokens": 50, "cache_read_tokens": 600, "cache_write_tokens": 100, "reasoning_tokens": 7,
            "total_tokens": 1050, "estimated": True,
        },
        "cost": {"cost_usd": "0.000000001", "price_book_version": "theirs"},
    },
    "tool_call.failed": {
        "tool_call": {"tool_call_id": "t", "name": "search", "step_id": "s", "latency_ms": 3.5},
        "error": {"type": "Timeout", "message": "«'quoted'» \\ \n 😀", "code": "E1", "retryable": True},
    },
    "agent.heartbeat": {
        "health": {
            "status": "UNHEALTHY", "previous_status": "HEALTHY", "reason": "probe", "interval_s": 5.0, "active_faults": ["latency", "hang"],
            "checks": [{"name": "http", "kind": "http", "ok": False, "consecutive_failures": 3, "latency_ms": 1.5, "error": "refused"}],
        },
        "metrics": {"latency_ms": 1.5, "error_rate": 0.25, "requests": 2**62, "cpu_percent": 99.5, "samples": [{"name": "q", "value": 3.0, "unit": "n"}]},
        "agent": {"name": "planner", "version": "1.2.3", "pid": 4711, "started_at": "2026-11-20T09:00:00Z"},
    },
    "agent.stopped": {"agent": {"name": "planner", "exit_code": -9, "signal": "SIGKILL", "reason": "killed", "agent_type": "service"}},
    "policy.decision": {"policy": {"policy_id": "p", "decision": "block", "action": "delete", "actor": {"actor_id": "u", "actor_type": "user"}, "reason": "no"}},
    "budget.threshold_hit": {},
    "budget.threshold_cleared": {},
    "alert.emitted": {"alert": {"alert_id": "a1", "type": "cost", "severity": "critical", "threshold": 5.0, "current_value": 7.5, "sent_at": "2026-11-20T10:00:00Z", "message": "m"}},
    "fault.injected": {"fault": {"fault_id": "f", "kind": "error", "until": "2026-11-20T11:00:00.5Z", "rate": 0.5, "status_code": 503, "injected_by": "me"}},
    "evaluation.completed": {"evaluation": {"evaluation_id": "e", "evaluator": "exact", "score": 0.75, "passed": False, "label": "l", "suite": "s"}},
    "metric.sampled": {},
    "log.emitted": {"log": {"level": "warning", "message": "hello", "logger": "x"}},
}  # fmt: skip
"""One event of each kind with as many fields as it may have."""


def expected(one: AcceptedEvent, table: Table) -> dict[str, Any]:
    """The row the contract's own model of the event promises, computed without any SQL."""
    value = one.model_dump(mode="python")
    row = {}
    for column in table.columns:
        found: Any = value
        for part in column.path:
            found = None if found is None else found.get(part)
        if isinstance(found, datetime):
            found = found.replace(tzinfo=None)
        if column.type in {"checks", "samples", "texts"} and found is not None:
            found = [item if isinstance(item, str) else dict(item) for item in found]
        row[column.name] = found
    return row


@pytest.mark.parametrize("event_type", FULL)
async def test_every_kind_comes_back_as_it_was_sent(running: Running, wire: Wire, event_type: str) -> None:
    sent = accepted(
        event_type,
        at=AT,
        trace={"trace_id": "t" * 32, "span_id": "s1", "parent_span_id": "s0"},
        flags=["late"],
        **FULL[event_type],
    )
    assert {KIND_OF[known] for known in FULL} == set(EVENTS)
    await wire.events(sent)
    await running.caught_up()
    table = EVENTS[sent.kind]
    names = ", ".join(f'"{column.name}"' for column in table.columns)
    [row] = running.rows(f"SELECT {names} FROM {table.name}")
    assert dict(zip([column.name for column in table.columns], row, strict=True)) == expected(sent, table)


async def test_what_the_contract_does_not_name_and_sections_of_other_kinds_are_kept_as_attributes(
    running: Running, wire: Wire
) -> None:
    """Also a number no machine type can hold, and a text that looks like SQL."""
    sent = accepted(
        "step.completed",
        run={"agent_id": "a", "run_id": "r", "status": "running"},
        log={"level": "info", "message": "it's"},
        attributes={
            "text": "it's; DROP TABLE steps",
            "number": 10**40,
            "flag": True,
            "none": None,
            "deep": {"a": [1, {"attributes": {}}]},
        },
    )
    await wire.events(sent, accepted("step.completed"))
    await running.caught_up()
    assert running.rows(
        'SELECT key, "value", value_type FROM event_attributes WHERE event_id = ? ORDER BY key', str(sent.event_id)
    ) == [
        ("deep", '{"a": [1, {"attributes": {}}]}', "object"),
        ("flag", "true", "boolean"),
        ("log", '{"level":"info","message":"it\'s"}', "section"),
        ("none", "null", "null"),
        ("number", str(10**40), "number"),
        ("run.status", '"running"', "section"),
        ("text", "it's; DROP TABLE steps", "string"),
    ]
    assert running.rows("SELECT count(DISTINCT event_id) FROM event_attributes") == [(1,)]


async def test_the_tables_are_those_the_code_knows(running: Running) -> None:
    """A column in one place only would be lost or refused."""
    for table in TABLES:
        found = running.rows("SELECT column_name FROM duckdb_columns() WHERE table_name = ? ORDER BY column_index", table.name)
        assert {name for (name,) in found} == set(table.column_names())


@pytest.mark.parametrize(
    "at", ["1970-01-01T00:00:00Z", "2100-06-01T12:00:00.000001Z", "9999-12-31T23:59:59.999999Z", "0001-01-01T00:00:00Z"]
)
async def test_an_event_of_another_age_is_kept_to_the_microsecond(running: Running, wire: Wire, at: str) -> None:
    sent = accepted("model_call.completed", at=at)
    await wire.events(sent)
    await running.caught_up()
    assert running.rows("SELECT occurred_at FROM model_calls") == [(sent.occurred_at.replace(tzinfo=None),)]
    assert running.processor._warehouse is not None
    assert running.processor._warehouse.fold() == 1
    days = sent.occurred_at.replace(hour=0, minute=0, second=0, microsecond=0, tzinfo=None)
    assert running.rows("SELECT \"at\", events FROM rollups WHERE grain = 'day'") == [(days, 1)]


async def test_ledger_alerts_dead_letters_and_coverage_are_rows_too(running: Running, wire: Wire, client: Client) -> None:
    call = accepted("model_call.completed", at=AT)
    source = Received("telemetry.acme.a.run", b"{", 7, 1, 1_700_000_000_000_000_000, 0, "")
    await wire.events(
        call, dead=[bury(source, "TELEMETRY", b"{", processor="validate", reason="malformed_json", tenant="acme", kind="run")]
    )
    await wire.ledger(charge(call, "123456789.123456789"))
    change = AlertChange(
        change_id="c1", alert_id="a1", rule="spend", severity="critical", state="firing", tenant_id="acme", metric="cost", value=1.5,
        started_at=AT, at=AT, summary="s", labels={"team": "x", "it's": "y"},
    )  # fmt: skip
    await wire.alert(change)
    await running.caught_up()
    assert running.rows("SELECT cost_usd, unit_price_output, event_id FROM ledger") == [
        (Decimal("123456789.123456789"), "0.6000000000001", str(call.event_id))
    ]
    assert running.rows('SELECT labels, "at" FROM alert_changes') == [
        ([{"key": "team", "value": "x"}, {"key": "it's", "value": "y"}], AT.replace(tzinfo=None))
    ]
    assert running.rows("SELECT reason, source_sequence, original_bytes, events FROM dead_letters") == [
        ("malformed_json", 7, 1, 1)
    ]
    assert running.rows("SELECT processor, valid, dead FROM coverage ORDER BY processor") == [("cost", 1, 0), ("validate", 1, 1)]
    assert running.rows("SELECT stream, applied_sequence, messages FROM offsets ORDER BY stream") == [
        ("ALERTS", 1, 1), ("EVENTS", 3, 3), ("LEDGER", 2, 2),
    ]  # fmt: skip


async def test_an_unreadable_line_becomes_a_dead_letter_and_its_neighbours_rows(
    running: Running, wire: Wire, client: Client
) -> None:
    good = [accepted("tool_call.completed") for _ in range(2)]
    data = b"\n".join([line(good[0]), b'{"broken', b'{"event_id": "no uuid"}', line(good[1])])
    await client.jetstream().publish("events.acme.tool_call", data, headers={"Agentops-Events": "4"})
    await wire.events(accepted("run.started"))
    await until(lambda: running.rows("SELECT count(*) FROM dead_letters") == [(2,)], "its letters are rows as well")
    assert running.rows("SELECT count(*) FROM tool_calls") == [(2,)]
    assert running.rows("SELECT count(*) FROM runs") == [(1,)]
    assert running.rows("SELECT processor, reason, position, kind FROM dead_letters ORDER BY position") == [
        ("aggregate", "unreadable", 1, "tool_call"), ("aggregate", "unreadable", 2, "tool_call"),
    ]  # fmt: skip
    assert running.rows("SELECT events, lines, unreadable FROM applied_messages WHERE sequence = 1") == [(4, 4, 2)]


async def test_a_restart_goes_on_where_it_stopped(running: Running, wire: Wire) -> None:
    await wire.events(*(accepted("run.started", run={"agent_id": "a", "run_id": f"r{n}"}) for n in range(10)))
    await running.caught_up()
    await running.stop()
    await wire.events(*(accepted("run.completed", run={"agent_id": "a", "run_id": f"r{n}"}) for n in range(10)))
    await running.start()
    await running.caught_up()
    assert running.rows("SELECT event_type, count(DISTINCT event_id), count(*) FROM runs GROUP BY 1 ORDER BY 1") == [
        ("run.completed", 10, 10), ("run.started", 10, 10),
    ]  # fmt: skip


async def test_nats_killed_and_restarted_under_it_loses_and_doubles_nothing(
    server: EmbeddedServer, running: Running, wire: Wire
) -> None:
    await wire.events(*(accepted("run.started") for _ in range(20)))
    await running.caught_up()
    await server.kill()
    await server.start()
    await until(lambda: wire.client.is_connected, "reconnected")
    await wire.events(*(accepted("run.started") for _ in range(20)))
    await running.caught_up()
    assert running.rows("SELECT count(*), count(DISTINCT event_id) FROM runs") == [(40, 40)]


async def test_a_failed_transaction_leaves_no_trace_and_is_done_again(
    running: Running, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A crash between fetch and commit: rows, offsets, sums and account roll back together."""
    warehouse = running.processor._warehouse
    assert warehouse is not None
    monkeypatch.setattr(type(warehouse), "_move", lambda *_: (_ for _ in ()).throw(RuntimeError("crash before commit")))
    await wire.events(*(accepted("model_call.completed") for _ in range(5)))
    assert running._task is not None
    with pytest.raises(RuntimeError, match="crash before commit"):
        await running._task
    counts = "SELECT (SELECT count(*) FROM model_calls), (SELECT count(*) FROM offsets), (SELECT count(*) FROM applied_messages)"
    assert running.rows(counts) == [(0, 0, 0)]
    monkeypatch.undo()
    running._task = None
    await running.stop()
    await running.start()
    await running.caught_up()
    assert running.rows(counts) == [(5, 1, 2)]


async def test_late_events_are_counted_in_their_own_time(running: Running, wire: Wire) -> None:
    earlier = datetime.now(UTC) - timedelta(days=3)
    await wire.events(accepted("run.completed", at=earlier, flags=["late"]), accepted("run.completed"))
    await running.caught_up()
    assert running.processor._warehouse is not None
    assert running.processor._warehouse.fold() == 2
    days = running.rows("SELECT \"at\"::DATE, events, late FROM rollups WHERE grain = 'day' ORDER BY 1")
    assert days == [(earlier.date(), 1, 1), (datetime.now(UTC).date(), 1, 0)]
