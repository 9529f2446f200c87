"""``fleet``: one row an agent, from the sums."""

from datetime import datetime, timedelta

from processors.aggregate.asking import Conditions, Question, naive
from processors.aggregate.rollups import MIDDLE, current, next_whole, since
from schemas.queries import FleetParams


def fleet(params: FleetParams, now: datetime) -> Question:
    """Every agent ever seen. Figures are of the last 24 hours.

    ``runs_24h`` and ``failures_24h`` count runs. Latency is that of runs; of model calls for agents that report none.
    """
    given = Conditions().equal(tenant_id=params.tenant)
    begun = naive(now) - timedelta(hours=24)
    sql = f"""
        WITH days AS (SELECT * FROM ({current("day")}) WHERE {given.text()}),
        hours AS (SELECT * FROM ({since(("run", "model_call", "ledger"))}) WHERE {given.text()} AND "at" <= $now),
        seen AS (
            SELECT tenant_id, agent_id, max(last_at) AS last_seen,
                arg_max(name, last_at) FILTER (kind IN ('heartbeat', 'agent') AND name IS NOT NULL) AS name,
                arg_max(provider, last_at) FILTER (kind IN ('heartbeat', 'agent') AND provider IS NOT NULL) AS version
            FROM days GROUP BY tenant_id, agent_id
        ),
        figures AS (
            SELECT tenant_id, agent_id,
                greatest(
                    sum(started) FILTER (kind = 'run'), sum(finished) FILTER (kind = 'run')
                )::BIGINT AS runs_24h,
                (sum(failed) FILTER (kind = 'run'))::BIGINT AS failures_24h,
                sum(cost_usd) AS cost_usd_24h,
                (sum(input_tokens + output_tokens) FILTER (kind = 'model_call'))::BIGINT AS tokens_24h
            FROM hours GROUP BY tenant_id, agent_id
        ),
        sketches AS (
            SELECT tenant_id, agent_id, kind, entry.bucket AS bucket, sum(entry.count) AS number
            FROM (SELECT tenant_id, agent_id, kind, unnest(latency_buckets) AS entry FROM hours WHERE kind IN ('run', 'model_call'))
            GROUP BY ALL
        ),
        heights AS (
            SELECT *, sum(number) OVER (PARTITION BY tenant_id, agent_id, kind ORDER BY bucket) AS upto,
                sum(number) OVER (PARTITION BY tenant_id, agent_id, kind) AS total
            FROM sketches
        ),
        latencies AS (
            SELECT tenant_id, agent_id, kind, min({MIDDLE}) FILTER (upto >= 0.5 * total) AS p50,
                min({MIDDLE}) FILTER (upto >= 0.95 * total) AS p95
            FROM heights GROUP BY tenant_id, agent_id, kind
        ),
        chosen AS (
            SELECT tenant_id, agent_id, arg_max(p50, kind) AS latency_p50_ms, arg_max(p95, kind) AS latency_p95_ms
            FROM latencies GROUP BY tenant_id, agent_id
        )
        SELECT seen.tenant_id, seen.agent_id, seen.name, seen.version, seen.last_seen,
            coalesce(runs_24h, 0) AS runs_24h, coalesce(failures_24h, 0) AS failures_24h,
            coalesce(cost_usd_24h, 0)::DECIMAL(38,9) AS cost_usd_24h, coalesce(tokens_24h, 0) AS tokens_24h,
            latency_p50_ms, latency_p95_ms
        FROM seen LEFT JOIN figures USING (tenant_id, agent_id) LEFT JOIN chosen USING (tenant_id, agent_id)
        ORDER BY tenant_id, agent_id
    """  # noqa: S608
    whole = next_whole(begun, timedelta(hours=1))
    return Question(sql, {**given.parameters, "since": begun, "whole": whole, "now": naive(now)})
