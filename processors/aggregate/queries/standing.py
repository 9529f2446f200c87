"""What the warehouse itself holds: ``throughput``, ``status`` and ``audit``."""

from datetime import datetime, timedelta
from typing import Final

from processors.aggregate.asking import Conditions, Question, naive
from processors.aggregate.columns import ALERTS, COVERAGE, DEAD, EVENTS, LEDGER
from schemas.queries import AuditParams, StatusParams, ThroughputParams
from streams import subjects, topology

_WINDOW_S: Final = 60

_TABLES: Final = {
    topology.EVENTS: [
        *(table.name for table in EVENTS.values()), DEAD.name, f"(FROM {COVERAGE.name} WHERE processor <> 'cost')",
    ],
    topology.LEDGER: [LEDGER.name, f"(FROM {COVERAGE.name} WHERE processor = 'cost')"],
    topology.ALERTS: [ALERTS.name],
}  # fmt: skip


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


def audit(params: AuditParams, _: datetime) -> Question:
    """Without a stream one row a stream; with one a row for each message applied after ``after``, with the rows there are now.

    ``check=billing``: model calls and ledger entries that do not stand one to one.
    """
    if params.check == "billing":
        return Question(_BILLING)
    if params.stream is None:
        return Question(
            "SELECT stream, min(sequence) AS first_sequence, max(sequence) AS last_sequence, count(*) AS messages, "
            "sum(events)::BIGINT AS events, sum(lines)::BIGINT AS lines, sum(unreadable)::BIGINT AS unreadable "
            "FROM applied_messages GROUP BY stream ORDER BY stream"
        )
    counted = " UNION ALL ".join(
        f"SELECT stream_sequence FROM {table} "  # noqa: S608
        "WHERE stream_sequence BETWEEN (SELECT min(sequence) FROM page) AND (SELECT max(sequence) FROM page)"
        for table in _TABLES[params.stream]
    )
    sql = f"""
        WITH page AS (
            SELECT * FROM applied_messages WHERE stream = $stream AND sequence > $after ORDER BY sequence LIMIT $limit OFFSET $offset
        ),
        counted AS (SELECT stream_sequence AS sequence, count(*) AS rows FROM ({counted}) GROUP BY stream_sequence)
        SELECT stream, sequence, subject, events, lines, unreadable, coalesce(rows, 0) AS rows, stored_at
        FROM page LEFT JOIN counted USING (sequence) ORDER BY sequence
    """  # noqa: S608
    return Question(sql, {"stream": params.stream, "after": params.after})


_BILLING: Final = """
    WITH covered AS (SELECT min(first_sequence) AS first, max(last_sequence) AS last FROM coverage WHERE processor = 'cost'),
    due AS (
        SELECT tenant_id, event_id::VARCHAR AS event_id, agent_id, event_type, occurred_at, stream_sequence
        FROM model_calls, covered
        WHERE stream_sequence BETWEEN covered.first AND covered.last
            AND input_tokens IS NOT NULL
    ),
    charged AS (
        SELECT tenant_id, event_id, any_value(agent_id) AS agent_id, min(occurred_at) AS occurred_at, count(*) AS charges
        FROM ledger WHERE kind = 'charge' GROUP BY tenant_id, event_id
    )
    SELECT 'missing' AS problem, due.tenant_id, due.agent_id, due.event_id, due.occurred_at, 0 AS entries
    FROM due ANTI JOIN charged USING (tenant_id, event_id)
    WHERE NOT EXISTS (FROM dead_letters WHERE processor = 'cost' AND source_stream = 'EVENTS' AND source_sequence = due.stream_sequence)
    UNION ALL
    SELECT 'doubled', tenant_id, agent_id, event_id, occurred_at, charges FROM charged WHERE charges > 1
    UNION ALL
    SELECT 'entry twice', tenant_id, any_value(agent_id), any_value(event_id), min(occurred_at), count(*)
    FROM ledger WHERE kind <> 'charge' GROUP BY tenant_id, entry_id HAVING count(*) > 1
    ORDER BY occurred_at, event_id
"""
