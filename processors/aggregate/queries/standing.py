"""What the warehouse itself holds: ``throughput`` and ``status``."""

from datetime import datetime, timedelta
from typing import Final

from processors.aggregate.asking import Conditions, Question, naive
from schemas.queries import StatusParams, ThroughputParams
from streams import subjects, topology

_WINDOW_S: Final = 60


def throughput(params: ThroughputParams, now: datetime) -> Question:
    """By the moment validate stored them; the row ``total`` first."""
    given = Conditions({"since": naive(now) - timedelta(seconds=_WINDOW_S)})
    events = subjects.beginning(subjects.ALL_EVENTS)
    given.add(
        "stream = $stream AND stored_at >= $since AND split_part(subject, '.', 1) = $events",
        stream=topology.EVENTS,
        events=events,
    )
    if params.tenant is not None:
        given.add("split_part(subject, '.', 2) = $tenant", tenant=params.tenant)
    sql = f"""
        WITH kinds AS (
            SELECT split_part(subject, '.', 3) AS kind, sum(events)::BIGINT AS events FROM applied_messages
            WHERE {given.text()} GROUP BY kind
        )
        SELECT kind, events / {_WINDOW_S}.0 AS events_per_s, events FROM (
            SELECT 'total' AS kind, coalesce(sum(events), 0)::BIGINT AS events FROM kinds UNION ALL SELECT * FROM kinds
        ) ORDER BY kind <> 'total', kind
    """  # noqa: S608
    return Question(sql, given.parameters)


def status(_: StatusParams, __: datetime) -> Question:
    """One row a stream."""
    return Question("SELECT stream, applied_sequence, applied_at, messages, events, rows FROM offsets ORDER BY stream")
