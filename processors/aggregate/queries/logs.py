"""``logs``: the lines agents wrote and log records they sent, each as it stands."""

from datetime import datetime
from typing import Final

from processors.aggregate.asking import Question, within
from schemas.queries import LogsParams

_LEVELS: Final = ("debug", "info", "warning", "error", "critical")
"""From the least to the worst."""


def logs(params: LogsParams, now: datetime) -> Question:
    """Newest first; ``since`` and ``until`` are the moments the agent gave its lines."""
    given = within(params.since, params.until, now)
    given.equal(tenant_id=params.tenant, agent_id=params.agent, run_id=params.run, trace_id=params.trace)
    if params.level is not None:
        given.add("list_contains($levels, level)", levels=list(_LEVELS[_LEVELS.index(params.level) :]))
    if params.search is not None:
        given.add(
            "(contains(lower(message), $search) OR contains(lower(logger), $search) OR contains(lower(error_message), $search))",
            search=params.search.lower(),
        )
    sql = f"""
        SELECT occurred_at, tenant_id, agent_id, level, message, logger, run_id, trace_id, span_id, error_type, error_message,
            event_id::VARCHAR AS event_id
        FROM logs WHERE {given.text()} ORDER BY occurred_at DESC, stream_sequence DESC, event_id
    """  # noqa: S608
    return Question(sql, given.parameters)
