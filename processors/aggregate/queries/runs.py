"""``runs``: what run events say, joined with what their calls and the ledger say."""

from datetime import datetime, timedelta
from typing import Final

from processors.aggregate.asking import Conditions, Question, span
from processors.aggregate.rollups import SEEN_TWICE
from schemas.queries import RunsParams

_LONGEST: Final = timedelta(days=1)
"""Events of a run are looked for so long before the range asked for: a run that began earlier is not of the range."""

_WORK: Final = " UNION ALL ".join(
    f"SELECT tenant_id, run_id, agent_id, workflow_id, trace_id, occurred_at, {latency} AS latency_ms FROM {table} "  # noqa: S608
    "WHERE run_id IS NOT NULL AND occurred_at >= $earliest"
    for table, latency in (("steps", "latency_ms"), ("model_calls", "latency_ms"), ("tool_calls", "latency_ms"))
)


def runs(params: RunsParams, now: datetime) -> Question:
    """Newest first. A run known by its steps and calls alone has status ``unknown``; its end is that of the last of them."""
    since, until = span(params.since, params.until, now)
    earliest = since - min(_LONGEST, since - datetime(1, 1, 1))  # noqa: DTZ001
    given = Conditions({"since": since, "until": until, "earliest": earliest})
    given.add("started_at >= $since AND started_at < $until")
    given.equal(tenant_id=params.tenant, agent_id=params.agent, status=params.status)
    if params.search is not None:
        given.add(
            "(contains(lower(run_id), $search) OR contains(lower(agent_id), $search) OR contains(lower(workflow_id), $search))",
            search=params.search.lower(),
        )
    sql = f"""
        WITH told AS (
            SELECT tenant_id, run_id, arg_min(agent_id, occurred_at) AS agent_id, arg_max(workflow_id, occurred_at) AS workflow_id,
                arg_max(trace_id, occurred_at) AS trace_id, min(occurred_at) AS first_at,
                min(occurred_at) FILTER (event_type = 'run.started') AS began_at,
                max(occurred_at) FILTER (event_type <> 'run.started') AS ended_at,
                max(duration_ms) AS told_ms,
                coalesce(arg_max(CASE event_type WHEN 'run.failed' THEN 'failed' ELSE 'completed' END, occurred_at)
                    FILTER (event_type <> 'run.started'), 'running') AS status,
                arg_max(error_type, occurred_at) AS error_type, arg_max(error_message, occurred_at) AS error_message
            FROM runs WHERE run_id IS NOT NULL AND occurred_at >= $earliest GROUP BY tenant_id, run_id
        ),
        untold AS (
            SELECT tenant_id, run_id, arg_min(agent_id, occurred_at) AS agent_id, arg_max(workflow_id, occurred_at) AS workflow_id,
                arg_max(trace_id, occurred_at) AS trace_id,
                min(occurred_at - to_microseconds(coalesce(latency_ms * 1000, 0)::BIGINT)) AS started_at,
                max(occurred_at) AS ended_at
            FROM ({_WORK}) AS work ANTI JOIN told USING (tenant_id, run_id) GROUP BY tenant_id, run_id
        ),
        known AS (
            SELECT tenant_id, run_id, agent_id, workflow_id, status,
                coalesce(began_at, ended_at - to_microseconds((told_ms * 1000)::BIGINT), first_at) AS started_at, ended_at,
                told_ms, error_type, error_message, trace_id
            FROM told
            UNION ALL
            SELECT tenant_id, run_id, agent_id, workflow_id, 'unknown', started_at, ended_at, NULL, NULL, NULL, trace_id FROM untold
        ),
        page AS (
            SELECT * FROM known WHERE {given.text()} ORDER BY started_at DESC, tenant_id, run_id LIMIT $limit OFFSET $offset
        ),
        models AS (
            SELECT tenant_id, run_id, count(*) AS model_calls, sum(input_tokens)::BIGINT AS input_tokens,
                sum(output_tokens)::BIGINT AS output_tokens
            FROM model_calls SEMI JOIN page USING (tenant_id, run_id)
                -- Of a call that was seen twice the sighting that stands.
                ANTI JOIN (
                    SELECT tenant_id, event_id::UUID AS event_id FROM ledger SEMI JOIN page USING (tenant_id, run_id)
                    WHERE occurred_at >= $earliest AND {SEEN_TWICE}
                ) AS twice USING (tenant_id, event_id)
            WHERE occurred_at >= $earliest GROUP BY tenant_id, run_id
        ),
        tools AS (
            SELECT tenant_id, run_id, count(*) AS tool_calls
            FROM tool_calls SEMI JOIN page USING (tenant_id, run_id) WHERE occurred_at >= $earliest GROUP BY tenant_id, run_id
        ),
        spent AS (
            SELECT tenant_id, run_id, sum(cost_usd) AS cost_usd
            FROM ledger SEMI JOIN page USING (tenant_id, run_id) WHERE occurred_at >= $earliest GROUP BY tenant_id, run_id
        )
        SELECT run_id, tenant_id, agent_id, workflow_id, status, started_at, ended_at,
            coalesce(told_ms, date_diff('microsecond', started_at, ended_at) / 1000.0) AS duration_ms,
            coalesce(model_calls, 0) AS model_calls, coalesce(tool_calls, 0) AS tool_calls,
            coalesce(input_tokens, 0) AS input_tokens, coalesce(output_tokens, 0) AS output_tokens,
            coalesce(cost_usd, 0)::DECIMAL(38,9) AS cost_usd, error_type, error_message, trace_id
        FROM page LEFT JOIN models USING (tenant_id, run_id) LEFT JOIN tools USING (tenant_id, run_id)
            LEFT JOIN spent USING (tenant_id, run_id)
        ORDER BY started_at DESC, tenant_id, run_id
    """  # noqa: S608
    return Question(sql, given.parameters)
