"""Sums per minute, hour and day: a fact is written with each event, and facts are folded into sums from time to time.

Whoever asks reads sums and facts together (``current``), so folding changes no answer and may happen at any moment.
"""

import math
from collections.abc import Iterable
from typing import Final, Literal

import duckdb

Grain = Literal["minute", "hour", "day"]

BASE: Final = 1.04
"""Ratio of neighbouring latency buckets: a quantile read from them is at most 2 % off."""
_NOTHING: Final = -200
"""The bucket of latencies up to a thousandth of a millisecond."""

_SAID_OF_ITSELF: Final = {"name": "agent_name", "provider": "agent_version"}
_FACTS: Final[dict[str, tuple[str, dict[str, str]]]] = {
    "runs": ("run", {"name": "workflow_id", "latency_ms": "duration_ms"}),
    "steps": ("step", {"name": "step_type", "latency_ms": "latency_ms"}),
    "model_calls": (
        "model_call",
        {
            "name": "model",
            "provider": "provider",
            "latency_ms": "latency_ms",
            "input_tokens": "coalesce(input_tokens, 0)",
            "output_tokens": "coalesce(output_tokens, 0)",
        },
    ),
    "tool_calls": ("tool_call", {"name": "name", "latency_ms": "latency_ms"}),
    "heartbeats": ("heartbeat", _SAID_OF_ITSELF),
    "agent_events": ("agent", _SAID_OF_ITSELF),
    "policies": ("policy", {}),
    "budgets": ("budget", {}),
    "alerts_emitted": ("alert", {}),
    "faults": ("fault", {}),
    "evaluations": ("evaluation", {}),
    "metrics": ("metric", {}),
    "logs": ("log", {}),
}
"""Table of each kind, and which of its columns count as what."""

_WORK: Final = ("runs", "steps", "model_calls", "tool_calls")
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


def _facts_of(table: str) -> str:
    if table == "ledger":
        return (
            "SELECT occurred_at, least(occurred_at, received_at), tenant_id, agent_id, 'ledger', model, provider, 0, 0, 0, 0, "
            "CASE WHEN kind = 'charge' THEN coalesce(input_tokens, 0) ELSE 0 END, "
            "CASE WHEN kind = 'charge' THEN coalesce(output_tokens, 0) ELSE 0 END, "
            "cost_usd, (reason = 'unpriced')::INTEGER, NULL FROM new_ledger"
        )
    kind, own = _FACTS[table]
    outcome = (
        "(event_type LIKE '%.started')::INTEGER, "
        "(event_type LIKE '%.completed' OR event_type LIKE '%.failed')::INTEGER, "
        "(event_type LIKE '%.failed')::INTEGER"
        if table in _WORK
        else "0, 0, 0"
    )
    return (
        f"SELECT occurred_at, least(occurred_at, received_at), tenant_id, agent_id, '{kind}', "  # noqa: S608
        f"{own.get('name', 'NULL')}, {own.get('provider', 'NULL')}, {outcome}, "
        f"coalesce(list_contains(flags, 'late'), false)::INTEGER, "
        f"{own.get('input_tokens', '0')}, {own.get('output_tokens', '0')}, 0, 0, {own.get('latency_ms', 'NULL')} FROM new_{table}"
    )


def statement(tables: Iterable[str]) -> str | None:
    """Adds the facts of ``tables``, whose new rows are the relations ``new_<table>``; None where none has any."""
    facts = [_facts_of(table) for table in sorted(tables) if table in _FACTS or table == "ledger"]
    return f"INSERT INTO rollup_facts {' UNION ALL '.join(facts)}" if facts else None


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
