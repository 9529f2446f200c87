"""Sums per minute, hour and day: what is stored is folded into them from time to time.

Whoever asks reads the sums and the rows stored since together (``current``), so folding changes no answer and may happen
at any moment.
"""

import math
from dataclasses import dataclass
from typing import Final, Literal

import duckdb

Grain = Literal["minute", "hour", "day"]

BASE: Final = 1.04
"""Ratio of neighbouring latency buckets: a quantile read from them is at most 2 % off."""
_NOTHING: Final = -200
"""The bucket of latencies up to a thousandth of a millisecond."""


@dataclass(frozen=True, slots=True)
class _Source:
    """What stands for name, provider and latency in a table of events."""

    table: str
    kind: str
    name: str = "NULL::VARCHAR"
    provider: str = "NULL::VARCHAR"
    latency: str = "NULL::DOUBLE"
    is_work: bool = False
    """It begins, ends, and may fail."""


_SOURCES: Final = (
    _Source("runs", "run", "workflow_id", latency="duration_ms", is_work=True),
    _Source("steps", "step", "step_type", latency="latency_ms", is_work=True),
    _Source("model_calls", "model_call", "model", "provider", "latency_ms", is_work=True),
    _Source("tool_calls", "tool_call", "name", latency="latency_ms", is_work=True),
    _Source("heartbeats", "heartbeat", "agent_name", "agent_version"),
    _Source("agent_events", "agent", "agent_name", "agent_version"),
    _Source("policies", "policy"),
    _Source("budgets", "budget"),
    _Source("alerts_emitted", "alert"),
    _Source("faults", "fault"),
    _Source("evaluations", "evaluation"),
    _Source("metrics", "metric"),
    _Source("logs", "log"),
)


def _facts_of(source: _Source) -> str:
    started = finished = failed = "0"
    if source.is_work:
        started, finished = "ends_with(event_type, '.started')::INTEGER", "(NOT ends_with(event_type, '.started'))::INTEGER"
        failed = "ends_with(event_type, '.failed')::INTEGER"
    sent, answered = ("input_tokens", "output_tokens") if source.kind == "model_call" else ("0", "0")
    return f"""
        SELECT occurred_at, least(occurred_at, received_at) AS last_at, tenant_id, agent_id, '{source.kind}' AS kind,
            {source.name} AS name, {source.provider} AS provider, {started} AS started, {finished} AS finished,
            {failed} AS failed, coalesce(list_contains(flags, 'late'), false)::INTEGER AS late,
            coalesce({sent}, 0)::BIGINT AS input_tokens, coalesce({answered}, 0)::BIGINT AS output_tokens,
            0::DECIMAL(18,9) AS cost_usd, 0 AS unpriced, {source.latency} AS latency_ms
        FROM {source.table} WHERE stream_sequence > $folded_events
    """  # noqa: S608


_ENTRIES: Final = """
    SELECT occurred_at, least(occurred_at, received_at), tenant_id, agent_id, 'ledger', model, provider, 0, 0, 0, 0,
        CASE WHEN kind = 'charge' THEN coalesce(input_tokens, 0) ELSE 0 END,
        CASE WHEN kind = 'charge' THEN coalesce(output_tokens, 0) ELSE 0 END, cost_usd, (reason = 'unpriced')::INTEGER, NULL
    FROM ledger WHERE stream_sequence > $folded_ledger
"""
_FACTS: Final = " UNION ALL ".join([*map(_facts_of, _SOURCES), _ENTRIES])
"""SQL: what is not in the sums yet, one row for each event and ledger entry."""
ASKED: Final = "$folded_"
"""Marks SQL that needs ``positions`` as parameters."""

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


def current(grain: Grain) -> str:
    """SQL: rows of this grain, several for the same bucket of time and keys, to be summed up by who asks.

    Its parameters are ``positions``, read in the transaction that asks.
    """
    return f"""
        SELECT "at", {_KEYS}, events, started, finished, failed, late, input_tokens, output_tokens, cost_usd, unpriced,
            latency_count, latency_sum_ms, latency_max_ms, latency_buckets, last_at
        FROM rollups WHERE grain = '{grain}'
        UNION ALL
        SELECT date_trunc('{grain}', occurred_at), {_KEYS}, 1, started, finished, failed, late, input_tokens, output_tokens,
            cost_usd, unpriced, (latency_ms IS NOT NULL)::INTEGER, coalesce(latency_ms, 0), latency_ms,
            CASE WHEN latency_ms IS NULL THEN NULL ELSE [{{'bucket': {_BUCKET}, 'count': 1::BIGINT}}] END, last_at
        FROM ({_FACTS})
    """  # noqa: S608


_FOLD: Final = f"""
    CREATE OR REPLACE TEMP TABLE new_sums AS
    WITH minutes AS (
        SELECT date_trunc('minute', occurred_at) AS "at", {_KEYS}, {_BUCKET} AS bucket, count(*) AS events,
            sum(started) AS started, sum(finished) AS finished, sum(failed) AS failed, sum(late) AS late,
            sum(input_tokens) AS input_tokens, sum(output_tokens) AS output_tokens, sum(cost_usd) AS cost_usd,
            sum(unpriced) AS unpriced, count(latency_ms) AS latency_count, coalesce(sum(latency_ms), 0) AS latency_sum_ms,
            max(latency_ms) AS latency_max_ms, max(last_at) AS last_at
        FROM ({_FACTS}) GROUP BY ALL
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


def positions(connection: duckdb.DuckDBPyConnection) -> dict[str, int]:
    """How far each stream is in the sums: the parameters of ``current``, true within one transaction."""
    found = connection.execute("SELECT stream, sequence FROM folded").fetchall()
    return {f"folded_{stream.lower()}": sequence for stream, sequence in found}


def fold(connection: duckdb.DuckDBPyConnection) -> int:
    """Folds what is stored and not in the sums yet into them, in one transaction of its own; returns how many rows."""
    connection.execute("BEGIN")
    try:
        before = positions(connection)
        found = connection.execute(f"SELECT count(*) FROM ({_FACTS})", before).fetchone()  # noqa: S608
        assert found is not None
        if found[0]:
            connection.execute(_FOLD, before)
            connection.execute('DELETE FROM rollups WHERE (grain, "at") IN (SELECT DISTINCT grain, "at" FROM new_sums)')
            connection.execute("INSERT INTO rollups SELECT * FROM new_sums")
            connection.execute("DROP TABLE new_sums")
            connection.execute(
                "UPDATE folded SET sequence = (SELECT applied_sequence FROM offsets WHERE offsets.stream = folded.stream) "
                "WHERE stream IN (SELECT stream FROM offsets)"
            )
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    return int(found[0])
