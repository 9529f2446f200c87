"""``timeseries``: one row a bucket of time, also where nothing happened."""

from datetime import datetime, timedelta
from typing import Final

from processors.aggregate.asking import Conditions, InvalidQuestionError, Question, span
from processors.aggregate.rollups import GRAINS, MIDDLE, current, facts
from schemas.queries import TimeSeriesParams

MOST_BUCKETS: Final = 100_000
_LENGTH: Final = {
    "second": timedelta(seconds=1), "minute": timedelta(minutes=1), "hour": timedelta(hours=1), "day": timedelta(days=1),
}  # fmt: skip

_VALUES: Final = {
    "events": ("sum(events) FILTER (kind <> 'ledger')", "sum(events) FILTER (kind <> 'ledger')"),
    "runs": ("sum(finished) FILTER (kind = 'run')", "sum(started) FILTER (kind = 'run')"),
    "errors": ("sum(failed)", "sum(finished)"),
    "tokens": ("sum(input_tokens + output_tokens) FILTER (kind = 'ledger')", "sum(charges)"),
    "cost": ("sum(cost_usd)", "sum(events) FILTER (kind = 'ledger')"),
}
"""Value and count of each metric: runs ended (and begun), errors of (everything that ended), tokens of (model calls) …"""


def timeseries(params: TimeSeriesParams, now: datetime) -> Question:
    """Oldest first. Latency is that of runs; of model calls where no run in the range tells its duration.

    From the hour on it is read from the sums: its percentiles are at most 2 % off.
    """
    since, until = span(params.since, params.until, now)
    if params.until is None:
        until = since + min(until - since, _LENGTH[params.bucket] * MOST_BUCKETS)
    if (until - since) / _LENGTH[params.bucket] > MOST_BUCKETS:
        raise InvalidQuestionError("$.bucket", f"the range has more than {MOST_BUCKETS:,} buckets; take a longer bucket")
    given = Conditions().equal(tenant_id=params.tenant, agent_id=params.agent)
    parameters = {**given.parameters, "since": since, "until": until}
    grain = next((grain for grain in GRAINS if grain == params.bucket), None)
    if grain is None:
        # What is shorter than an hour has no sums: the events themselves, in the same columns.
        within = f"{given.text()} AND occurred_at >= date_trunc('{params.bucket}', $since) AND occurred_at < $until"
        rows = f"SELECT date_trunc('{params.bucket}', occurred_at) AS \"at\", 1 AS events, * FROM ({facts(within)})"  # noqa: S608
    else:
        rows = (
            f"SELECT * FROM ({current(grain)}) WHERE {given.text()} "  # noqa: S608
            f'AND "at" >= date_trunc(\'{grain}\', $since) AND "at" < $until'
        )
    every = f"SELECT unnest(generate_series(date_trunc('{params.bucket}', $since), $until, INTERVAL 1 {params.bucket})) AS \"at\""
    if params.metric == "latency":
        figures = _LATENCY_EXACT if grain is None else _LATENCY_SUMS
        columns = "value, coalesce(number, 0)::BIGINT AS count, p50, p95"
    else:
        value, count = _VALUES[params.metric]
        figures = f'figures AS (SELECT "at", {value} AS value, {count} AS number FROM rows GROUP BY "at")'  # noqa: S608
        kind = "DECIMAL(38,9)" if params.metric == "cost" else "BIGINT"
        columns = f"coalesce(value, 0)::{kind} AS value, coalesce(number, 0)::BIGINT AS count"
    sql = f"""
        WITH rows AS ({rows}), every AS ({every}), {figures}
        SELECT every."at", {columns} FROM every LEFT JOIN figures ON figures."at" = every."at"
        WHERE every."at" < $until ORDER BY every."at"
    """  # noqa: S608
    return Question(sql, parameters)


_CHOSEN: Final = "chosen AS (SELECT max(kind) AS kind FROM timed)"
# 'run' comes after 'model_call' in the alphabet.
_LATENCY_EXACT: Final = f"""
    timed AS (SELECT * FROM rows WHERE kind IN ('run', 'model_call') AND latency_ms IS NOT NULL), {_CHOSEN},
    figures AS (
        SELECT "at", quantile_cont(latency_ms, 0.5) AS value, count(*) AS number, quantile_cont(latency_ms, 0.5) AS p50,
            quantile_cont(latency_ms, 0.95) AS p95
        FROM timed SEMI JOIN chosen USING (kind) GROUP BY "at"
    )
"""  # noqa: S608
_LATENCY_SUMS: Final = f"""
    timed AS (SELECT * FROM rows WHERE kind IN ('run', 'model_call') AND latency_count > 0), {_CHOSEN},
    sketches AS (
        SELECT "at", entry.bucket AS bucket, sum(entry.count) AS number
        FROM (SELECT "at", unnest(latency_buckets) AS entry FROM timed SEMI JOIN chosen USING (kind)) GROUP BY ALL
    ),
    heights AS (
        SELECT *, sum(number) OVER (PARTITION BY "at" ORDER BY bucket) AS upto, sum(number) OVER (PARTITION BY "at") AS total
        FROM sketches
    ),
    figures AS (
        SELECT "at", min({MIDDLE}) FILTER (upto >= 0.5 * total) AS value, max(total) AS number,
            min({MIDDLE}) FILTER (upto >= 0.5 * total) AS p50, min({MIDDLE}) FILTER (upto >= 0.95 * total) AS p95
        FROM heights GROUP BY "at"
    )
"""  # noqa: S608
