"""From a request's bytes to a reply's: validated, asked with a deadline, paged, written as JSON or Arrow."""

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

import duckdb
import orjson
import pyarrow as pa
from pydantic import ValidationError

from processors.aggregate import rollups
from processors.aggregate.asking import InvalidQuestionError, Question, bound
from processors.aggregate.queries.alerts import alerts
from processors.aggregate.queries.auditing import audit
from processors.aggregate.queries.failures import failures
from processors.aggregate.queries.fleet import fleet
from processors.aggregate.queries.latency import latency
from processors.aggregate.queries.ledger import ledger, ledger_days, ledger_duplicates, ledger_problems
from processors.aggregate.queries.logs import logs
from processors.aggregate.queries.runs import runs
from processors.aggregate.queries.scope_spend import scope_spend
from processors.aggregate.queries.spans import run
from processors.aggregate.queries.spend import spend
from processors.aggregate.queries.standing import status, throughput
from processors.aggregate.queries.timeseries import timeseries
from processors.aggregate.remembering import Snapshot
from processors.aggregate.warehouse import Warehouse
from schemas.errors import field_errors
from schemas.queries import QUERIES, QueryError
from streams.messages import CONTENT_TYPE, FAILED, JSON

ARROW: Final = "application/vnd.apache.arrow.stream"
NEXT_OFFSET: Final = "Agentops-Next-Offset"
"""Header of Arrow replies; JSON carries it in the page."""

BUILD: Final[Mapping[str, Callable[[Any, datetime], Question]]] = {
    "fleet": fleet,
    "runs": runs,
    "run": run,
    "failures": failures,
    "logs": logs,
    "spend": spend,
    "latency": latency,
    "timeseries": timeseries,
    "scope_spend": scope_spend,
    "ledger": ledger,
    "ledger_days": ledger_days,
    "ledger_duplicates": ledger_duplicates,
    "ledger_problems": ledger_problems,
    "alerts": alerts,
    "throughput": throughput,
    "status": status,
    "audit": audit,
}
"""How each query of ``schemas.queries`` is asked."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What goes back."""

    data: bytes
    headers: dict[str, str] = field(default_factory=dict)

    @property
    def failed(self) -> bool:
        """Whether it is no answer."""
        return FAILED in self.headers


def refused(query: str, message: str, errors: tuple[Any, ...] = ()) -> Reply:
    """A reply that is no answer, and why."""
    body = QueryError(query=query, message=message, errors=errors).model_dump_json(exclude_none=True).encode()
    return Reply(body, {FAILED: "1", CONTENT_TYPE: JSON})


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return format(value, "f")
    raise TypeError(type(value).__name__)


def _json(
    query: str, columns: list[str], rows: list[tuple[Any, ...]], following: int | None, as_of: datetime, began: float
) -> Reply:
    page: dict[str, Any] = {
        "query": query,
        "columns": columns,
        "rows": [dict(zip(columns, row, strict=True)) for row in rows],
        "as_of": as_of,
        "elapsed_ms": round((time.monotonic() - began) * 1000, 3),
    }
    if following is not None:
        page["next_offset"] = following
    data = orjson.dumps(page, default=_plain, option=orjson.OPT_NAIVE_UTC | orjson.OPT_UTC_Z)
    return Reply(data, {CONTENT_TYPE: JSON})


def _utc(table: pa.Table) -> pa.Table:
    """The table with its times marked as the UTC they are."""
    zoned = [
        pa.field(each.name, pa.timestamp("us", "UTC")) if pa.types.is_timestamp(each.type) else each for each in table.schema
    ]
    return table.cast(pa.schema(zoned))


def _arrow(table: pa.Table, following: int | None) -> Reply:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    headers = {CONTENT_TYPE: ARROW}
    if following is not None:
        headers[NEXT_OFFSET] = str(following)
    return Reply(sink.getvalue().to_pybytes(), headers)


@dataclass(slots=True)
class Deadline:
    """Interrupts one question when ``pass_by`` is called, from whatever thread: starting a thread for each would cost more than most answers."""

    seconds: float
    passed: bool = False
    _cursor: duckdb.DuckDBPyConnection | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def over(self, cursor: duckdb.DuckDBPyConnection) -> Iterator[None]:
        """Within it ``cursor`` is what is interrupted."""
        with self._lock:
            self._cursor = cursor
        try:
            yield
        finally:
            with self._lock:
                self._cursor = None

    def pass_by(self) -> None:
        """The time is over."""
        with self._lock:
            self.passed = True
            if self._cursor is not None:
                self._cursor.interrupt()


def answer(warehouse: Warehouse, name: str, request: bytes, *, now: datetime, deadline: Deadline, most_bytes: int) -> Reply:
    """The reply to ``request``; never raises for what a request may hold. A page that would not fit is made shorter."""
    began = time.monotonic()
    try:
        params = QUERIES[name].model_validate_json(request or b"{}")
        question = BUILD[name](params, now)
    except ValidationError as error:
        return refused(name, "the parameters are not valid", field_errors(error))
    except InvalidQuestionError as error:
        return refused(name, str(error), error.errors)
    cursor = warehouse.cursor()
    try:
        with deadline.over(cursor):
            if deadline.passed:
                return refused(name, f"waited longer than {deadline.seconds:g} s for its turn: try again in a moment")
            try:
                table = _fetch(warehouse, cursor, question, params.limit + 1, params.offset)
            except duckdb.InterruptException:
                if not deadline.passed:
                    raise
                return refused(name, f"took longer than {deadline.seconds:g} s and was stopped: ask for a shorter range")
    finally:
        cursor.close()
    number = min(table.num_rows, params.limit)
    while True:
        following = params.offset + number if table.num_rows > number else None
        page = table.slice(0, number)
        reply = _arrow(_utc(page), following) if params.format == "arrow" else _page(name, page, following, now, began)
        if len(reply.data) <= most_bytes:
            return reply
        if number <= 1:
            return refused(name, f"one row has {len(reply.data):,} bytes, at most {most_bytes:,} can be sent")
        number = max(1, min(number - 1, int(number * most_bytes / len(reply.data) * 0.9)))


def _fetch(warehouse: Warehouse, cursor: duckdb.DuckDBPyConnection, question: Question, most: int, offset: int) -> pa.Table:
    """At most ``most`` rows from ``offset`` on, of one snapshot."""
    sql, given = question.sql, question.parameters
    if callable(sql) or rollups.ASKED in sql or question.composed is not None:
        cursor.execute("BEGIN")
        folded = rollups.positions(cursor)
        if question.composed is not None:
            view = Snapshot(cursor, warehouse.remembered, folded, warehouse.beyond)
            return _table(question.columns, question.composed(view)[offset : offset + most])
        if callable(sql):
            sql = sql(warehouse.beyond(folded))
        given = bound(sql, {**given, **folded})
    paging: dict[str, Any] = {"limit": most, "offset": offset}
    if "$limit" not in sql:
        sql = f"SELECT * FROM ({sql}) LIMIT $limit OFFSET $offset"  # noqa: S608
    table: pa.Table = cursor.execute(sql, {**given, **paging}).to_arrow_table()
    return table


_TYPES: Final = {
    "depth": pa.int32(),
    "started_at": pa.timestamp("us"),
    "ended_at": pa.timestamp("us"),
    "last_seen": pa.timestamp("us"),
    "latency_ms": pa.float64(),
    "latency_p50_ms": pa.float64(),
    "latency_p95_ms": pa.float64(),
    "input_tokens": pa.int64(),
    "output_tokens": pa.int64(),
    "runs_24h": pa.int64(),
    "failures_24h": pa.int64(),
    "tokens_24h": pa.int64(),
    "cost_usd": pa.decimal128(38, 9),
    "cost_usd_24h": pa.decimal128(38, 9),
}
"""Types of the columns of composed rows that are no text."""


def _table(columns: Sequence[str], rows: Sequence[tuple[Any, ...]]) -> pa.Table:
    values = zip(*rows, strict=True) if rows else [()] * len(columns)
    return pa.table({name: pa.array(each, _TYPES.get(name, pa.string())) for name, each in zip(columns, values, strict=True)})


def _page(name: str, table: pa.Table, following: int | None, now: datetime, began: float) -> Reply:
    rows = list(zip(*(_values(column) for column in table.columns), strict=True)) if table.num_rows else []
    return _json(name, table.column_names, rows, following, now.astimezone(UTC), began)


def _values(column: pa.ChunkedArray) -> list[Any]:
    values: list[Any] = column.to_pylist()
    if pa.types.is_map(column.type):
        return [None if value is None else dict(value) for value in values]
    return values
