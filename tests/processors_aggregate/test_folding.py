"""Folding at any moment changes no answer: what the sums say is what the rows say."""

import shutil
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from processors.aggregate import migrating
from processors.aggregate.answering import Deadline, answer
from processors.aggregate.batches import compose
from processors.aggregate.remembering import Remembered
from processors.aggregate.warehouse import Warehouse
from schemas.events import AcceptedEvent
from schemas.ledger import LedgerEntry
from streams import subjects, topology
from streams.messages import Received
from tests.processors_aggregate.wire import accepted, charge, line

NOW = datetime(2026, 11, 20, 12, 20, 30, 123456, tzinfo=UTC)
Item = AcceptedEvent | LedgerEntry

# Around now, around the beginning of the last 24 hours, at whole hours and days to the microsecond, and long ago.
moments = st.one_of(
    st.integers(0, 3 * 86_400_000_000).map(lambda us: NOW + timedelta(hours=2) - timedelta(microseconds=us)),
    st.tuples(st.integers(-1, 1), st.integers(-2, 60)).map(
        lambda edge: NOW.replace(minute=0, second=0, microsecond=0) - timedelta(hours=edge[1]) + timedelta(microseconds=edge[0])
    ),
    st.sampled_from([NOW, NOW - timedelta(hours=24), datetime(1970, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)]),
)  # fmt: skip
latencies = st.one_of(st.none(), st.sampled_from([0.0, 0.001, 1.0, 1.04]), st.floats(0, 1e7))
agents = st.sampled_from(["a", "b", "an-agent-with-a-long-name"])


@st.composite
def items(draw: st.DrawFn) -> tuple[Item, ...]:
    """An event, with its ledger entry where it is billed."""
    tenant, agent, at = draw(st.sampled_from(["acme", "other"])), draw(agents), draw(moments)
    kind = draw(
        st.sampled_from(
            ["run.started", "run.completed", "run.failed", "model_call.completed", "tool_call.failed", "agent.heartbeat", "agent.started", "log.emitted"]
        )
    )  # fmt: skip
    run: dict[str, Any] = {"agent_id": agent, "run_id": "r", "workflow_id": draw(st.sampled_from(["w", "v"]))}
    more: dict[str, Any] = {}
    latency = draw(latencies)
    if kind.startswith("run.") and kind != "run.started" and latency is not None:
        run["duration_ms"] = latency
    if kind == "model_call.completed":
        call = {"model_call_id": "c", "provider": "openai", "model": draw(st.sampled_from(["m", "n"]))}
        more["model_call"] = call | ({} if latency is None else {"latency_ms": latency})
        sent = draw(st.integers(0, 10**12))
        more["resource_usage"] = {"input_tokens": sent, "output_tokens": 3, "cache_read_tokens": sent // 2}
    if kind.startswith("agent."):
        more["agent"] = {"name": draw(st.sampled_from(["N", "M"])), "version": draw(st.sampled_from(["1", "2"]))}
        more["agent"] |= {"status": "running"} if kind == "agent.started" else {}
    received = draw(st.sampled_from([at, min(at, NOW)]))
    made = accepted(kind, tenant=tenant, at=at, received=received, run=run, **more)
    if kind != "model_call.completed":
        return (made,)
    cost = f"{draw(st.integers(0, 10**12))}e-9"
    entry = charge(made, cost, reason=draw(st.sampled_from(["priced", "unpriced"])))
    if not draw(st.booleans()):
        return made, entry
    back = entry.model_copy(update={"entry_id": "back", "kind": "reversal", "reason": "correction", "cost_usd": -entry.cost_usd})
    return made, entry, back


def store(warehouse: Warehouse, several: Sequence[Item], sequence: int) -> None:
    """Each in a message of its own, all in one transaction."""
    messages: dict[str, list[Received]] = {topology.EVENTS: [], topology.LEDGER: []}
    for number, one in enumerate(several):
        if isinstance(one, AcceptedEvent):
            stream, subject, data = topology.EVENTS, subjects.events(one.tenant.tenant_id, one.kind), line(one)
        else:
            stream, subject = topology.LEDGER, subjects.ledger(one.tenant_id)
            data = one.model_dump_json(exclude_none=True).encode()
        messages[stream].append(Received(subject, data, sequence + number, 1, 0, 0, ""))
    batch = compose({stream: each for stream, each in messages.items() if each})
    assert batch.unreadable == ()
    warehouse.apply(batch, dict.fromkeys(messages, NOW), NOW)


QUESTIONS: list[tuple[str, dict[str, Any]]] = [
    ("fleet", {"limit": 100}),
    ("fleet", {"tenant": "acme"}),
    *(("spend", {"by": by, "limit": 5000}) for by in ([], ["day"], ["agent", "hour"], ["tenant"], ["model"], ["workflow", "day"])),
    *(
        ("timeseries", {"metric": metric, "bucket": bucket, "since": (NOW - timedelta(days=2)).isoformat(), "limit": 5000})
        for metric in ("events", "cost", "latency")
        for bucket in ("day",)
    ),
]  # fmt: skip


def said(warehouse: Warehouse, name: str, parameters: dict[str, Any]) -> Any:
    reply = answer(warehouse, name, orjson.dumps(parameters), now=NOW, deadline=Deadline(30), most_bytes=10**7)
    assert not reply.failed, (name, parameters, reply.data)
    return orjson.loads(reply.data)["rows"]


def afresh(warehouse: Warehouse, name: str, parameters: dict[str, Any]) -> Any:
    """What is said where nothing was asked before."""
    warehouse.remembered = Remembered()
    return said(warehouse, name, parameters)


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("empty") / "w.duckdb"
    Warehouse.open(path, NOW).close()
    return path


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    portions=st.lists(st.tuples(st.lists(items(), min_size=1, max_size=8), st.booleans()), min_size=1, max_size=4),
    ranges=st.lists(st.tuples(moments, moments).map(sorted), min_size=2, max_size=4),
)
def test_folding_at_any_moment_changes_no_answer(
    empty: Path, tmp_path: Path, portions: list[tuple[list[tuple[Item, ...]], bool]], ranges: list[list[datetime]]
) -> None:
    """One warehouse folds now and then, the other never: it answers from the rows alone."""
    opened: list[Warehouse] = []
    for name in ("folding", "rows"):
        path = tmp_path / f"{name}.duckdb"
        path.with_suffix(".duckdb.wal").unlink(missing_ok=True)
        shutil.copyfile(empty, path)
        opened.append(Warehouse.open(path, NOW))
    folding, rows = opened
    try:
        sequence = 1
        for several, fold in portions:
            flat = [one for each in several for one in each]
            for warehouse in opened:
                store(warehouse, flat, sequence)
            sequence += len(flat)
            # What is read once for a question and kept is right however often it is asked, before and after folding.
            for _ in range(2):
                assert said(folding, "fleet", {"limit": 100}) == afresh(rows, "fleet", {"limit": 100})
            if fold:
                folding.fold()
                assert said(folding, "fleet", {"limit": 100}) == said(rows, "fleet", {"limit": 100})
        asked = list(QUESTIONS)
        for since, until in ranges:
            for by in (["agent"], ["day"], ["tenant", "hour"], ["model", "project"]):
                asked.append(("spend", {"by": by, "since": since.isoformat(), "until": until.isoformat(), "limit": 5000}))
            asked.append(("spend", {"by": ["day", "agent"], "since": since.isoformat(), "tenant": "acme"}))
        for name, parameters in asked:
            assert said(folding, name, parameters) == said(rows, name, parameters), (name, parameters)
        folding.fold()
        for name, parameters in asked:
            assert said(folding, name, parameters) == said(rows, name, parameters), (name, parameters)
        rows.fold()
        assert sums(folding) == sums(rows)
    finally:
        for warehouse in opened:
            warehouse.close()


def test_calls_of_the_part_of_an_hour_that_the_day_begins_with_are_told_of(tmp_path: Path) -> None:
    """Of an agent that has no runs."""
    at = NOW - timedelta(hours=24)
    call = accepted("model_call.completed", at=at, received=at, run={"agent_id": "a", "run_id": "r"}, model_call={"model_call_id": "c", "provider": "p", "model": "m", "latency_ms": 3.0})  # fmt: skip
    warehouse = Warehouse.open(tmp_path / "w.duckdb", NOW)
    try:
        store(warehouse, [call, charge(call, "0.1")], 1)
        before = said(warehouse, "fleet", {"limit": 100})
        warehouse.fold()
        assert afresh(warehouse, "fleet", {"limit": 100}) == before
        assert before[0]["latency_p50_ms"] == pytest.approx(3.0, rel=0.05)
    finally:
        warehouse.close()


def sums(warehouse: Warehouse) -> dict[str, list[tuple[Any, ...]]]:
    """All sums, in an order of their own."""
    with warehouse.cursor() as cursor:
        return {
            table: cursor.execute(f"SELECT * FROM {table} ORDER BY ALL").fetchall()
            for table in ("agents_hour", "agents_day", "agents_seen")
        }


@pytest.fixture
def older(tmp_path: Path) -> tuple[Path, list[Item]]:
    """A file as it was before there were sums of agents, with rows and their sums by name."""
    everything: list[Item] = []
    for number in range(200):
        at, run = NOW - timedelta(minutes=17 * number), {"agent_id": f"agent-{number % 3}", "run_id": "r"}
        call = accepted("model_call.completed", at=at, received=at, run=run, model_call={"model_call_id": "c", "provider": "p", "model": f"m{number % 5}", "latency_ms": 3.0 * number})  # fmt: skip
        beat = accepted("agent.heartbeat", at=at, received=at, run=run, agent={"name": f"N{number % 2}", "version": "1"})
        ended = accepted("run.failed", at=at, received=at, run={**run, "duration_ms": 10.0 + number})
        everything += [call, charge(call, f"0.{number:09d}"), beat, ended]
    new = tmp_path / "new.duckdb"
    warehouse = Warehouse.open(new, NOW)
    store(warehouse, everything, 1)
    warehouse.fold()
    warehouse.close()
    path = tmp_path / "older.duckdb"
    Warehouse.open(path, NOW, migrations=migrating.load()[:4]).close()
    with duckdb.connect(str(path)) as connection:
        connection.execute(f"ATTACH '{new}' AS new")
        for (table,) in connection.execute("SELECT table_name FROM duckdb_tables() WHERE database_name = 'older'").fetchall():
            if table != "schema_migrations":
                connection.execute(f"DELETE FROM older.{table}")
                columns = ", ".join(f'"{row[0]}"' for row in connection.execute(f"DESCRIBE older.{table}").fetchall())
                connection.execute(f"INSERT INTO older.{table} BY NAME SELECT {columns} FROM new.{table}")
    return path, everything


def test_an_older_file_is_given_the_sums_of_agents_that_folding_would_have_made(
    older: tuple[Path, list[Item]], tmp_path: Path
) -> None:
    path, _ = older
    migrated, made = Warehouse.open(path, NOW), Warehouse.open(tmp_path / "new.duckdb", NOW)
    try:
        assert sums(made)["agents_hour"]
        assert sums(migrated) == sums(made)
    finally:
        migrated.close()
        made.close()


def test_only_tables_with_rows_beyond_the_sums_are_read(tmp_path: Path) -> None:
    """Known again after a restart: it is read from the rows."""
    beat = accepted("agent.heartbeat", at=NOW, received=NOW, run={"agent_id": "a"})
    warehouse = Warehouse.open(tmp_path / "w.duckdb", NOW)
    nothing = {"folded_events": 0, "folded_ledger": 0}
    assert warehouse.beyond(nothing) == frozenset()
    store(warehouse, [beat], 1)
    assert warehouse.beyond(nothing) == {"heartbeats"}
    warehouse.close()
    warehouse = Warehouse.open(tmp_path / "w.duckdb", NOW)
    assert warehouse.beyond(nothing) == {"heartbeats"}
    assert warehouse.beyond({"folded_events": 1, "folded_ledger": 0}) == frozenset()
    warehouse.close()
