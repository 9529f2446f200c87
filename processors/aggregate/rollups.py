"""Sums per minute, hour and day: a fact is written with each event, and facts are folded into sums from time to time.

Whoever asks reads sums and facts together (``current``), so folding changes no answer and may happen at any moment.
"""

import math
from collections.abc import Mapping
from typing import Any, Final, Literal

import duckdb
import pyarrow as pa
import pyarrow.compute as pc

Grain = Literal["minute", "hour", "day"]

BASE: Final = 1.04
"""Ratio of neighbouring latency buckets: a quantile read from them is at most 2 % off."""
_NOTHING: Final = -200
"""The bucket of latencies up to a thousandth of a millisecond."""

_OF: Final[dict[str, tuple[str, str | None, str | None, str | None]]] = {
    "runs": ("run", "workflow_id", None, "duration_ms"),
    "steps": ("step", "step_type", None, "latency_ms"),
    "model_calls": ("model_call", "model", "provider", "latency_ms"),
    "tool_calls": ("tool_call", "name", None, "latency_ms"),
    "heartbeats": ("heartbeat", "agent_name", "agent_version", None),
    "agent_events": ("agent", "agent_name", "agent_version", None),
    "policies": ("policy", None, None, None),
    "budgets": ("budget", None, None, None),
    "alerts_emitted": ("alert", None, None, None),
    "faults": ("fault", None, None, None),
    "evaluations": ("evaluation", None, None, None),
    "metrics": ("metric", None, None, None),
    "logs": ("log", None, None, None),
    "ledger": ("ledger", "model", "provider", None),
}
"""Of each table: kind, and the columns that stand for name, provider and latency."""

_WORK: Final = frozenset({"runs", "steps", "model_calls", "tool_calls"})
_FACT: Final = pa.schema(
    [
        ("occurred_at", pa.timestamp("us")), ("last_at", pa.timestamp("us")), ("tenant_id", pa.string()), ("agent_id", pa.string()),
        ("kind", pa.string()), ("name", pa.string()), ("provider", pa.string()), ("started", pa.int32()), ("finished", pa.int32()),
        ("failed", pa.int32()), ("late", pa.int32()), ("input_tokens", pa.int64()), ("output_tokens", pa.int64()),
        ("cost_usd", pa.decimal128(18, 9)), ("unpriced", pa.int32()), ("latency_ms", pa.float64()),
    ]
)  # fmt: skip
_KEYS: Final = "tenant_id, agent_id, kind, name, provider"
_COUNTS: Final = ("events", "started", "finished", "failed", "late", "unpriced", "latency_count")
_SUMS: Final = (
    "sum(events)::BIGINT AS events, sum(started)::BIGINT AS started, sum(finished)::BIGINT AS finished, "
    "sum(failed)::BIGINT AS failed, sum(late)::BIGINT AS late, sum(input_tokens) AS input_tokens, "
    "sum(output_tokens) AS output_tokens, sum(cost_usd) AS cost_usd, sum(unpriced)::BIGINT AS unpriced, "
    "sum(latency_count)::BIGINT AS latency_count, sum(latency_sum_ms) AS latency_sum_ms, max(latency_max_ms) AS latency_max_ms"
)
_BUCKET: Final = f"(CASE WHEN latency_ms <= 0.001 THEN {_NOTHING} ELSE ceil(ln(latency_ms) / ln({BASE})) END)::SMALLINT"
MIDDLE: Final = f"CASE WHEN bucket <= {_NOTHING} THEN 0.0 ELSE pow({BASE}, bucket) * 2 / (1 + {BASE}) END"
"""SQL: a latency that stands for all of its ``bucket``."""


def middle_of(latency_ms: float) -> float:
    """The latency that stands for the whole bucket ``latency_ms`` falls into."""
    if latency_ms <= 0.001:
        return 0.0
    return float(BASE ** math.ceil(math.log(latency_ms) / math.log(BASE)) * 2 / (1 + BASE))


def _late(flags: pa.ChunkedArray) -> Any:
    if pc.all(pc.equal(pc.list_value_length(flags), 0), min_count=0).as_py():
        return 0
    return pa.array(["late" in (each or ()) for each in flags.to_pylist()]).cast(pa.int32())


def _facts_of(table: str, frame: pa.Table) -> pa.Table:
    kind, name, provider, latency = _OF[table]
    told: dict[str, Any] = {
        "occurred_at": frame["occurred_at"],
        "last_at": pc.min_element_wise(frame["occurred_at"], frame["received_at"]),
        "tenant_id": frame["tenant_id"],
        "agent_id": frame["agent_id"],
        "kind": kind,
        "name": frame[name] if name else None,
        "provider": frame[provider] if provider else None,
        "latency_ms": frame[latency] if latency else None,
    }
    if table in _WORK:
        failed = pc.ends_with(frame["event_type"], ".failed")
        started = pc.ends_with(frame["event_type"], ".started")
        told |= {"started": started, "finished": pc.invert(started), "failed": failed}
    if table == "ledger":
        charged = pc.equal(frame["kind"], "charge")
        told["cost_usd"] = frame["cost_usd"]
        told["unpriced"] = pc.equal(frame["reason"], "unpriced")
        for tokens in ("input_tokens", "output_tokens"):
            told[tokens] = pc.if_else(charged, pc.fill_null(frame[tokens], 0), 0)
    else:
        told["late"] = _late(frame["flags"])
        if table == "model_calls":
            told |= {tokens: pc.fill_null(frame[tokens], 0) for tokens in ("input_tokens", "output_tokens")}
    columns = []
    for wanted in _FACT:
        value = told.get(wanted.name, None if wanted.name in {"name", "provider", "latency_ms"} else 0)
        if isinstance(value, pa.ChunkedArray | pa.Array):
            columns.append(value.cast(wanted.type))
        else:
            columns.append(pa.repeat(pa.scalar(value, wanted.type), frame.num_rows))
    return pa.Table.from_arrays(columns, schema=_FACT)


def facts(frames: Mapping[str, pa.Table]) -> pa.Table | None:
    """A fact for each event and ledger entry in ``frames`` (new rows by table); None where there are none."""
    every = [_facts_of(table, frame) for table, frame in frames.items() if table in _OF]
    return pa.concat_tables(every) if every else None


def current(grain: Grain) -> str:
    """SQL: rows of this grain, several for the same bucket of time and keys, to be summed up by who asks."""
    return f"""
        SELECT "at", {_KEYS}, events, started, finished, failed, late, input_tokens, output_tokens, cost_usd, unpriced,
            latency_count, latency_sum_ms, latency_max_ms, latency_buckets, last_at
        FROM rollups WHERE grain = '{grain}'
        UNION ALL
        SELECT date_trunc('{grain}', occurred_at), {_KEYS}, 1, started, finished, failed, late, input_tokens, output_tokens,
            cost_usd, unpriced, (latency_ms IS NOT NULL)::INTEGER, coalesce(latency_ms, 0), latency_ms,
            CASE WHEN latency_ms IS NULL THEN NULL ELSE [{{'bucket': {_BUCKET}, 'count': 1::BIGINT}}] END, last_at
        FROM rollup_facts
    """  # noqa: S608


_FOLD: Final = f"""
    CREATE OR REPLACE TEMP TABLE folded AS
    WITH minutes AS (
        SELECT date_trunc('minute', occurred_at) AS "at", {_KEYS}, {_BUCKET} AS bucket, count(*) AS events,
            sum(started) AS started, sum(finished) AS finished, sum(failed) AS failed, sum(late) AS late,
            sum(input_tokens) AS input_tokens, sum(output_tokens) AS output_tokens, sum(cost_usd) AS cost_usd,
            sum(unpriced) AS unpriced, count(latency_ms) AS latency_count, coalesce(sum(latency_ms), 0) AS latency_sum_ms,
            max(latency_ms) AS latency_max_ms, max(last_at) AS last_at
        FROM rollup_facts GROUP BY ALL
    ),
    new AS (
        SELECT grain, date_trunc(grain, "at") AS "at", * EXCLUDE ("at", grain)
        FROM minutes, (VALUES ('minute'), ('hour'), ('day')) AS every(grain)
    ),
    old AS (SELECT * FROM rollups WHERE (grain, "at") IN (SELECT DISTINCT grain, "at" FROM new)),
    every AS (
        SELECT * FROM new
        UNION ALL BY NAME
        SELECT * EXCLUDE (latency_buckets) REPLACE (0 AS latency_count), NULL::SMALLINT AS bucket FROM old
        UNION ALL BY NAME
        SELECT grain, "at", {_KEYS}, entry.bucket AS bucket, entry.count AS latency_count, last_at,
            {", ".join(f"0 AS {name}" for name in (*_COUNTS[:-1], "input_tokens", "output_tokens", "cost_usd", "latency_sum_ms"))}
        FROM (SELECT *, unnest(latency_buckets) AS entry FROM old)
    ),
    merged AS (
        SELECT grain, "at", {_KEYS}, bucket, {_SUMS}, max(last_at) AS last_at
        FROM every GROUP BY grain, "at", {_KEYS}, bucket
    )
    SELECT grain, "at", {_KEYS}, {_SUMS},
        list({{'bucket': bucket, 'count': latency_count}} ORDER BY bucket) FILTER (bucket IS NOT NULL) AS latency_buckets,
        max(last_at) AS last_at
    FROM merged GROUP BY grain, "at", {_KEYS}
"""  # noqa: S608


def fold(connection: duckdb.DuckDBPyConnection) -> int:
    """Folds the facts there are into the sums, in one transaction of its own; returns how many."""
    connection.execute("BEGIN")
    try:
        found = connection.execute("SELECT count(*) FROM rollup_facts").fetchone()
        assert found is not None
        if found[0]:
            connection.execute(_FOLD)
            connection.execute('DELETE FROM rollups WHERE (grain, "at") IN (SELECT DISTINCT grain, "at" FROM folded)')
            connection.execute("INSERT INTO rollups SELECT * FROM folded")
            connection.execute("DELETE FROM rollup_facts")
            connection.execute("DROP TABLE folded")
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    return int(found[0])
