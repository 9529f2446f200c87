"""A bulk-loaded warehouse is one the aggregate could have made: its sums are those of its rows, and questions find them."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import orjson
import pytest

from benchmarks import bulk_load, warehouses
from benchmarks.parts.limits import validated
from benchmarks.parts.queries import questions
from benchmarks.workload import generate
from processors.aggregate.answering import Deadline, answer
from processors.aggregate.batches import compose
from processors.aggregate.warehouse import Warehouse
from streams import topology

EVENTS = 8_000
UNTIL = datetime(2026, 11, 20, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("bulk") / "warehouse.duckdb"
    bulk_load.bulk_load(made, EVENTS, days=10, until=UNTIL)
    return made


def rows(path: Path, sql: str) -> list[tuple[object, ...]]:
    connection = duckdb.connect(str(path), read_only=True)
    try:
        found: list[tuple[object, ...]] = connection.execute(sql).fetchall()
        return found
    finally:
        connection.close()


def test_the_sums_are_those_of_the_rows(path: Path) -> None:
    for grain in ("hour", "day"):
        summed = rows(path, f"SELECT sum(events), sum(cost_usd), sum(latency_count) FROM rollups_{grain} WHERE kind <> 'ledger'")
        assert summed[0][0] == EVENTS
        spent = rows(path, f"SELECT sum(cost_usd), sum(charges) FROM rollups_{grain} WHERE kind = 'ledger'")
        assert spent == rows(path, "SELECT sum(cost_usd), count(*) FROM ledger")


def test_each_kind_has_its_share_and_each_call_one_charge(path: Path) -> None:
    assert rows(path, "SELECT count(*) FROM model_calls") == [(EVENTS * 60 // 100,)]
    assert rows(path, "SELECT count(*) FROM runs") == [(EVENTS * 5 // 100,)]
    assert rows(path, "SELECT count(*) FROM ledger ANTI JOIN model_calls ON ledger.event_id = model_calls.event_id::VARCHAR") == [
        (0,)
    ]


def test_sequences_grow_with_time_in_every_table_and_end_at_the_offset(path: Path) -> None:
    """What the zone maps of a live warehouse rely on."""
    for table in ("runs", "steps", "model_calls", "tool_calls", "heartbeats"):
        assert rows(
            path,
            f"SELECT count(*) FROM (SELECT stream_sequence < lag(stream_sequence) OVER (ORDER BY occurred_at) AS falls FROM {table}) WHERE falls",
        ) == [(0,)]
    assert rows(path, "SELECT stream, sequence FROM folded ORDER BY stream") == rows(
        path, "SELECT stream, applied_sequence FROM offsets ORDER BY stream"
    )


@pytest.mark.parametrize("at_once", [EVENTS, 3_000, 100])
def test_however_it_is_sliced_every_row_is_made_once(at_once: int) -> None:
    slices = list(bulk_load.plan(EVENTS, at_once))
    for kind in bulk_load.SHARES:
        spans = [span for several in slices for span in several if span.kind == kind]
        assert [span.first for span in spans] == [0, *(span.last for span in spans[:-1])]
        assert spans[-1].last == int(EVENTS * bulk_load.SHARES[kind])
    every = [span for several in slices for span in several]
    assert [span.sequence for span in every] == list(_following(every))


def _following(spans: Sequence[bulk_load.Span]) -> list[int]:
    sequence, found = 1, []
    for span in spans:
        found.append(sequence)
        sequence += span.messages
    return found


def test_every_question_of_the_benchmark_finds_something(path: Path) -> None:
    warehouse = Warehouse.open(path, UNTIL)
    try:
        for name, (query, parameters) in questions(EVENTS, UNTIL).items():
            reply = answer(warehouse, query, orjson.dumps(parameters()), now=UNTIL, deadline=Deadline(10), most_bytes=10**7)
            assert not reply.failed, (name, reply.data)
            assert orjson.loads(reply.data)["rows"], name
    finally:
        warehouse.close()


def test_a_kept_warehouse_is_made_once_and_again_when_it_is_too_old(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    bulk = bulk_load.bulk_load

    def counted(path: Path, events: int, **given: Any) -> None:
        made.append(events)
        bulk(path, events, **given)

    monkeypatch.setattr(bulk_load, "bulk_load", counted)
    first = warehouses.kept(tmp_path, 400, print)
    assert warehouses.kept(tmp_path, 400, print) == first
    assert made == [400]
    told = first.path.with_suffix(".json")
    about = orjson.loads(told.read_bytes())
    told.write_bytes(orjson.dumps(about | {"until": (first.until - timedelta(hours=7)).isoformat()}))
    assert warehouses.kept(tmp_path, 400, print).until > first.until
    assert made == [400, 400]


def test_what_is_inserted_for_the_limit_is_what_validate_would_have_written() -> None:
    """Every event becomes a typed row; none is unreadable."""
    events = list(generate(500, seed=6))
    batch = compose({topology.EVENTS: validated(events, 1_795_000_000_000_000_000)})
    assert batch.unreadable == ()
    assert batch.rows == 500
