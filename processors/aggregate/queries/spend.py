"""``spend``: exact sums of the ledger."""

from datetime import datetime
from typing import Final

from processors.aggregate.asking import Question, within
from schemas.queries import SpendParams

_BY: Final = {
    "tenant": ("tenant_id", "tenant_id"),
    "agent": ("agent_id", "agent_id"),
    "model": ("model", "model"),
    "provider": ("provider", "provider"),
    "workflow": ("workflow_id", "workflow_id"),
    "project": ("project_id", "project_id"),
    "day": ("day", "strftime(occurred_at, '%Y-%m-%d')"),
    "hour": ("hour", "date_trunc('hour', occurred_at)"),
}


def spend(params: SpendParams, now: datetime) -> Question:
    """The most expensive first; by ``occurred_at``. Corrections count with their sign, tokens and entries are of charges."""
    given = within(params.since, params.until, now).equal(tenant_id=params.tenant, agent_id=params.agent)
    by = [_BY[name] for name in dict.fromkeys(params.by)]
    keys = "".join(f"{sql} AS {name}, " for name, sql in by)
    group = f"GROUP BY {', '.join(sql for _, sql in by)}" if by else ""
    order = ", ".join(["cost_usd DESC", *(name for name, _ in by)])

    def tokens(name: str) -> str:
        return f"coalesce(sum({name}) FILTER (kind = 'charge'), 0)::BIGINT AS {name}"

    sql = f"""
        SELECT {keys}coalesce(sum(cost_usd), 0)::DECIMAL(38,9) AS cost_usd, count(*) FILTER (kind = 'charge') AS entries,
            count(*) FILTER (reason = 'unpriced') AS unpriced, {tokens("input_tokens")}, {tokens("output_tokens")},
            {tokens("cache_read_tokens")}, {tokens("cache_write_tokens")}
        FROM ledger WHERE {given.text()} {group} ORDER BY {order}
    """  # noqa: S608
    return Question(sql, given.parameters)
