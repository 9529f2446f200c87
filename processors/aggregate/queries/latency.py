"""``latency``: exact percentiles."""

from datetime import datetime
from typing import Final

from processors.aggregate.asking import InvalidQuestionError, Question, within
from schemas.queries import LatencyParams

_OF: Final = {
    "run": ("runs", "duration_ms", "workflow_id"),
    "step": ("steps", "latency_ms", "coalesce(name, step_type)"),
    "model_call": ("model_calls", "latency_ms", "model"),
    "tool_call": ("tool_calls", "latency_ms", "name"),
}


def latency(params: LatencyParams, now: datetime) -> Question:
    """Of everything that ended in the range and tells its latency, failed or not; the slowest first."""
    if "model" in params.by and params.kind != "model_call":
        raise InvalidQuestionError("$.by", f"{params.kind}s have no model; use 'name'")
    table, column, name = _OF[params.kind]
    given = within(params.since, params.until, now).equal(tenant_id=params.tenant, agent_id=params.agent)
    names = {
        "tenant": ("tenant_id", "tenant_id"),
        "agent": ("agent_id", "agent_id"),
        "model": ("model", "model"),
        "name": ("name", name),
    }
    by = [names[each] for each in dict.fromkeys(params.by)]
    keys = "".join(f"{sql} AS {each}, " for each, sql in by)
    group = f"GROUP BY {', '.join(sql for _, sql in by)}" if by else ""
    order = ", ".join(["p95_ms DESC", *(each for each, _ in by)])
    # One list of quantiles: three quantiles would each gather all values.
    sql = f"""
        SELECT * EXCLUDE (quantiles, max_ms), quantiles[1] AS p50_ms, quantiles[2] AS p95_ms, quantiles[3] AS p99_ms, max_ms FROM (
            SELECT {keys}count({column}) AS count, quantile_cont({column}, [0.5, 0.95, 0.99]) AS quantiles, max({column}) AS max_ms
            FROM {table} WHERE {column} IS NOT NULL AND {given.text()} {group}
        ) ORDER BY {order}
    """  # noqa: S608
    return Question(sql, given.parameters)
