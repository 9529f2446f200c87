"""``spend``: exact sums of the ledger."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from processors.aggregate.asking import Conditions, Question, naive, span
from processors.aggregate.rollups import ENTRY, TOKENS, UNFOLDED, floor, next_whole
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
_OF_AGENTS: Final = frozenset({"tenant", "agent", "day", "hour"})
"""What the sums of agents know of; the others stand in the sums by name."""
_KEYS: Final = {
    "tenant": "tenant_id",
    "agent": "agent_id",
    "model": "model",
    "provider": "provider",
    "workflow": "workflow_id",
    "project": "project_id",
}
_LINES: Final = {"entries": "lines"}
"""What is counted to see whether there is anything; entries are told of charges alone."""
_LEDGER: Final = "ledger"
_UNFOLDED: Final = UNFOLDED.format(stream=_LEDGER)
_FOLDED: Final = "stream_sequence <= $folded_ledger"
_HOUR: Final = timedelta(hours=1)
_DAY: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class _Edge:
    """Rows of a part of an hour, from ``first`` on and before ``last``: to be added to the sums or taken off them."""

    name: str
    first: datetime
    last: datetime
    sign: str

    def condition(self) -> str:
        """They alone, as far as they are in the sums."""
        return f"occurred_at >= ${self.name}_first AND occurred_at < ${self.name}_last AND {_FOLDED}"

    def parameters(self) -> dict[str, Any]:
        """Of the condition."""
        return {f"{self.name}_first": self.first, f"{self.name}_last": self.last}


def _edges(since: datetime, until: datetime, now: datetime) -> tuple[datetime, datetime, list[_Edge]]:
    """The whole hours whose sums are taken, and what is missing of the range or too much: the shorter part of an hour is read."""
    first, last, edges = floor(since, _HOUR), next_whole(until, _HOUR), []
    if since - first > _HOUR / 2:
        edges.append(_Edge("begun", since, first + _HOUR, ""))
        first += _HOUR
    elif since > first:
        edges.append(_Edge("begun", first, since, "-"))
    ending = floor(until, _HOUR)
    # What lies in the future is nearly nothing, however much of the hour it is. The hour in which time ends has no end to take off.
    if until > ending and ((until - ending <= _HOUR / 2 and until < now) or last == datetime.max):  # noqa: DTZ901
        edges.append(_Edge("ended", ending, until, ""))
        last = ending
    elif until > ending:
        edges.append(_Edge("ended", until, last, "-"))
    return first, last, edges


def spend(params: SpendParams, now: datetime) -> Question:
    """The most expensive first; by ``occurred_at``. Corrections count with their sign, tokens and entries are of charges."""
    since, until = span(params.since, params.until, now)
    given = Conditions().equal(tenant_id=params.tenant, agent_id=params.agent)
    by = tuple(dict.fromkeys(params.by))
    keys = [name for name in by if name in _KEYS]
    where = given.text()
    parameters: dict[str, Any] = {**given.parameters, "since": since, "until": until}

    def rows(condition: str, sign: str = "") -> str:
        told = ", ".join(
            (
                'occurred_at AS "at"',
                *(f"{_KEYS[name]} AS {_BY[name]}" for name in keys),
                *(f"{sign}({text}) AS {_LINES.get(name, name)}" for name, text in ENTRY.items()),
            )
        )
        return f"SELECT {told} FROM ledger WHERE {condition} AND {where}"  # noqa: S608

    def sums(grain: str, condition: str) -> str:
        of_agents = _OF_AGENTS.issuperset(by)
        lines = "entries AS lines" if of_agents else "events AS lines"
        money = (lines if name == "entries" else name for name in ENTRY)
        told = ", ".join(('"at"', *(_BY[name] for name in keys), *money))
        table = f"agents_{grain} WHERE" if of_agents else f"rollups_{grain} WHERE kind = 'ledger' AND"
        return f"SELECT {told} FROM {table} {condition} AND {where}"  # noqa: S608

    within = "occurred_at >= $since AND occurred_at < $until"
    parts = []
    if until - since > _HOUR:
        first, last, edges = _edges(since, until, naive(now))
        for edge in edges:
            parts.append(rows(edge.condition(), edge.sign))
            parameters |= edge.parameters()
        first_day, last_day = next_whole(first, _DAY), floor(last, _DAY)
        parameters |= {"first": first, "last": last}
        if "hour" in by or first_day >= last_day:
            parts.append(sums("hour", '"at" >= $first AND "at" < $last'))
        else:
            parameters |= {"first_day": first_day, "last_day": last_day}
            parts.append(sums("hour", '("at" >= $first AND "at" < $first_day)'))
            parts.append(sums("hour", '("at" >= $last_day AND "at" < $last)'))
            parts.append(sums("day", '"at" >= $first_day AND "at" < $last_day'))
        stored_since = rows(f"{_UNFOLDED} AND {within}")
    else:
        parts.append(rows(within))
        stored_since = None

    def sql(tables: Collection[str]) -> str:
        every = [*parts, stored_since] if stored_since is not None and _LEDGER in tables else parts
        return _summed(by, " UNION ALL ".join(every))

    return Question(sql, parameters)


def _summed(by: tuple[str, ...], every: str) -> str:
    named = [(_NAMES.get(name, name), _BY[name]) for name in by]
    keys = "".join(f'{sql} AS "{name}", ' for name, sql in named)
    # Where all that was in an hour's sums was taken off again there is nothing to tell.
    group = f"GROUP BY {', '.join(sql for _, sql in named)} HAVING sum(lines) <> 0" if by else ""
    summed = f"""
        SELECT {keys}coalesce(sum(cost_usd), 0)::DECIMAL(38,9) AS cost_usd, coalesce(sum(charges), 0)::BIGINT AS entries,
            coalesce(sum(unpriced), 0)::BIGINT AS unpriced,
            {", ".join(f"coalesce(sum({name}), 0)::BIGINT AS {name}" for name in TOKENS)}
        FROM ({every}) {group}
    """  # noqa: S608
    replaced = ' REPLACE (strftime("day", \'%Y-%m-%d\') AS "day")' if "day" in by else ""
    order = ", ".join(["cost_usd DESC", *(f'"{name}"' for name, _ in named)])
    return f"SELECT *{replaced} FROM ({summed}) ORDER BY {order}"  # noqa: S608
