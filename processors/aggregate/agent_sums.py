"""Sums of an agent by the hour and day, and when it was last seen: a twentieth of the rows that the sums by name have.

As there, whoever asks reads the sums and the rows stored since together.
"""

from collections.abc import Iterator, Mapping
from typing import Final

from processors.aggregate.rollups import CHARGED, ENTRY, MOST, SEEN_TWICE, SOURCES, TOKENS, Source, counts_of

SKETCHES: Final = {"run": "run_latencies", "model_call": "call_latencies"}
"""The column that holds the latencies of a kind."""
NAMING: Final = ("heartbeat", "agent")
"""Kinds of events that tell an agent's name and version: as name and provider of the sums by name."""

_COUNTS: Final = (
    "events", "finished", "failed", "runs_started", "runs_finished", "runs_failed", "calls_finished", "entries", "charges", "unpriced",
)  # fmt: skip
_BOUNDED: Final = ("call_tokens", *TOKENS)


def _bounded(text: str) -> str:
    return f"least({text}, {MOST})::BIGINT"


SUMS: Final = ", ".join(
    (
        *(f"sum({name})::BIGINT AS {name}" for name in _COUNTS),
        *(f"{_bounded(f'sum({name})')} AS {name}" for name in _BOUNDED),
        "sum(cost_usd) AS cost_usd",
    )
)
"""SQL: several rows of these sums as one."""


def _of(kind: str, text: str) -> str:
    return f"coalesce(sum({text}) FILTER (kind = '{kind}'), 0)"


OF_SUMS_BY_NAME: Final = ", ".join(
    (
        "coalesce(sum(events) FILTER (kind <> 'ledger'), 0)::BIGINT AS events",
        "sum(finished)::BIGINT AS finished",
        "sum(failed)::BIGINT AS failed",
        f"{_of('run', 'started')}::BIGINT AS runs_started",
        f"{_of('run', 'finished')}::BIGINT AS runs_finished",
        f"{_of('run', 'failed')}::BIGINT AS runs_failed",
        # The ledger's tell of calls that were seen twice.
        "coalesce(sum(finished) FILTER (kind IN ('model_call', 'ledger')), 0)::BIGINT AS calls_finished",
        f"{_bounded(_of('ledger', 'input_tokens::HUGEINT + output_tokens'))} AS call_tokens",
        f"{_of('ledger', 'events')}::BIGINT AS entries",
        "sum(charges)::BIGINT AS charges",
        "sum(unpriced)::BIGINT AS unpriced",
        "sum(cost_usd) AS cost_usd",
        *(f"{_bounded(_of('ledger', name))} AS {name}" for name in TOKENS),
    )
)
"""SQL: these sums, of rows as the sums by name have them."""


def _told(source: Source) -> Mapping[str, str]:
    """SQL: what one event adds to each column; to others nothing."""
    counts = counts_of(source)
    told = {"events": "1", "finished": counts.finished, "failed": counts.failed}
    if source.kind == "run":
        told |= {"runs_started": counts.started, "runs_finished": counts.finished, "runs_failed": counts.failed}
    if source.kind == "model_call":
        told["calls_finished"] = counts.finished
    if source.kind in SKETCHES:
        told[SKETCHES[source.kind]] = source.latency
    return {name: text for name, text in told.items() if text != "0"}


_TOLD: Final[Mapping[tuple[str, str], Mapping[str, str]]] = {
    **{(source.table, "events"): _told(source) for source in SOURCES},
    ("ledger", "ledger"): {
        **ENTRY,
        "finished": f"-{SEEN_TWICE}::INTEGER",
        "calls_finished": f"-{SEEN_TWICE}::INTEGER",
        "call_tokens": _bounded(f"(coalesce(input_tokens, 0)::HUGEINT + coalesce(output_tokens, 0)) * {CHARGED}"),
    },
}
"""By table and stream."""


def told() -> Iterator[tuple[str, str, Mapping[str, str]]]:
    """Each table whose rows are folded, its stream, and SQL of what a row adds to each column: of a sketch the latency itself."""
    for (table, stream), columns in _TOLD.items():
        yield table, stream, columns


SEEN_COLUMNS: Final = (
    'tenant_id, agent_id, last_at, named."at" AS name_at, named."text" AS name, versioned."at" AS version_at, '
    'versioned."text" AS version'
)
SEEN: Final = """
    SELECT tenant_id, agent_id, last_at, CASE WHEN name IS NOT NULL THEN {'at': name_at, 'text': name} END AS named,
        CASE WHEN version IS NOT NULL THEN {'at': version_at, 'text': version} END AS versioned
    FROM agents_seen
"""
"""SQL: when each agent was last seen by the last folding; name and version with the moment they were given."""


def latest(seen: str) -> str:
    """SQL: of several rows like those of ``SEEN`` the latest. Of two names given at the same moment it is always the same one."""
    return f"""
        SELECT tenant_id, agent_id, max(last_at) AS last_at, max(named) AS named, max(versioned) AS versioned
        FROM {seen} GROUP BY tenant_id, agent_id
    """  # noqa: S608


TELLING: Final = frozenset(source.table for source in SOURCES if source.kind in NAMING)


def telling(table: str, where: str) -> str:
    """SQL: the same of the rows of ``table``, one of ``TELLING``, for which ``where`` holds."""
    at = "max(least(occurred_at, received_at))"
    return f"""
        SELECT tenant_id, agent_id, {at} AS last_at,
            CASE WHEN agent_name IS NOT NULL THEN {{'at': {at}, 'text': agent_name}} END AS named,
            CASE WHEN agent_version IS NOT NULL THEN {{'at': {at}, 'text': agent_version}} END AS versioned
        FROM {table} WHERE {where} GROUP BY tenant_id, agent_id, agent_name, agent_version
    """  # noqa: S608
