"""A warehouse with millions of events in it, made by SQL: what the queries are measured on.

The same mix as the workload, spread evenly over the days before ``until``; the same for the same arguments. It is filled
slice by slice of time and folded after each, as a live one is, so that its files lie as a live one's do.
"""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Final

import duckdb

from processors.aggregate.columns import EVENTS, LEDGER, Table
from processors.aggregate.warehouse import Resources, Warehouse, naive
from streams import topology

_LINES: Final = 500
"""Events in each message of EVENTS, entries in each of LEDGER."""
AT_ONCE: Final = 1_000_000
"""Events in a slice, roughly: larger ones need memory to fold, smaller ones touch the sums of a day more often."""
SHARES: Final = {"run": 0.05, "step": 0.20, "model_call": 0.60, "tool_call": 0.10, "heartbeat": 0.05}
RUN_EVENTS: Final = 40
"""Events of one run: it starts and ends, and 24 model calls, 8 steps and 4 tool calls lie between; two are heartbeats beside it."""
_LOOK_S: Final = 0.2
_MODELS: Final = (
    "['gpt-4o-mini', 'gpt-4o', 'claude-sonnet-4-5', 'claude-haiku-4-5', 'gemini-2.5-flash']",
    "['openai', 'openai', 'anthropic', 'anthropic', 'google']",
)

_COMMON: Final = {
    "tenant_id": "['acme', 'globex', 'initech'][1 + agent % 3]",
    "workspace_id": "'main'",
    "project_id": "'project-' || agent % 7",
    "event_id": "md5(kind || i)::UUID",
    "occurred_at": "moment",
    "received_at": "moment + INTERVAL 40 MILLISECOND",
    "agent_id": "printf('agent-%03d', agent)",
    "run_id": "printf('run-%012x', run)",
    "workflow_id": "'workflow-' || agent % 11",
    "trace_id": "md5('trace' || run)",
    "span_id": "left(md5('span' || kind || i), 16)",
    "parent_span_id": "left(md5('span' || run), 16)",
}
_OWN: Final[Mapping[str, Mapping[str, str]]] = {
    "run": {
        "event_type": "CASE WHEN i % 2 = 0 THEN 'run.started' WHEN i % 41 = 1 THEN 'run.failed' ELSE 'run.completed' END",
        "duration_ms": "CASE WHEN i % 2 = 0 THEN NULL ELSE latency * 4 END",
    },
    "step": {
        "event_type": "'step.completed'", "step_id": "'step-' || i", "step_type": "['plan', 'retrieve', 'act', 'review'][1 + i % 4]",
        "status": "'completed'", "latency_ms": "latency",
    },
    "tool_call": {
        "event_type": "CASE WHEN i % 50 = 0 THEN 'tool_call.failed' ELSE 'tool_call.completed' END", "tool_call_id": "'tool-' || i",
        "name": "['search', 'fetch', 'sql', 'python'][1 + i % 4]", "latency_ms": "latency",
    },
    "heartbeat": {
        "event_type": "'agent.heartbeat'", "health_status": "'HEALTHY'", "health_interval_s": "5", "latency_ms": "latency",
        "error_rate": "0", "requests": "12", "cpu_percent": "3.5", "memory_rss_bytes": "52428800", "agent_version": "'1.0.0'",
    },
    "model_call": {
        "event_type": "'model_call.completed'", "model_call_id": "'call-' || i", "provider": f"{_MODELS[1]}[1 + i % 5]",
        "model": f"{_MODELS[0]}[1 + i % 5]", "response_id": "left(md5('response' || i), 24)", "operation": "'chat'",
        "latency_ms": "latency", "finish_reason": "'stop'", "streamed": "true", "input_tokens": "sent", "output_tokens": "answered",
        "cache_read_tokens": "sent // 3", "total_tokens": "sent + answered", "estimated": "false",
    },
}  # fmt: skip
_ENTRY: Final = {
    **{name: _COMMON[name] for name in ("tenant_id", "workspace_id", "project_id", "agent_id", "run_id", "workflow_id", "occurred_at", "received_at")},
    "entry_id": "md5('entry' || i)", "kind": "'charge'", "reason": "'priced'", "event_id": "md5('model_call' || i)::UUID::VARCHAR",
    "model_call_id": "'call-' || i", "response_id": "left(md5('response' || i), 24)", "provider": f"{_MODELS[1]}[1 + i % 5]",
    "model": f"{_MODELS[0]}[1 + i % 5]", "input_tokens": "sent", "output_tokens": "answered", "cache_read_tokens": "sent // 3",
    "cache_write_tokens": "0", "reasoning_tokens": "0", "estimated": "false", "price_book_version": "'bulk'",
    "unit_price_input": "'0.15'", "unit_price_output": "'0.6'", "cost_usd": "(sent * 150 + answered * 600) * 0.000000001::DECIMAL(18,9)",
    "currency": "'USD'",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Span:
    """Rows of one kind in one slice, and the message they begin with."""

    kind: str
    first: int
    last: int
    """Not among them."""
    sequence: int

    @property
    def messages(self) -> int:
        """How many messages they came in."""
        return -(-(self.last - self.first) // _LINES)


def plan(events: int, at_once: int = AT_ONCE) -> Iterator[tuple[Span, ...]]:
    """Which rows of each kind each slice of time has. Sequences follow each other over kinds and slices, as in the stream."""
    slices = max(1, -(-events // at_once))
    counts = {kind: int(events * share) for kind, share in SHARES.items()}
    sequence = 1
    for number, following in pairwise(range(slices + 1)):
        spans = []
        for kind, count in counts.items():
            span = Span(kind, count * number // slices, count * following // slices, sequence)
            sequence += span.messages
            spans.append(span)
        yield tuple(spans)


def _insert(table: Table, values: Mapping[str, str], span: Span, spacing: int, began: datetime) -> str:
    """Rows ``span``; ``spacing`` is in microseconds. ``kind`` tells one kind's ids from those of others."""
    names = [*values, "stream_sequence"]
    assert set(names) <= set(table.column_names()), set(names) - set(table.column_names())
    run = max(1, round(RUN_EVENTS * SHARES[span.kind]))
    return f"""
        INSERT INTO {table.name} BY NAME
        SELECT {", ".join(f'{sql} AS "{name}"' for name, sql in values.items())}, sequence AS stream_sequence FROM (
            SELECT range AS i, '{span.kind}' AS kind, range // {run} AS run, (hash(range // {run}) % 200)::INTEGER AS agent,
                TIMESTAMP '{began}' + to_microseconds(range * {spacing}) AS moment,
                exp(5 + (hash(range + 1) % 1000) / 400.0) AS latency, 200 + (hash(range + 2) % 7800)::BIGINT AS sent,
                10 + (hash(range + 3) % 890)::BIGINT AS answered, {span.sequence} + (range - {span.first}) // {_LINES} AS sequence
            FROM range({span.first}, {span.last})
        )
    """  # noqa: S608


def run_ids(events: int) -> int:
    """How many runs such a warehouse knows: ``run_id`` of the first is number 0."""
    return max(1, events // RUN_EVENTS)


def run_id(number: int) -> str:
    """The id of run ``number``."""
    return f"run-{number:012x}"


def _offset(cursor: duckdb.DuckDBPyConnection, stream: str, spans: Sequence[Span], began: datetime, at: datetime) -> None:
    """Says that ``spans`` are applied."""
    cursor.execute("DELETE FROM offsets WHERE stream = ?", [stream])
    last = max(span.sequence + span.messages - 1 for span in spans)
    rows = sum(span.last for span in spans)
    cursor.execute("INSERT INTO offsets VALUES (?, ?, ?, ?, ?, ?, ?)", [stream, began, last, at, last, rows, rows])


def _fill(warehouse: Warehouse, events: int, days: float, until: datetime, tell: Callable[[str], None]) -> None:
    """Stores every slice, each in one transaction with how far it goes."""
    began, at = naive(until - timedelta(days=days)), naive(until)
    spacing = {kind: int(days * 86_400_000_000 / max(1, int(events * share))) for kind, share in SHARES.items()}
    entries = 1
    with warehouse.cursor() as cursor:
        for spans in plan(events):
            calls = next(span for span in spans if span.kind == "model_call")
            charges = Span(calls.kind, calls.first, calls.last, entries)
            entries += charges.messages
            cursor.execute("BEGIN")
            for span in spans:
                cursor.execute(_insert(EVENTS[span.kind], {**_COMMON, **_OWN[span.kind]}, span, spacing[span.kind], began))
            cursor.execute(_insert(LEDGER, _ENTRY, charges, spacing[calls.kind], began))
            _offset(cursor, topology.EVENTS, spans, began, at)
            _offset(cursor, topology.LEDGER, [charges], began, at)
            cursor.execute("COMMIT")
            tell(f"{sum(span.last for span in spans):,} of {events:,} events")


def _nothing(_: str) -> None:
    """Tells nobody."""


def bulk_load(
    path: Path, events: int, *, days: float = 30, until: datetime | None = None, tell: Callable[[str], None] = _nothing
) -> None:
    """Makes a warehouse of ``events`` events, their ledger and the sums at ``path``, which must not exist.

    Sequences run from 1 in EVENTS and in LEDGER; both streams are told to have been created ``days`` before ``until``.
    """
    until = until or datetime.now(UTC)
    # One thread each for storing and folding: two for both use a third more CPU and are no sooner done.
    warehouse = Warehouse.open(path, until, Resources(threads=1, memory="4GB", wal="256MB"))
    try:
        with ThreadPoolExecutor(1) as worker:
            # Folding goes on beside it, as it does in the aggregate.
            filling = worker.submit(_fill, warehouse, events, days, until, tell)
            while not filling.done():
                if warehouse.fold() == 0:
                    wait([filling], timeout=_LOOK_S)
            filling.result()
        warehouse.fold()
        warehouse.checkpoint()
    finally:
        warehouse.close()


def main() -> None:
    """``python -m benchmarks.bulk_load PATH EVENTS [DAYS]``."""
    path, events, *rest = sys.argv[1:]
    bulk_load(Path(path), int(events), days=float(rest[0]) if rest else 30, tell=lambda text: print(text, file=sys.stderr))


if __name__ == "__main__":
    main()
