"""``fleet``: one row an agent, from the sums."""

from collections.abc import Collection, Iterator, Mapping
from datetime import datetime, timedelta
from typing import Final

from processors.aggregate import agent_sums
from processors.aggregate.asking import Conditions, Question, naive
from processors.aggregate.rollups import BUCKET, MOST, UNFOLDED, middle_of_bucket, next_whole
from schemas.queries import FleetParams

_SEEN: Final = ("last_at", "named", "versioned")
_FIGURES: Final = ("runs_started", "runs_finished", "runs_failed", "cost_usd", "call_tokens")
_RUNS: Final = "run_latencies"
_CALLS: Final = "call_latencies"
_COLUMNS: Final = (*_SEEN, *_FIGURES, _RUNS, "run_sketch")
_SUMMED: Final = '"at" >= $whole AND "at" < $beyond'
_BEFORE: Final = "occurred_at >= $since AND occurred_at < $whole"
_RECENT: Final = "occurred_at >= $whole AND occurred_at < $beyond"


def fleet(params: FleetParams, now: datetime) -> Question:
    """Every agent ever seen. Figures are of the last 24 hours.

    ``runs_24h`` and ``failures_24h`` count runs. Latency is that of runs; of model calls for agents that report none.
    """
    given = Conditions().equal(tenant_id=params.tenant)
    begun, hour = naive(now) - timedelta(hours=24), timedelta(hours=1)
    # Hours that begin later are of clocks that run ahead.
    whole, beyond = next_whole(begun, hour), next_whole(naive(now) + timedelta(microseconds=1), hour)
    return Question(
        lambda tables: _sql(given.text(), tables), {**given.parameters, "since": begun, "whole": whole, "beyond": beyond}
    )


def _rows(source: str, told: Mapping[str, str]) -> str:
    """SQL: rows of ``source`` with what is ``told``, nothing in the other columns."""
    values = ", ".join(f"{told.get(name, 'NULL')} AS {name}" for name in _COLUMNS)
    return f"SELECT tenant_id, agent_id, {values} FROM {source}"  # noqa: S608


def _every(where: str, tables: Collection[str]) -> Iterator[str]:
    """SQL: everything there is to tell of any agent.

    Each table once: what a query costs is the number of tables it reads, in planning as in reading, far more than their rows.
    """
    yield _rows(f"({agent_sums.SEEN} WHERE {where})", {name: name for name in _SEEN})
    sums = {name: name for name in _FIGURES} | {"run_sketch": _RUNS}
    yield _rows(f"agents_hour WHERE {_SUMMED} AND {where}", sums)
    wanted = {*_FIGURES, _RUNS}
    for table, stream, told in agent_sums.told():
        own = {name: text for name, text in told.items() if name in wanted}
        if own:
            yield _rows(f"{table} WHERE {_BEFORE} AND {where}", own)
        if table in tables:
            unfolded = f"{UNFOLDED.format(stream=stream)} AND {where}"
            if table in agent_sums.TELLING:
                yield _rows(f"({agent_sums.telling(table, unfolded)})", {name: name for name in _SEEN})
            else:
                recent = {name: f"CASE WHEN {_RECENT} THEN {text} END" for name, text in own.items()}
                yield _rows(f"{table} WHERE {unfolded}", recent | {"last_at": "least(occurred_at, received_at)"})


def _calls(where: str, tables: Collection[str]) -> str:
    """SQL: sketches and latencies of model calls of agents that report no runs: where there is none of them, nothing is read."""
    parts = [
        f"SELECT tenant_id, agent_id, {_CALLS} AS sketch, NULL::DOUBLE AS latency_ms FROM agents_hour WHERE {_SUMMED} AND {where}"  # noqa: S608
    ]
    for table, stream, told in agent_sums.told():
        if _CALLS in told:
            row = f"SELECT tenant_id, agent_id, NULL, {told[_CALLS]} FROM {table} WHERE {where} AND"  # noqa: S608
            parts.append(f"{row} {_BEFORE}")
            if table in tables:
                parts.append(f"{row} {UNFOLDED.format(stream=stream)} AND {_RECENT}")
    return f"SELECT * FROM ({' UNION ALL '.join(parts)}) SEMI JOIN without_runs USING (tenant_id, agent_id)"  # noqa: S608


def _sql(where: str, tables: Collection[str]) -> str:
    one = f"[{{'bucket': {BUCKET}, 'count': 1::BIGINT}}]"
    return f"""
        WITH agents AS MATERIALIZED (
            SELECT tenant_id, agent_id, max(last_at) AS last_at, max(named) FILTER (named IS NOT NULL) AS named,
                max(versioned) FILTER (versioned IS NOT NULL) AS versioned,
                {", ".join(f"sum({name}) AS {name}" for name in _FIGURES)},
                flatten(list(run_sketch) FILTER (run_sketch IS NOT NULL)) AS run_sketches,
                list({_RUNS}) FILTER ({_RUNS} IS NOT NULL) AS {_RUNS}
            FROM ({" UNION ALL ".join(_every(where, tables))}) GROUP BY tenant_id, agent_id
        ),
        without_runs AS (SELECT tenant_id, agent_id FROM agents WHERE run_sketches IS NULL AND {_RUNS} IS NULL),
        timed AS (
            SELECT tenant_id, agent_id, unnest(run_sketches) AS entry FROM agents
            UNION ALL
            SELECT tenant_id, agent_id, {{'bucket': {BUCKET}, 'count': 1::BIGINT}}
            FROM (SELECT tenant_id, agent_id, unnest({_RUNS}) AS latency_ms FROM agents)
            UNION ALL
            SELECT tenant_id, agent_id, unnest(CASE WHEN latency_ms IS NULL THEN sketch ELSE {one} END) AS entry
            FROM ({_calls(where, tables)})
        ),
        -- One window over all of them: a window for each agent takes six times as long.
        heights AS (
            SELECT *, (sum(number) OVER (ORDER BY tenant_id, agent_id, bucket ROWS UNBOUNDED PRECEDING))::BIGINT AS upto FROM (
                SELECT tenant_id, agent_id, entry.bucket AS bucket, sum(entry.count)::BIGINT AS number FROM timed
                GROUP BY tenant_id, agent_id, entry.bucket
            )
        ),
        latencies AS (
            SELECT tenant_id, agent_id, list({{'bucket': bucket, 'upto': upto}}) AS heights, min(upto - number) AS below,
                max(upto) - min(upto - number) AS total
            FROM heights GROUP BY tenant_id, agent_id
        ),
        percentiles AS (
            SELECT tenant_id, agent_id, list_min([height.bucket FOR height IN heights IF (height.upto - below) * 2 >= total]) AS p50,
                list_min([height.bucket FOR height IN heights IF (height.upto - below) * 20 >= total * 19]) AS p95
            FROM latencies
        )
        SELECT tenant_id, agent_id, named."text" AS name, versioned."text" AS version, last_at AS last_seen,
            coalesce(greatest(runs_started, runs_finished), 0)::BIGINT AS runs_24h, coalesce(runs_failed, 0)::BIGINT AS failures_24h,
            coalesce(cost_usd, 0)::DECIMAL(38,9) AS cost_usd_24h, least(coalesce(call_tokens, 0), {MOST})::BIGINT AS tokens_24h,
            {middle_of_bucket("p50")} AS latency_p50_ms, {middle_of_bucket("p95")} AS latency_p95_ms
        FROM agents LEFT JOIN percentiles USING (tenant_id, agent_id) ORDER BY tenant_id, agent_id
    """  # noqa: S608
