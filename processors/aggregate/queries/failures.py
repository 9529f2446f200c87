"""``failures``: failed runs, steps, model and tool calls, one by one or grouped."""

from datetime import datetime
from typing import Final

from processors.aggregate.asking import Question, within
from schemas.queries import FailuresParams

_NAMES: Final = {
    "runs": ("run", "workflow_id"),
    "steps": ("step", "coalesce(name, step_type)"),
    "model_calls": ("model_call", "model"),
    "tool_calls": ("tool_call", "name"),
}


def failures(params: FailuresParams, now: datetime) -> Question:
    """Newest first; grouped: the most frequent first."""
    given = within(params.since, params.until, now).equal(tenant_id=params.tenant, agent_id=params.agent)
    failed = " UNION ALL ".join(
        f"SELECT occurred_at, tenant_id, agent_id, run_id, '{kind}' AS kind, {name} AS name, error_type, error_message, "  # noqa: S608
        f"event_id::VARCHAR AS event_id FROM {table} WHERE event_type LIKE '%.failed' AND {given.text()}"
        for table, (kind, name) in _NAMES.items()
    )
    if not params.grouped:
        return Question(f"SELECT * FROM ({failed}) ORDER BY occurred_at DESC, event_id", given.parameters)  # noqa: S608
    sql = f"""
        SELECT error_type, agent_id, kind, count(*) AS count, min(occurred_at) AS first_at, max(occurred_at) AS last_at,
            arg_max(error_message, occurred_at) AS sample_message, arg_max(run_id, occurred_at) AS sample_run_id
        FROM ({failed}) GROUP BY error_type, agent_id, kind ORDER BY count DESC, last_at DESC, error_type, agent_id, kind
    """  # noqa: S608
    return Question(sql, given.parameters)
