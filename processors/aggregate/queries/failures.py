"""``failures``: failed runs, steps, model and tool calls, one by one or grouped; requests that failed at a sidecar's proxy, by cause."""

from datetime import datetime
from typing import Final

from processors.aggregate.asking import Question, within
from processors.aggregate.rollups import FAILED_IN_ONE, FAILED_REQUESTS
from schemas.queries import FailuresParams

_NAMES: Final = {
    "runs": ("run", "workflow_id"),
    "steps": ("step", "coalesce(name, step_type)"),
    "model_calls": ("model_call", "model"),
    "tool_calls": ("tool_call", "name"),
}


_REQUESTS: Final = f"""
    SELECT occurred_at, tenant_id, agent_id, NULL::VARCHAR AS run_id, 'request' AS kind, split_part(cause, ': ', 2) AS name,
        split_part(cause, ': ', 1) AS error_type, array_to_string(string_split(cause, ': ')[3:], ': ') AS error_message,
        event_id::VARCHAR AS event_id, count
    FROM (
        SELECT *, sample."name" AS cause, {FAILED_IN_ONE.format(value='sample."value"')} AS count
        FROM (SELECT occurred_at, tenant_id, agent_id, event_id, unnest(samples) AS sample FROM metrics WHERE {{where}})
        WHERE sample.unit = '{FAILED_REQUESTS}'
    )
"""  # noqa: S608


def failures(params: FailuresParams, now: datetime) -> Question:
    """Newest first; grouped: the most frequent first."""
    given = within(params.since, params.until, now).equal(tenant_id=params.tenant, agent_id=params.agent)
    failed = " UNION ALL ".join(
        f"SELECT occurred_at, tenant_id, agent_id, run_id, '{kind}' AS kind, {name} AS name, error_type, error_message, "  # noqa: S608
        f"event_id::VARCHAR AS event_id, 1::BIGINT AS count FROM {table} WHERE event_type LIKE '%.failed' AND {given.text()}"
        for table, (kind, name) in _NAMES.items()
    )
    failed += f" UNION ALL {_REQUESTS.format(where=given.text())}"
    if not params.grouped:
        return Question(f"SELECT * FROM ({failed}) ORDER BY occurred_at DESC, event_id", given.parameters)  # noqa: S608
    sql = f"""
        SELECT error_type, agent_id, kind, sum(count)::BIGINT AS count, min(occurred_at) AS first_at, max(occurred_at) AS last_at,
            arg_max(error_message, occurred_at) AS sample_message, arg_max(run_id, occurred_at) AS sample_run_id
        FROM ({failed}) GROUP BY error_type, agent_id, kind ORDER BY count DESC, last_at DESC, error_type, agent_id, kind
    """  # noqa: S608
    return Question(sql, given.parameters)
