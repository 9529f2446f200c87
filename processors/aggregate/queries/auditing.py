"""``audit``: what the warehouse holds of a range of a stream, to be compared with the stream itself.

Every check reads only the range it is asked for: rows lie in the order of their streams, so DuckDB skips the rest of each table.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from processors.aggregate.asking import Conditions, InvalidQuestionError, Question, naive
from processors.aggregate.columns import ALERTS, COVERAGE, DEAD, EVENTS, LEDGER
from processors.aggregate.queries.billing import billing, corrections, sequences
from processors.aggregate.queries.sums import sums
from schemas.queries import AuditParams
from streams import subjects, topology

_BIN: Final = 10_000
"""Sequences counted together by ``extent``."""

BACK: Final = 100_000
"""So far back the record before a range is looked for: a batch has a thousand messages at most, so it is always nearer."""

_TABLES: Final = {
    topology.EVENTS: [
        *(table.name for table in EVENTS.values()), DEAD.name, f"(FROM {COVERAGE.name} WHERE processor <> 'cost')",
    ],
    topology.LEDGER: [LEDGER.name, f"(FROM {COVERAGE.name} WHERE processor = 'cost')"],
    topology.ALERTS: [ALERTS.name],
}  # fmt: skip
"""What the messages of each stream become rows of."""
_OF_TENANTS: Final = {
    topology.EVENTS: [table.name for table in EVENTS.values()],
    topology.LEDGER: [LEDGER.name],
    topology.ALERTS: [ALERTS.name],
}
_WRITER: Final = {topology.EVENTS: "validate", topology.LEDGER: "cost", topology.ALERTS: ""}
"""Who accounts for what it wrote into each stream."""
_OUTPUT: Final = {
    topology.EVENTS: subjects.beginning(subjects.ALL_EVENTS),
    topology.LEDGER: subjects.beginning(subjects.ALL_LEDGER),
    topology.ALERTS: subjects.beginning(subjects.ALL_ALERTS),
}
_LETTER: Final = subjects.beginning(subjects.ALL_DEAD)
_WITHIN: Final = "stream_sequence > $after AND stream_sequence <= $until"


def _range(params: AuditParams) -> Conditions:
    """Messages applied of the range asked for."""
    given = Conditions({"stream": params.stream, **sequences(params)})
    given.add("stream = $stream AND sequence > $after AND sequence <= $until")
    if params.tenant is not None:
        given.add("split_part(subject, '.', 2) = $tenant", tenant=params.tenant)
    return given


def _counted(stream: str, within: str) -> str:
    tables = " UNION ALL ".join(f"SELECT stream_sequence FROM {table} WHERE {within}" for table in _TABLES[stream])  # noqa: S608
    return f"SELECT stream_sequence AS sequence, count(*) AS rows FROM ({tables}) GROUP BY stream_sequence"  # noqa: S608


def _overview(_: AuditParams) -> Question:
    """One row a stream."""
    return Question(
        "SELECT stream, min(sequence) AS first_sequence, max(sequence) AS last_sequence, count(*) AS messages, "
        "sum(events)::BIGINT AS events, sum(lines)::BIGINT AS lines, sum(unreadable)::BIGINT AS unreadable "
        "FROM applied_messages GROUP BY stream ORDER BY stream"
    )


def _messages(params: AuditParams) -> Question:
    """One row for each message applied, with the rows of it there are now; of entries with what they come to."""
    given = _range(params)
    page = "stream_sequence BETWEEN (SELECT min(sequence) FROM page) AND (SELECT max(sequence) FROM page)"
    assert params.stream is not None
    sql = f"""
        WITH page AS (SELECT * FROM applied_messages WHERE {given.text()} ORDER BY sequence LIMIT $limit OFFSET $offset),
        counted AS ({_counted(params.stream, page)}),
        money AS (
            SELECT stream_sequence AS sequence, sum(cost_usd)::DECIMAL(38,9) AS cost_usd FROM ledger
            WHERE $stream = '{topology.LEDGER}' AND {page} GROUP BY stream_sequence
        )
        SELECT stream, sequence, subject, events, lines, unreadable, coalesce(rows, 0) AS rows, stored_at, cost_usd
        FROM page LEFT JOIN counted USING (sequence) LEFT JOIN money USING (sequence) ORDER BY sequence
    """  # noqa: S608
    return Question(sql, given.parameters)


def _extent(params: AuditParams) -> Question:
    """How much lies where: messages and events of each ten thousand sequences."""
    given = _range(params)
    sql = f"""
        SELECT min(sequence) AS first_sequence, max(sequence) AS last_sequence, count(*) AS messages, sum(events)::BIGINT AS events
        FROM applied_messages WHERE {given.text()} GROUP BY sequence // {_BIN} ORDER BY first_sequence
    """  # noqa: S608
    return Question(sql, given.parameters)


def _problems(params: AuditParams) -> Question:
    """One row for each thing that does not add up within the warehouse; none where all is well.

    ``hole``: sequences no message was applied of, whosever they would be. ``rows``: a message has other rows than it had lines. ``stray``: rows of no message.
    ``counts``: a message had other lines than it promised. ``unreadable``: lines that became dead letters. ``outputs``,
    ``letters``: the messages before a coverage record carry other numbers than it tells.
    """
    given = _range(params)
    stream = params.stream
    assert stream is not None
    given.parameters |= {"letter": _LETTER}
    checks = [
        """SELECT sequence AS first_sequence, sequence AS last_sequence, subject, expected, rows AS found,
            CASE WHEN subject IS NULL THEN 'stray' ELSE 'rows' END AS problem FROM held WHERE subject IS NULL OR rows <> expected""",
        """SELECT sequence, sequence, subject, events, lines, 'counts' FROM messages
            WHERE events <> lines AND split_part(subject, '.', 1) <> $letter""",
        "SELECT sequence, sequence, subject, 0, unreadable, 'unreadable' FROM messages WHERE unreadable > 0",
        """SELECT before + 1, sequence - 1, NULL, sequence - before - 1, 0, 'hole' FROM (
            SELECT sequence, lag(sequence, 1, $after) OVER (ORDER BY sequence) AS before
            FROM (SELECT sequence FROM applied UNION ALL SELECT $until + 1 WHERE $until < 2::BIGINT ** 62)
        ) WHERE sequence > before + 1""",
    ]
    whole = params.tenant is None
    if whole and _WRITER[stream]:
        given.parameters |= {"writer": _WRITER[stream], "output": _OUTPUT[stream]}
        checks += [
            "SELECT sequence, sequence, NULL, told, made, 'outputs' FROM accounts WHERE told <> made",
            "SELECT sequence, sequence, NULL, dead, buried, 'letters' FROM accounts WHERE buried < dead AND $writer = 'validate'",
        ]
    sql = f"""
        WITH messages AS MATERIALIZED (
            SELECT sequence, subject, events, lines, unreadable FROM applied_messages WHERE {given.text()}
        ),
        applied AS ({"SELECT sequence FROM messages" if whole else "SELECT sequence FROM applied_messages WHERE stream = $stream AND sequence > $after AND sequence <= $until"}),
        counted AS ({_counted(stream, _WITHIN)}),
        held AS (
            SELECT coalesce(messages.sequence, counted.sequence) AS sequence, subject, lines - unreadable AS expected, coalesce(rows, 0) AS rows
            FROM messages {"FULL" if whole else "LEFT"} JOIN counted ON messages.sequence = counted.sequence
        )
        {f", {_ACCOUNTS}" if whole and _WRITER[stream] else ""}
        SELECT problem, first_sequence, last_sequence, subject, expected::BIGINT AS expected, found::BIGINT AS found
        FROM ({" UNION ALL ".join(checks)}) ORDER BY first_sequence, problem
    """  # noqa: S608
    return Question(sql, given.parameters)


_ACCOUNTS: Final = f"""
    border AS (
        SELECT max(stream_sequence) AS last FROM coverage
        WHERE processor = $writer AND stream_sequence <= $after AND stream_sequence > $after - {BACK}
    ),
    start AS (
        SELECT coalesce((SELECT last FROM border),
            CASE WHEN (SELECT min(sequence) FROM applied_messages WHERE stream = $stream) = 1 THEN 0 END) AS position
    ),
    records AS MATERIALIZED (
        SELECT stream_sequence AS sequence, coalesce(valid, 0) AS told, coalesce(dead, 0) AS dead FROM coverage
        WHERE processor = $writer AND stream_sequence > $after AND stream_sequence <= $until
    ),
    carried AS (
        SELECT sequence, events, split_part(subject, '.', 1) AS word FROM applied_messages
        WHERE stream = $stream AND sequence <= $until
            AND sequence > (SELECT coalesce(position, (SELECT min(sequence) FROM records)) FROM start)
    ),
    accounts AS MATERIALIZED (
        SELECT records.sequence, any_value(told) AS told, any_value(dead) AS dead,
            coalesce(sum(events) FILTER (word = $output), 0) AS made, coalesce(sum(events) FILTER (word = $letter), 0) AS buried
        FROM carried ASOF JOIN records ON carried.sequence <= records.sequence GROUP BY records.sequence
    )
"""  # noqa: S608
"""What the messages before each coverage record carry. The first record of a warehouse that begins later has no whole range."""


def _coverage(params: AuditParams) -> Question:
    """One row for each processor and partition that accounts for what it wrote into the stream."""
    sql = f"""
        SELECT processor, "partition",
            count(*) FILTER ({_WITHIN}) AS records,
            coalesce(sum(received) FILTER ({_WITHIN}), 0)::BIGINT AS received,
            coalesce(sum(valid) FILTER ({_WITHIN}), 0)::BIGINT AS valid,
            coalesce(sum(dead) FILTER ({_WITHIN}), 0)::BIGINT AS dead,
            coalesce(sum(duplicates) FILTER ({_WITHIN}), 0)::BIGINT AS duplicates,
            coalesce(sum(missing) FILTER ({_WITHIN}), 0)::BIGINT AS missing,
            coalesce(sum(messages) FILTER ({_WITHIN}), 0)::BIGINT AS messages,
            min(first_sequence) FILTER ({_WITHIN}) AS begun,
            max(last_sequence) FILTER ({_WITHIN}) AS covered,
            max(last_sequence) FILTER (stream_sequence <= $after) AS covered_before
        FROM coverage WHERE processor = $writer AND stream_sequence <= $until AND stream_sequence > $after - {BACK}
        GROUP BY processor, "partition" ORDER BY processor, "partition"
    """  # noqa: S608
    assert params.stream is not None
    return Question(sql, {**sequences(params), "writer": _WRITER[params.stream]})


def _tenants(params: AuditParams) -> Question:
    """One row a tenant: what its messages promised, and the rows that bear its name."""
    given = _range(params)
    stream = params.stream
    assert stream is not None
    named = "" if params.tenant is None else " AND tenant_id = $tenant"
    rows = " UNION ALL ".join(f"SELECT tenant_id FROM {table} WHERE {_WITHIN}{named}" for table in _OF_TENANTS[stream])  # noqa: S608
    given.parameters |= {"output": _OUTPUT[stream], "letter": _LETTER}
    money = (
        """SELECT tenant_id, count(*) FILTER (kind = 'charge') AS charges, count(*) FILTER (kind <> 'charge') AS corrections,
            count(*) FILTER (reason = 'unpriced') AS unpriced, sum(cost_usd) AS cost_usd FROM ledger"""
        if stream == topology.LEDGER
        else "SELECT tenant_id, NULL::BIGINT AS charges, NULL::BIGINT AS corrections, NULL::BIGINT AS unpriced, NULL::DECIMAL(38,9) AS cost_usd FROM ledger"
    )
    sql = f"""
        WITH told AS (
            SELECT split_part(subject, '.', 2) AS tenant_id, count(*) AS messages,
                coalesce(sum(events) FILTER (split_part(subject, '.', 1) = $output), 0)::BIGINT AS events,
                coalesce(sum(unreadable) FILTER (split_part(subject, '.', 1) = $output), 0)::BIGINT AS unreadable,
                coalesce(sum(events) FILTER (split_part(subject, '.', 1) = $letter), 0)::BIGINT AS dead
            FROM applied_messages WHERE {given.text()} AND split_part(subject, '.', 1) IN ($output, $letter) GROUP BY tenant_id
        ),
        held AS (SELECT tenant_id, count(*) AS rows FROM ({rows}) GROUP BY tenant_id),
        money AS ({money} WHERE {_WITHIN}{named} GROUP BY tenant_id)
        SELECT tenant_id, coalesce(messages, 0) AS messages, coalesce(events, 0) AS events, coalesce(unreadable, 0) AS unreadable,
            coalesce(dead, 0) AS dead, coalesce(rows, 0) AS rows, charges, corrections, unpriced, cost_usd
        FROM told FULL JOIN held USING (tenant_id) LEFT JOIN money USING (tenant_id) ORDER BY tenant_id
    """  # noqa: S608
    return Question(sql, given.parameters)


def _head(params: AuditParams) -> Question:
    """What the warehouse knows of messages that no longer stand in the stream: how many, and how many of them were stored since ``stored_since``."""
    given = _range(params)
    given.parameters |= {"young": naive(params.stored_since or datetime.max.replace(tzinfo=UTC))}
    sql = f"""
        SELECT count(*) AS messages, sum(events)::BIGINT AS events, max(stored_at) AS newest,
            count(*) FILTER (stored_at >= $young) AS young, min(sequence) FILTER (stored_at >= $young) AS young_first,
            max(sequence) FILTER (stored_at >= $young) AS young_last
        FROM applied_messages WHERE {given.text()}
    """  # noqa: S608
    return Question(sql, given.parameters)


_CHECKS: Final[dict[str, Callable[[AuditParams], Question]]] = {
    "messages": _messages,
    "extent": _extent,
    "problems": _problems,
    "coverage": _coverage,
    "tenants": _tenants,
    "head": _head,
    "sums": sums,
    "billing": billing,
    "corrections": corrections,
}
_OF_NO_STREAM: Final = frozenset({"sums", "billing", "corrections"})


def audit(params: AuditParams, _: datetime) -> Question:
    """The check asked for. ``messages`` without a stream is one row a stream; other checks but ``billing``, ``corrections`` and ``sums`` need one."""
    if params.stream is None and params.check not in _OF_NO_STREAM:
        if params.check == "messages":
            return _overview(params)
        raise InvalidQuestionError("$.stream", f"check {params.check} needs a stream")
    return _CHECKS[params.check](params)
