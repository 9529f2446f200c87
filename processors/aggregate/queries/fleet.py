"""``fleet``: one row an agent, from the sums, which are read once, and the rows stored since."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from processors.aggregate import agent_sums
from processors.aggregate.asking import Kept, Question, View, naive
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
    """Every agent up to ``reached`` in each stream, what is told of each, in order, and where it stands among these."""

    agents: Mapping[Key, Agent]
    rows: Sequence[tuple[Any, ...]]
    places: Mapping[Key, int]
    reached: Mapping[str, int]


@dataclass(slots=True)
class _Newest:
    """What the sums say, and what was told last: a question need not read what another has read."""

    of_sums: _Fleet
    told: _Fleet


def _told(view: View, range_: _Range, tenant: str | None) -> list[tuple[Any, ...]]:
    newest: _Newest = view.kept(Kept("fleet", (range_.since, range_.whole, range_.beyond), lambda view: _made(view, range_)))
    applied, known = view.applied(), newest.told
    if any(known.reached[name] > applied[name] for name in applied):
        # Another's snapshot is newer than this one.
        known = newest.of_sums
    told = _with_news(view, known, applied, range_)
    newest.told = told
    return list(told.rows) if tenant is None else [row for row in told.rows if row[0] == tenant]


def _with_news(view: View, known: _Fleet, applied: Mapping[str, int], range_: _Range) -> _Fleet:
    """With what was stored after ``known`` up to ``applied``."""
    tables = view.beyond(known.reached)
    if not tables:
        return known
    parameters = {**range_.parameters, **known.reached, **{f"{name}_up_to": sequence for name, sequence in applied.items()}}
    news: dict[Key, list[Sequence[Any]]] = {}
    for tenant_id, agent_id, *told in view.rows(" UNION ALL ".join(_stored_since(tables)), parameters):
        news.setdefault((tenant_id, agent_id), []).append(told)
    touched = {key: known.agents.get(key, UNKNOWN).with_rows(several) for key, several in news.items()}
    lacking = {key for key, agent in touched.items() if not agent.runs}
    if lacking and "model_calls" in tables:
        for tenant_id, agent_id, buckets in view.rows(_CALLS_SINCE, parameters):
            key = (tenant_id, agent_id)
            if key in lacking:
                touched[key] = touched[key].with_calls(buckets)
    return _renewed(known, touched, applied)


def _renewed(known: _Fleet, touched: Mapping[Key, Agent], reached: Mapping[str, int]) -> _Fleet:
    """With ``touched`` in the place of what was known of them."""
    rows = list(known.rows)
    new = []
    for key, agent in touched.items():
        place = known.places.get(key)
        if place is None:
            new.append(row(key, agent))
            continue
        before = known.agents[key]
        # Where no latency was told since, they are those told before.
        percentiles = rows[place][-2:] if agent.runs is before.runs and agent.calls is before.calls else None
        rows[place] = row(key, agent, percentiles)
    agents = {**known.agents, **touched}
    if not new:
        return _Fleet(agents, rows, known.places, reached)
    rows = sorted([*rows, *new], key=lambda row: row[:2])
    return _Fleet(agents, rows, {row[:2]: place for place, row in enumerate(rows)}, reached)


def _made(view: View, range_: _Range) -> _Newest:
    """Of what the sums hold of each agent, and the rows in them of the part of an hour at the beginning."""
    hours: Mapping[Key, Agent] = view.kept(Kept("fleet hours", (range_.whole, range_.beyond), lambda view: _hours(view, range_)))
    begun: dict[Key, list[Sequence[Any]]] = {}
    for tenant_id, agent_id, *told in view.rows(_BEGUN, range_.parameters):
        begun.setdefault((tenant_id, agent_id), []).append(told)
    agents = {key: agent.with_edge(begun[key]) if key in begun else agent for key, agent in hours.items()}
    fleet_ = _renewed(_Fleet({}, (), {}, view.folded), agents, view.folded)
    return _Newest(fleet_, fleet_)


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
        within = f"{_BEFORE} AND stream_sequence <= $folded_{stream}"
        if any(name in FIGURES for name in told):
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


def _unfolded(stream: str) -> str:
    """SQL: stored since, up to what is known to be applied."""
    return f"{UNFOLDED.format(stream=stream)} AND stream_sequence <= $folded_{stream}_up_to"


def _stored_since(tables: Collection[str]) -> Iterator[str]:
    """SQL, by agent: rows of ``tables`` that are new.

    Each table is grouped by itself. What this costs is the number of tables it reads, in planning as in reading, more than their rows.
    """
    for table, stream, told in agent_sums.told():
        if table not in tables:
            continue
        if table in agent_sums.TELLING:
            yield (
                'SELECT tenant_id, agent_id, last_at, named."at", named."text", versioned."at", versioned."text", '  # noqa: S608
                f"{_told_of({})}, NULL::SMALLINT[] FROM ({agent_sums.telling(table, _unfolded(stream))})"
            )
            continue
        recent = f"sum({{}}) FILTER ({_RECENT})"
        buckets = f"list({bucket_of(told[_RUNS])}) FILTER ({_RECENT} AND {told[_RUNS]} IS NOT NULL)" if _RUNS in told else "NULL"
        yield (
            f"SELECT tenant_id, agent_id, max(least(occurred_at, received_at)), {_NOT_NAMED}, {_told_of(told, recent)}, "  # noqa: S608
            f"{buckets} FROM {table} WHERE {_unfolded(stream)} GROUP BY tenant_id, agent_id"
        )


_CALLS_SINCE: Final = f"""
    SELECT tenant_id, agent_id, list({bucket_of("latency_ms")}) FROM model_calls
    WHERE {_unfolded("events")} AND {_RECENT} AND latency_ms IS NOT NULL GROUP BY tenant_id, agent_id
"""  # noqa: S608
"""SQL: buckets of model calls that are new."""
