"""Sums per hour and day: what is stored is folded into them from time to time.

Whoever asks reads the sums and the rows stored since together (``current``), so folding changes no answer and may happen
at any moment.
"""

import math
from collections.abc import Collection, Mapping
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
class Source:
    """What stands for name, provider and latency in a table of events."""

    table: str
    kind: str
    name: str = "NULL::VARCHAR"
    provider: str = "NULL::VARCHAR"
    latency: str = "NULL::DOUBLE"
    is_work: bool = False
    """It begins, ends, and may fail."""


SOURCES: Final = (
    Source("runs", "run", "workflow_id", latency="duration_ms", is_work=True),
    Source("steps", "step", "step_type", latency="latency_ms", is_work=True),
    Source("model_calls", "model_call", "model", "provider", "latency_ms", is_work=True),
    Source("tool_calls", "tool_call", "name", latency="latency_ms", is_work=True),
    Source("heartbeats", "heartbeat", "agent_name", "agent_version"),
    Source("agent_events", "agent", "agent_name", "agent_version"),
    Source("policies", "policy"),
    Source("budgets", "budget"),
    Source("alerts_emitted", "alert"),
    Source("faults", "fault"),
    Source("evaluations", "evaluation"),
    Source("metrics", "metric"),
    Source("logs", "log"),
)


FAILED_REQUESTS: Final = "failed_requests"
"""The unit in which a sidecar tells of requests that failed at its proxy, in the samples of ``metric.sampled``."""
_MOST_REQUESTS: Final = 1_000_000
FAILED_IN_ONE: Final = f"least(greatest({{value}}, 0), {_MOST_REQUESTS})::BIGINT"
"""SQL: how many requests a sample speaks of. Anyone may publish one: it may lie, but not overflow a sum."""

MOST: Final = 9_223_372_036_854_775_807
"""A sum past 64 bits, which no real fleet reaches, stays at the most there is."""
UNFOLDED: Final = "stream_sequence > $folded_{stream}"
"""A condition on facts: not in the sums yet."""
ASKED: Final = "$folded_"
"""Marks SQL that needs ``positions`` as parameters."""


@dataclass(frozen=True, slots=True)
class Counts:
    """SQL: what one event counts as."""

    started: str = "0"
    finished: str = "0"
    failed: str = "0"


def counts_of(source: Source) -> Counts:
    """Requests that failed at a sidecar's proxy count as finished and failed; of other kinds what is work counts."""
    if source.is_work:
        return Counts(
            "ends_with(event_type, '.started')::INTEGER",
            "(NOT ends_with(event_type, '.started'))::INTEGER",
            "ends_with(event_type, '.failed')::INTEGER",
        )
    if source.kind == "metric":
        requests = f"[sample.\"value\" FOR sample IN samples IF sample.unit = '{FAILED_REQUESTS}']"
        several = f"coalesce({FAILED_IN_ONE.format(value=f'list_sum({requests})')}, 0)"
        return Counts(finished=several, failed=several)
    return Counts()


def _facts_of(source: Source, where: str) -> str:
    counts = counts_of(source)
    sent, answered = ("input_tokens", "output_tokens") if source.kind == "model_call" else ("0", "0")
    return f"""
        SELECT occurred_at, least(occurred_at, received_at) AS last_at, tenant_id, agent_id, '{source.kind}' AS kind,
            {source.name} AS name, {source.provider} AS provider, NULL::VARCHAR AS project_id, NULL::VARCHAR AS workflow_id,
            {counts.started} AS started, {counts.finished} AS finished, {counts.failed} AS failed,
            coalesce(list_contains(flags, 'late'), false)::INTEGER AS late,
            coalesce({sent}, 0)::BIGINT AS input_tokens, coalesce({answered}, 0)::BIGINT AS output_tokens,
            0::BIGINT AS cache_read_tokens, 0::BIGINT AS cache_write_tokens, 0::DECIMAL(18,9) AS cost_usd, 0 AS charges,
            0 AS unpriced, {source.latency} AS latency_ms
        FROM {source.table} WHERE {where.format(stream="events")}
    """  # noqa: S608


ONE_MORE: Final = "(kind = 'charge' AND reason = 'duplicate_call')"
"""SQL: an entry of one more sighting of a call that another entry stands for."""
SEEN_TWICE: Final = "(reason = 'duplicate_call' AND kind <> 'adjustment')"
"""SQL: an entry that takes one sighting of a call off what is counted: one more sighting, or the reversal of an earlier one."""
CHARGED: Final = "((kind = 'charge')::INTEGER - (reason = 'duplicate_call' AND kind <> 'adjustment')::INTEGER)"
"""SQL: how many calls an entry adds to those charged. What was charged, and taken back as seen twice, is none."""
TOKENS: Final = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens")
ENTRY: Final[Mapping[str, str]] = {
    "entries": "1",
    "charges": CHARGED,
    "unpriced": "((reason = 'unpriced')::INTEGER - (kind = 'reversal' AND priced_as IS NULL)::INTEGER)",
    "cost_usd": "cost_usd",
    **{name: f"coalesce({name}, 0) * {CHARGED}" for name in TOKENS},
}
"""SQL: what one entry of the ledger adds to each sum."""


def _entries(where: str) -> str:
    told = ", ".join(f"{ENTRY[name]} AS {name}" for name in (*TOKENS, "cost_usd", "charges", "unpriced"))
    return f"""
        SELECT occurred_at, least(occurred_at, received_at) AS last_at, tenant_id, agent_id, 'ledger' AS kind, model AS name,
            provider, project_id, workflow_id, 0 AS started, -{SEEN_TWICE}::INTEGER AS finished, 0 AS failed, 0 AS late, {told},
            NULL::DOUBLE AS latency_ms
        FROM ledger WHERE {where.format(stream="ledger")}
    """  # noqa: S608


def facts(where: str, kinds: Collection[str] | None = None) -> str:
    """SQL: one row for each event and ledger entry for which ``where`` holds, in which ``{stream}`` is its stream."""
    every = [_facts_of(source, where) for source in SOURCES if kinds is None or source.kind in kinds]
    if kinds is None or "ledger" in kinds:
        every.append(_entries(where))
    return " UNION ALL ".join(every)


KEYS: Final = "tenant_id, agent_id, kind, name, provider, project_id, workflow_id"
COUNTS: Final = ("events", "started", "finished", "failed", "late", "charges", "unpriced", "latency_count")
SUMS: Final = (
    ", ".join(f"sum({name})::BIGINT AS {name}" for name in COUNTS)
    + "".join(f", least(sum({name}), {MOST})::BIGINT AS {name}" for name in TOKENS)
    + ", sum(cost_usd) AS cost_usd, sum(latency_sum_ms) AS latency_sum_ms"
    + ", max(latency_max_ms) AS latency_max_ms"
)
BUCKET: Final = f"(CASE WHEN latency_ms <= 0.001 THEN {_NOTHING} ELSE ceil(ln(latency_ms) / ln({BASE})) END)::SMALLINT"


def middle_of_bucket(bucket: str) -> str:
    """SQL: a latency that stands for all of its ``bucket``."""
    return f"CASE WHEN {bucket} <= {_NOTHING} THEN 0.0 ELSE pow({BASE}, {bucket}) * 2 / (1 + {BASE}) END"


MIDDLE: Final = middle_of_bucket("bucket")


def middle_of(latency_ms: float) -> float:
    """The latency that stands for the whole bucket ``latency_ms`` falls into."""
    if latency_ms <= 0.001:
        return 0.0
    return float(BASE ** math.ceil(math.log(latency_ms) / math.log(BASE)) * 2 / (1 + BASE))


_COLUMNS: Final = (*COUNTS, *TOKENS, "cost_usd", "latency_sum_ms", "latency_max_ms")


def _as_sums(grain: Grain, rows: str) -> str:
    """SQL: facts in the shape of sums."""
    told = {
        "events": "1", "latency_count": "(latency_ms IS NOT NULL)::INTEGER", "latency_sum_ms": "coalesce(latency_ms, 0)",
        "latency_max_ms": "latency_ms",
    }  # fmt: skip
    return f"""
        SELECT date_trunc('{grain}', occurred_at) AS "at", {KEYS}, {", ".join(told.get(name, name) for name in _COLUMNS)},
            CASE WHEN latency_ms IS NULL THEN NULL ELSE [{{'bucket': {BUCKET}, 'count': 1::BIGINT}}] END, last_at
        FROM ({rows})
    """  # noqa: S608


def _sums(grain: Grain, where: str = "true") -> str:
    return f'SELECT "at", {KEYS}, {", ".join(_COLUMNS)}, latency_buckets, last_at FROM rollups_{grain} WHERE {where}'  # noqa: S608


def current(grain: Grain, kinds: Collection[str] | None = None) -> str:
    """SQL: rows of this grain, several for the same bucket of time and keys, to be summed up by who asks.

    Its parameters are ``positions``, read in the transaction that asks. ``kinds`` (all): what of it is looked for.
    """
    return f"{_sums(grain)} UNION ALL {_as_sums(grain, facts(UNFOLDED, kinds))}"


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


def position_of(stream: str) -> str:
    """The parameter that holds how far ``stream`` is in the sums."""
    return f"folded_{stream.lower()}"


STREAM_OF: Final[Mapping[str, str]] = {**{source.table: "events" for source in SOURCES}, "ledger": "ledger"}
"""The tables whose rows are folded into sums."""


def positions(connection: duckdb.DuckDBPyConnection) -> dict[str, int]:
    """How far each stream is in the sums: the parameters of ``current``, true within one transaction."""
    found = connection.execute("SELECT stream, sequence FROM folded").fetchall()
    return {position_of(stream): sequence for stream, sequence in found}
