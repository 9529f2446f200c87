"""``spend``: exact sums of the ledger."""

from datetime import datetime, timedelta
from typing import Any, Final

from processors.aggregate.asking import Conditions, Question, span
from processors.aggregate.rollups import TOKENS, UNFOLDED, entries, floor, next_whole, sums_of_entries
from schemas.queries import SpendParams

_BY: Final = {
    "tenant": "tenant_id",
    "agent": "agent_id",
    "model": "name",
    "provider": "provider",
    "workflow": "workflow_id",
    "project": "project_id",
    "day": "date_trunc('day', \"at\")",
    "hour": "date_trunc('hour', \"at\")",
}
_NAMES: Final = {"tenant": "tenant_id", "agent": "agent_id", "workflow": "workflow_id", "project": "project_id"}
_HOUR: Final = timedelta(hours=1)
_DAY: Final = timedelta(days=1)


def spend(params: SpendParams, now: datetime) -> Question:
    """The most expensive first; by ``occurred_at``. Corrections count with their sign, tokens and entries are of charges."""
    since, until = span(params.since, params.until, now)
    first, last = next_whole(since, _HOUR), floor(until, _HOUR)
    given = Conditions().equal(tenant_id=params.tenant, agent_id=params.agent)
    parameters: dict[str, Any] = {**given.parameters, "since": since, "until": until}
    if first >= last:
        parts = [entries("occurred_at >= $since AND occurred_at < $until")]
    else:
        parameters |= {"first": first, "last": last}
        parts = [
            entries("occurred_at >= $since AND occurred_at < $first"),
            entries("occurred_at >= $last AND occurred_at < $until"),
            entries(f"{UNFOLDED} AND occurred_at >= $first AND occurred_at < $last"),
        ]
        days = (next_whole(first, _DAY), floor(last, _DAY))
        if "hour" in params.by or days[0] >= days[1]:
            parts.append(sums_of_entries("hour", '"at" >= $first AND "at" < $last'))
        else:
            parameters |= {"first_day": days[0], "last_day": days[1]}
            parts += [
                sums_of_entries("hour", '"at" >= $first AND "at" < $first_day'),
                sums_of_entries("hour", '"at" >= $last_day AND "at" < $last'),
                sums_of_entries("day", '"at" >= $first_day AND "at" < $last_day'),
            ]
    by = [(_NAMES.get(name, name), _BY[name]) for name in dict.fromkeys(params.by)]
    keys = "".join(f'{sql} AS "{name}", ' for name, sql in by)
    group = f"GROUP BY {', '.join(sql for _, sql in by)}" if by else ""
    summed = f"""
        SELECT {keys}coalesce(sum(cost_usd), 0)::DECIMAL(38,9) AS cost_usd, coalesce(sum(charges), 0)::BIGINT AS entries,
            coalesce(sum(unpriced), 0)::BIGINT AS unpriced,
            {", ".join(f"coalesce(sum({name}), 0)::BIGINT AS {name}" for name in TOKENS)}
        FROM ({" UNION ALL ".join(parts)}) WHERE {given.text()} {group}
    """  # noqa: S608
    replaced = ' REPLACE (strftime("day", \'%Y-%m-%d\') AS "day")' if "day" in params.by else ""
    order = ", ".join(["cost_usd DESC", *(f'"{name}"' for name, _ in by)])
    return Question(f"SELECT *{replaced} FROM ({summed}) ORDER BY {order}", parameters)  # noqa: S608
