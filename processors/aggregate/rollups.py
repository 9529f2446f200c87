"""Sums per hour and day: what is stored is folded into them from time to time.

Whoever asks reads the sums and the rows stored since together (``current``), so folding changes no answer and may happen
at any moment.
"""

import math
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Literal

import duckdb

Grain = Literal["hour", "day"]
GRAINS: Final[tuple[Grain, ...]] = ("hour", "day")

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


FAILED_REQUESTS: Final = "failed_requests"
"""The unit in which a sidecar tells of requests that failed at its proxy, in the samples of ``metric.sampled``."""
_MOST_REQUESTS: Final = 1_000_000
FAILED_IN_ONE: Final = f"least(greatest({{value}}, 0), {_MOST_REQUESTS})::BIGINT"
"""SQL: how many requests a sample speaks of. Anyone may publish one: it may lie, but not overflow a sum."""

_CHARGE: Final = "kind = 'charge'"
UNFOLDED: Final = "stream_sequence > $folded_{stream}"
"""A condition on facts: not in the sums yet."""
ASKED: Final = "$folded_"
"""Marks SQL that needs ``positions`` as parameters."""


def _facts_of(source: _Source, where: str) -> str:
    started = finished = failed = "0"
    if source.is_work:
        started, finished = "ends_with(event_type, '.started')::INTEGER", "(NOT ends_with(event_type, '.started'))::INTEGER"
        failed = "ends_with(event_type, '.failed')::INTEGER"
    if source.kind == "metric":
        requests = f"[sample.\"value\" FOR sample IN samples IF sample.unit = '{FAILED_REQUESTS}']"
        finished = failed = f"coalesce({FAILED_IN_ONE.format(value=f'list_sum({requests})')}, 0)"
    sent, answered = ("input_tokens", "output_tokens") if source.kind == "model_call" else ("0", "0")
    return f"""
        SELECT occurred_at, least(occurred_at, received_at) AS last_at, tenant_id, agent_id, '{source.kind}' AS kind,
            {source.name} AS name, {source.provider} AS provider, NULL::VARCHAR AS project_id, NULL::VARCHAR AS workflow_id,
            {started} AS started, {finished} AS finished, {failed} AS failed,
            coalesce(list_contains(flags, 'late'), false)::INTEGER AS late,
            coalesce({sent}, 0)::BIGINT AS input_tokens, coalesce({answered}, 0)::BIGINT AS output_tokens,
            0::BIGINT AS cache_read_tokens, 0::BIGINT AS cache_write_tokens, 0::DECIMAL(18,9) AS cost_usd, 0 AS charges,
            0 AS unpriced, {source.latency} AS latency_ms
        FROM {source.table} WHERE {where.format(stream="events")}
    """  # noqa: S608


def _entries(where: str) -> str:
    tokens = "".join(
        f"CASE WHEN {_CHARGE} THEN coalesce({name}, 0) ELSE 0 END AS {name}, "
        for name in ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")
    )
    return f"""
        SELECT occurred_at, least(occurred_at, received_at) AS last_at, tenant_id, agent_id, 'ledger' AS kind, model AS name,
            provider, project_id, workflow_id, 0 AS started, 0 AS finished, 0 AS failed, 0 AS late, {tokens}cost_usd,
            ({_CHARGE})::INTEGER AS charges, ((reason = 'unpriced')::INTEGER - (kind = 'reversal' AND priced_as IS NULL)::INTEGER) AS unpriced, NULL::DOUBLE AS latency_ms
        FROM ledger WHERE {where.format(stream="ledger")}
    """  # noqa: S608


def facts(where: str, kinds: Collection[str] | None = None) -> str:
    """SQL: one row for each event and ledger entry for which ``where`` holds, in which ``{stream}`` is its stream."""
    every = [_facts_of(source, where) for source in _SOURCES if kinds is None or source.kind in kinds]
    if kinds is None or "ledger" in kinds:
        every.append(_entries(where))
    return " UNION ALL ".join(every)


_KEYS: Final = "tenant_id, agent_id, kind, name, provider, project_id, workflow_id"
_COUNTS: Final = ("events", "started", "finished", "failed", "late", "charges", "unpriced", "latency_count")
TOKENS: Final = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")
_SUMS: Final = (
    ", ".join(f"sum({name})::BIGINT AS {name}" for name in _COUNTS)
    # A sum past 64 bits, which no real fleet reaches, stays at the most there is.
    + "".join(f", least(sum({name}), 9223372036854775807)::BIGINT AS {name}" for name in TOKENS)
    + ", sum(cost_usd) AS cost_usd, sum(latency_sum_ms) AS latency_sum_ms"
    + ", max(latency_max_ms) AS latency_max_ms"
)
_BUCKET: Final = f"(CASE WHEN latency_ms <= 0.001 THEN {_NOTHING} ELSE ceil(ln(latency_ms) / ln({BASE})) END)::SMALLINT"
MIDDLE: Final = f"CASE WHEN bucket <= {_NOTHING} THEN 0.0 ELSE pow({BASE}, bucket) * 2 / (1 + {BASE}) END"
"""SQL: a latency that stands for all of its ``bucket``."""


def middle_of(latency_ms: float) -> float:
    """The latency that stands for the whole bucket ``latency_ms`` falls into."""
    if latency_ms <= 0.001:
        return 0.0
    return float(BASE ** math.ceil(math.log(latency_ms) / math.log(BASE)) * 2 / (1 + BASE))


_COLUMNS: Final = (*_COUNTS, *TOKENS, "cost_usd", "latency_sum_ms", "latency_max_ms")


def _as_sums(grain: Grain, rows: str) -> str:
    """SQL: facts in the shape of sums."""
    told = {
        "events": "1", "latency_count": "(latency_ms IS NOT NULL)::INTEGER", "latency_sum_ms": "coalesce(latency_ms, 0)",
        "latency_max_ms": "latency_ms",
    }  # fmt: skip
    return f"""
        SELECT date_trunc('{grain}', occurred_at) AS "at", {_KEYS}, {", ".join(told.get(name, name) for name in _COLUMNS)},
            CASE WHEN latency_ms IS NULL THEN NULL ELSE [{{'bucket': {_BUCKET}, 'count': 1::BIGINT}}] END, last_at
        FROM ({rows})
    """  # noqa: S608


def _sums(grain: Grain, where: str = "true") -> str:
    return f'SELECT "at", {_KEYS}, {", ".join(_COLUMNS)}, latency_buckets, last_at FROM rollups_{grain} WHERE {where}'  # noqa: S608


def current(grain: Grain, kinds: Collection[str] | None = None) -> str:
    """SQL: rows of this grain, several for the same bucket of time and keys, to be summed up by who asks.

    Its parameters are ``positions``, read in the transaction that asks. ``kinds`` (all): what of it is looked for.
    """
    return f"{_sums(grain)} UNION ALL {_as_sums(grain, facts(UNFOLDED, kinds))}"


def since(kinds: Collection[str]) -> str:
    """SQL: the same by the hour, of what occurred at ``$since`` or later, to the microsecond.

    Its parameters are ``positions``, ``$since``, and ``$whole``: the first whole hour after it (``next_whole``).
    """
    before = "occurred_at >= $since AND occurred_at < $whole"
    after = f"{UNFOLDED} AND occurred_at >= $whole"
    wanted = ", ".join(f"'{kind}'" for kind in kinds)
    return " UNION ALL ".join(
        (
            _sums("hour", f'"at" >= $whole AND kind IN ({wanted})'),
            _as_sums("hour", facts(before, kinds)),
            _as_sums("hour", facts(after, kinds)),
        )
    )


def entries(where: str) -> str:
    """SQL: ledger entries for which ``where`` holds, with the columns of ``sums_of_entries``."""
    return f'SELECT occurred_at AS "at", {_ENTRY_COLUMNS} FROM ({_entries(where)})'  # noqa: S608


def sums_of_entries(grain: Grain, where: str) -> str:
    """SQL: the sums of ledger entries by hour or day."""
    return f"SELECT \"at\", {_ENTRY_COLUMNS} FROM rollups_{grain} WHERE kind = 'ledger' AND {where}"  # noqa: S608


_ENTRY_COLUMNS: Final = (
    f"tenant_id, agent_id, name, provider, project_id, workflow_id, cost_usd, charges, unpriced, {', '.join(TOKENS)}"
)


_BEGINNING: Final = datetime.min  # noqa: DTZ901 - naive as every time of the warehouse
_END: Final = datetime.max  # noqa: DTZ901


def floor(moment: datetime, length: timedelta) -> datetime:
    """The beginning of the hour (or day) ``moment`` lies in; times are naive UTC."""
    return moment - (moment - _BEGINNING) % length


def next_whole(moment: datetime, length: timedelta) -> datetime:
    """``moment`` if an hour (or a day) begins with it, else the beginning of the next; times are naive UTC."""
    over = (moment - _BEGINNING) % length
    if not over:
        return moment
    return moment + (length - over) if moment < _END - length else _END


_HOURS: Final = f"""
    CREATE OR REPLACE TEMP TABLE new_hours AS
    SELECT date_trunc('hour', occurred_at) AS "at", {_KEYS}, {_BUCKET} AS bucket, count(*) AS events,
        {", ".join(f"sum({name}) AS {name}" for name in (*_COUNTS[1:-1], *TOKENS, "cost_usd"))},
        count(latency_ms) AS latency_count, coalesce(sum(latency_ms), 0) AS latency_sum_ms,
        max(latency_ms) AS latency_max_ms, max(last_at) AS last_at
    FROM ({facts(UNFOLDED)}) GROUP BY ALL
"""  # noqa: S608


def _merging(grain: Grain) -> str:
    """SQL: the new sums of every ``grain`` of time that ``new_hours`` touches."""
    nothing = ", ".join(f"0 AS {name}" for name in (*_COUNTS[:-1], *TOKENS, "cost_usd", "latency_sum_ms"))
    return f"""
        CREATE OR REPLACE TEMP TABLE new_sums AS
        WITH new AS (SELECT * REPLACE (date_trunc('{grain}', "at") AS "at") FROM new_hours),
        old AS (SELECT * FROM rollups_{grain} WHERE "at" IN (SELECT DISTINCT "at" FROM new)),
        every AS (
            SELECT * FROM new
            UNION ALL BY NAME
            SELECT * EXCLUDE (latency_buckets) REPLACE (0 AS latency_count), NULL::SMALLINT AS bucket FROM old
            UNION ALL BY NAME
            SELECT "at", {_KEYS}, entry.bucket AS bucket, entry.count AS latency_count, last_at, {nothing}
            FROM (SELECT *, unnest(latency_buckets) AS entry FROM old)
        ),
        merged AS (SELECT "at", {_KEYS}, bucket, {_SUMS}, max(last_at) AS last_at FROM every GROUP BY "at", {_KEYS}, bucket)
        SELECT "at", {_KEYS}, {_SUMS},
            list_sort(list({{'bucket': bucket, 'count': latency_count}}) FILTER (bucket IS NOT NULL)) AS latency_buckets,
            max(last_at) AS last_at
        FROM merged GROUP BY "at", {_KEYS} ORDER BY "at", kind
    """  # noqa: S608


def positions(connection: duckdb.DuckDBPyConnection) -> dict[str, int]:
    """How far each stream is in the sums: the parameters of ``current``, true within one transaction."""
    found = connection.execute("SELECT stream, sequence FROM folded").fetchall()
    return {f"folded_{stream.lower()}": sequence for stream, sequence in found}


def fold(connection: duckdb.DuckDBPyConnection) -> int:
    """Folds what is stored and not in the sums yet into them, in one transaction of its own; returns how many rows."""
    connection.execute("BEGIN")
    try:
        connection.execute(_HOURS, positions(connection))
        found = connection.execute("SELECT coalesce(sum(events), 0) FROM new_hours").fetchone()
        assert found is not None
        if found[0]:
            for grain in GRAINS:
                connection.execute(_merging(grain))
                connection.execute(f'DELETE FROM rollups_{grain} WHERE "at" IN (SELECT DISTINCT "at" FROM new_sums)')  # noqa: S608
                connection.execute(f"INSERT INTO rollups_{grain} BY NAME SELECT * FROM new_sums")  # noqa: S608
            connection.execute("DROP TABLE new_sums")
            connection.execute(
                "UPDATE folded SET sequence = (SELECT applied_sequence FROM offsets WHERE offsets.stream = folded.stream) "
                "WHERE stream IN (SELECT stream FROM offsets)"
            )
        connection.execute("DROP TABLE new_hours")
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise
    return int(found[0])
