"""``fleet``: one row an agent, from the sums, which are read once, and the rows stored since."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from processors.aggregate import agent_sums
from processors.aggregate.asking import Conditions, Kept, Question, View, naive
from processors.aggregate.queries.agent_figures import FIGURES, UNKNOWN, Agent, row
from processors.aggregate.rollups import UNFOLDED, bucket_of, floor, next_whole
from schemas.queries import FleetParams

_COLUMNS: Final = (
    "tenant_id", "agent_id", "name", "version", "last_seen", "runs_24h", "failures_24h", "cost_usd_24h", "tokens_24h",
    "latency_p50_ms", "latency_p95_ms",
)  # fmt: skip
_RUNS: Final = agent_sums.SKETCHES["run"]
_CALLS: Final = agent_sums.SKETCHES["model_call"]
_TYPES: Final = {"cost_usd": "DECIMAL(38,9)"}
_SUMMED: Final = '"at" >= $whole AND "at" < $beyond'
_BEFORE: Final = "occurred_at >= $since AND occurred_at < $whole"
_RECENT: Final = "occurred_at >= $since AND occurred_at < $beyond"

Key = tuple[str, str]


def fleet(params: FleetParams, now: datetime) -> Question:
    """Every agent ever seen. Figures are of the last 24 hours, from a whole minute on.

    ``runs_24h`` and ``failures_24h`` count runs. Latency is that of runs; of model calls for agents that report none.
    """
    moment, hour = naive(now), timedelta(hours=1)
    since = floor(moment - timedelta(hours=24), timedelta(minutes=1))
    # Hours that begin later than now are of clocks that run ahead.
    range_ = _Range(since, next_whole(since, hour), next_whole(moment + timedelta(microseconds=1), hour))
    return Question(columns=_COLUMNS, composed=lambda view: _told(view, range_, params.tenant))


@dataclass(frozen=True, slots=True)
class _Range:
    """Sums of the hours from ``whole`` up to ``beyond``, and rows of the part of an hour from ``since`` on."""

    since: datetime
    whole: datetime
    beyond: datetime

    @property
    def parameters(self) -> Mapping[str, Any]:
        return {"since": self.since, "whole": self.whole, "beyond": self.beyond}


@dataclass(frozen=True, slots=True)
class _Fleet:
    """Every agent in the sums, in order, and what would be told of it if nothing were stored since."""

    agents: Mapping[Key, Agent]
    rows: tuple[tuple[Any, ...], ...]
    places: Mapping[Key, int]


def _told(view: View, range_: _Range, tenant: str | None) -> list[tuple[Any, ...]]:
    fleet_: _Fleet = view.kept(Kept("fleet", (range_.since, range_.whole, range_.beyond), lambda view: _of_sums(view, range_)))
    given = Conditions(dict(range_.parameters)).equal(tenant_id=tenant)
    news: dict[Key, list[Sequence[Any]]] = {}
    statement = " UNION ALL ".join(_stored_since(view, given.text()))
    if statement:
        for tenant_id, agent_id, *told in view.rows(statement, given.parameters):
            news.setdefault((tenant_id, agent_id), []).append(told)
    touched = {key: fleet_.agents.get(key, UNKNOWN).with_rows(several) for key, several in news.items()}
    lacking = {key for key, agent in touched.items() if not agent.runs}
    if lacking and "model_calls" in view.tables:
        for tenant_id, agent_id, buckets in view.rows(_calls_since(given.text()), given.parameters):
            key = (tenant_id, agent_id)
            if key in lacking:
                touched[key] = touched[key].with_calls(buckets)
    rows = list(fleet_.rows)
    new = []
    for key, agent in touched.items():
        place = fleet_.places.get(key)
        if place is None:
            new.append(row(key, agent))
            continue
        before = fleet_.agents[key]
        # Where no latency was told since, they are those told before.
        known = rows[place][-2:] if agent.runs is before.runs and agent.calls is before.calls else None
        rows[place] = row(key, agent, known)
    if new:
        rows = sorted([*rows, *new], key=lambda row: row[:2])
    return rows if tenant is None else [row for row in rows if row[0] == tenant]


def _of_sums(view: View, range_: _Range) -> _Fleet:
    """What the sums hold of each agent, and the rows in them of the part of an hour at the beginning."""
    hours: Mapping[Key, Agent] = view.kept(Kept("fleet hours", (range_.whole, range_.beyond), lambda view: _hours(view, range_)))
    begun: dict[Key, list[Sequence[Any]]] = {}
    for tenant_id, agent_id, *told in view.rows(_BEGUN, range_.parameters):
        begun.setdefault((tenant_id, agent_id), []).append(told)
    agents = {key: agent.with_edge(begun[key]) if key in begun else agent for key, agent in hours.items()}
    order = sorted(agents)
    return _Fleet(agents, tuple(row(key, agents[key]) for key in order), {key: place for place, key in enumerate(order)})


def _hours(view: View, range_: _Range) -> Mapping[Key, Agent]:
    return {(tenant_id, agent_id): Agent.of_sums(told) for tenant_id, agent_id, *told in view.rows(_HOURS, range_.parameters)}


_HOURS: Final = f"""
    WITH sums AS MATERIALIZED (
        SELECT row_number() OVER () AS id, tenant_id, agent_id, {", ".join(f"sum({name}) AS {name}" for name in FIGURES)},
            flatten(list({_RUNS}) FILTER ({_RUNS} IS NOT NULL)) AS runs,
            flatten(list({_CALLS}) FILTER ({_CALLS} IS NOT NULL)) AS calls
        FROM agents_hour WHERE {_SUMMED} GROUP BY tenant_id, agent_id
    ),
    sketches AS (
        SELECT id, list(bucket) AS buckets, list(number) AS numbers FROM (
            SELECT id, entry.bucket AS bucket, sum(entry.count)::BIGINT AS number
            FROM (SELECT id, unnest(coalesce(runs, calls)) AS entry FROM sums) GROUP BY id, entry.bucket
        ) GROUP BY id
    )
    SELECT tenant_id, agent_id, last_at, name_at, name, version_at, version, {", ".join(FIGURES)}, runs IS NOT NULL, buckets, numbers
    FROM agents_seen FULL JOIN sums USING (tenant_id, agent_id) LEFT JOIN sketches USING (id)
"""  # noqa: S608
"""SQL: an agent's row of ``agents_seen`` and its sums; its sketch is of runs, else of model calls."""


def _told_of(columns: Mapping[str, str], template: str = "sum({})") -> str:
    """SQL: the figures a group of rows adds, of the ``columns`` its table tells."""
    return ", ".join(
        template.format(columns[name]) if name in columns else f"NULL::{_TYPES.get(name, 'HUGEINT')}" for name in FIGURES
    )


def _begun() -> Iterator[str]:
    """SQL, by agent and bucket: rows in the sums, of the part of an hour the range begins with.

    Each tells whether its bucket is of runs. Calls of agents that have runs in the sums have none.
    """
    for table, stream, told in agent_sums.told():
        if not any(name in FIGURES for name in told):
            continue
        within = f"{_BEFORE} AND stream_sequence <= $folded_{stream}"
        bucket = bucket_of(told[_RUNS]) if _RUNS in told else "NULL::SMALLINT"
        yield (
            f"SELECT tenant_id, agent_id, {_RUNS in told}, {bucket} AS bucket, count(*), {_told_of(told)} "  # noqa: S608
            f"FROM {table} WHERE {within} GROUP BY tenant_id, agent_id, bucket"
        )
        if _CALLS in told:
            yield (
                f"SELECT tenant_id, agent_id, false, {bucket_of(told[_CALLS])} AS bucket, count(*), {_told_of({})} "  # noqa: S608
                f"FROM {table} ANTI JOIN (SELECT tenant_id, agent_id FROM agents_hour WHERE {_SUMMED} AND {_RUNS} IS NOT NULL) "
                f"USING (tenant_id, agent_id) WHERE {within} AND {told[_CALLS]} IS NOT NULL GROUP BY tenant_id, agent_id, bucket"
            )


_BEGUN: Final = " UNION ALL ".join(_begun())
_NOT_NAMED: Final = "NULL::TIMESTAMP, NULL::VARCHAR, NULL::TIMESTAMP, NULL::VARCHAR"


def _stored_since(view: View, where: str) -> Iterator[str]:
    """SQL, by agent: rows that are not in the sums.

    Each table is grouped by itself. What this costs is the number of tables it reads, in planning as in reading, more than their rows.
    """
    for table, stream, told in agent_sums.told():
        if table not in view.tables:
            continue
        unfolded = f"{UNFOLDED.format(stream=stream)} AND {where}"
        if table in agent_sums.TELLING:
            yield (
                'SELECT tenant_id, agent_id, last_at, named."at", named."text", versioned."at", versioned."text", '  # noqa: S608
                f"{_told_of({})}, NULL::SMALLINT[] FROM ({agent_sums.telling(table, unfolded)})"
            )
            continue
        recent = f"sum({{}}) FILTER ({_RECENT})"
        buckets = f"list({bucket_of(told[_RUNS])}) FILTER ({_RECENT} AND {told[_RUNS]} IS NOT NULL)" if _RUNS in told else "NULL"
        yield (
            f"SELECT tenant_id, agent_id, max(least(occurred_at, received_at)), {_NOT_NAMED}, {_told_of(told, recent)}, "  # noqa: S608
            f"{buckets} FROM {table} WHERE {unfolded} GROUP BY tenant_id, agent_id"
        )


def _calls_since(where: str) -> str:
    """SQL: buckets of model calls that are not in the sums."""
    (latency,) = (told[_CALLS] for _, _, told in agent_sums.told() if _CALLS in told)
    return f"""
        SELECT tenant_id, agent_id, list({bucket_of(latency)}) FROM model_calls
        WHERE {UNFOLDED.format(stream="events")} AND {_RECENT} AND {where} AND {latency} IS NOT NULL GROUP BY tenant_id, agent_id
    """  # noqa: S608
