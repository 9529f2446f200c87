"""``latency``: percentiles; exact for up to two days, from the sums beyond."""

from datetime import datetime, timedelta
from typing import Any, Final

from processors.aggregate.asking import SKEW, Conditions, InvalidQuestionError, Question, naive, span
from processors.aggregate.rollups import MIDDLE, Grain, current, floor, next_whole
from schemas.queries import LatencyParams

_OF: Final = {
    "run": ("runs", "duration_ms", "workflow_id"),
    "step": ("steps", "latency_ms", "coalesce(name, step_type)"),
    "model_call": ("model_calls", "latency_ms", "model"),
    "tool_call": ("tool_calls", "latency_ms", "name"),
}
EXACT: Final = timedelta(days=2)
"""Every latency of a longer range would have to be read and ordered: a second for ten million events, and so on."""
_HOUR: Final = timedelta(hours=1)
_DAY: Final = timedelta(days=1)


def latency(params: LatencyParams, now: datetime) -> Question:
    """Of everything that ended in the range and tells its latency, failed or not; the slowest first."""
    if "model" in params.by and params.kind != "model_call":
        raise InvalidQuestionError("$.by", f"{params.kind}s have no model; use 'name'")
    since, until = span(params.since, params.until, now)
    # The sums know steps by their type alone.
    named_steps = params.kind == "step" and "name" in params.by
    if params.exact or named_steps or min(until, naive(now + SKEW)) - since <= EXACT:
        return _exact(params, since, until)
    return _of_sums(params, since, until)


def _whose(params: LatencyParams) -> Conditions:
    return Conditions().equal(tenant_id=params.tenant, agent_id=params.agent)


def _exact(params: LatencyParams, since: datetime, until: datetime) -> Question:
    table, column, name = _OF[params.kind]
    given = _whose(params).add("occurred_at >= $since AND occurred_at < $until", since=since, until=until)
    by = _keys(params, name)
    keys = "".join(f"{sql} AS {each}, " for each, sql in by.items())
    group = f"GROUP BY {', '.join(by.values())}" if by else ""
    # One list of quantiles: three quantiles would each gather all values.
    sql = f"""
        SELECT * EXCLUDE (quantiles, max_ms), quantiles[1] AS p50_ms, quantiles[2] AS p95_ms, quantiles[3] AS p99_ms, max_ms FROM (
            SELECT {keys}count({column}) AS count, quantile_cont({column}, [0.5, 0.95, 0.99]) AS quantiles, max({column}) AS max_ms
            FROM {table} WHERE {column} IS NOT NULL AND {given.text()} {group}
        ) ORDER BY {_order(by)}
    """  # noqa: S608
    return Question(sql, given.parameters)


def _of_sums(params: LatencyParams, since: datetime, until: datetime) -> Question:
    """By whole hours: the one ``since`` lies in counts whole. Whole days are read as such."""
    given = _whose(params)
    by = _keys(params, "name")
    keys = "".join(f"{sql} AS {each}, " for each, sql in by.items())
    names = "".join(f"{each}, " for each in by)
    group = ", ".join(by) or "ALL"
    begins = floor(since, _HOUR)
    first, last = next_whole(begins, _DAY), floor(until, _DAY)
    ranges: list[tuple[Grain, datetime, datetime]] = [("hour", begins, until)]
    if first < last:
        ranges = [("hour", begins, first), ("day", first, last), ("hour", last, until)]
    parts, parameters = [], dict[str, Any]({"kind": params.kind})
    for number, (grain, low, high) in enumerate(ranges):
        parameters |= {f"low_{number}": low, f"high_{number}": high}
        parts.append(
            f"SELECT {keys}latency_buckets, latency_max_ms FROM ({current(grain, (params.kind,))}) "  # noqa: S608
            f'WHERE kind = $kind AND latency_count > 0 AND {given.text()} AND "at" >= $low_{number} AND "at" < $high_{number}'
        )
    partition = f"PARTITION BY {group}" if by else ""
    sql = f"""
        WITH timed AS ({" UNION ALL ".join(parts)}),
        sketches AS (
            SELECT {names}entry.bucket AS bucket, sum(entry.count)::BIGINT AS number, max(latency_max_ms) AS max_ms
            FROM (SELECT {names}unnest(latency_buckets) AS entry, latency_max_ms FROM timed) GROUP BY {names}entry.bucket
        ),
        heights AS (
            SELECT *, sum(number) OVER ({partition} ORDER BY bucket) AS upto, sum(number) OVER ({partition}) AS total FROM sketches
        )
        SELECT {names}max(total)::BIGINT AS count, min({MIDDLE}) FILTER (upto >= 0.5 * total) AS p50_ms,
            min({MIDDLE}) FILTER (upto >= 0.95 * total) AS p95_ms, min({MIDDLE}) FILTER (upto >= 0.99 * total) AS p99_ms,
            max(max_ms) AS max_ms
        FROM heights {f"GROUP BY {group}" if by else ""} ORDER BY {_order(by)}
    """  # noqa: S608
    return Question(sql, given.parameters | parameters)


def _keys(params: LatencyParams, name: str) -> dict[str, str]:
    columns = {
        "tenant": ("tenant_id", "tenant_id"),
        "agent": ("agent_id", "agent_id"),
        "model": ("model", name),
        "name": ("name", name),
    }
    return dict(columns[each] for each in dict.fromkeys(params.by))


def _order(by: dict[str, str]) -> str:
    return ", ".join(["p95_ms DESC", *by])
