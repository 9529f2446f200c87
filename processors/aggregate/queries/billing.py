"""The checks of ``audit`` on money: every billable call has one charge, every charge its call, every correction its entry."""

from typing import Any, Final

from processors.aggregate.asking import Question
from schemas.queries import AuditParams


def sequences(params: AuditParams) -> dict[str, Any]:
    """The range of sequences asked for, as parameters: behind ``$after``, up to ``$until``."""
    return {"after": params.after, "until": 2**62 if params.until is None else params.until}


def _asked(sql: str, params: AuditParams) -> Question:
    if params.tenant is None:
        return Question(sql, sequences(params))
    return Question(
        sql.replace("/* of one tenant */", " AND tenant_id = $tenant"), {**sequences(params), "tenant": params.tenant}
    )


def billing(params: AuditParams) -> Question:
    """One row for each billable call of a range of EVENTS, and each charge made from that range, that do not stand one to one."""
    return _asked(_BILLING, params)


_BILLING: Final = """
    WITH records AS MATERIALIZED (
        SELECT "partition", first_sequence, last_sequence, stream_sequence FROM coverage
        WHERE processor = 'cost' AND input_stream = 'EVENTS' AND last_sequence > $after AND first_sequence <= $until
    ),
    covered AS (
        SELECT min(first) AS first, min(last) AS last FROM (
            SELECT min(first_sequence) AS first, max(last_sequence) AS last FROM records GROUP BY "partition"
        )
    ),
    due AS MATERIALIZED (
        SELECT tenant_id, event_id::VARCHAR AS event_id, agent_id, occurred_at, stream_sequence FROM model_calls
        WHERE stream_sequence > $after AND stream_sequence <= $until AND input_tokens IS NOT NULL /* of one tenant */
            AND stream_sequence BETWEEN (SELECT first FROM covered) AND (SELECT last FROM covered)
    ),
    near AS MATERIALIZED (
        SELECT tenant_id, event_id, agent_id, occurred_at, stream_sequence FROM ledger
        WHERE kind = 'charge' AND stream_sequence <= (SELECT max(stream_sequence) FROM records) AND stream_sequence > (
            SELECT coalesce(max(stream_sequence), 0) FROM coverage
            WHERE processor = 'cost' AND input_stream = 'EVENTS' AND stream_sequence < (SELECT min(stream_sequence) FROM records)
                AND stream_sequence > (SELECT min(stream_sequence) FROM records) - 100000
        ) /* of one tenant */
    ),
    counted AS MATERIALIZED (
        SELECT tenant_id, event_id, count(*) AS charges, any_value(agent_id) AS agent_id, min(occurred_at) AS occurred_at,
            max(stream_sequence) AS stream_sequence
        FROM near GROUP BY tenant_id, event_id
    ),
    unpaid AS MATERIALIZED (
        SELECT * FROM due ANTI JOIN counted USING (tenant_id, event_id)
        WHERE NOT EXISTS (
            FROM dead_letters WHERE processor = 'cost' AND source_stream = 'EVENTS' AND source_sequence = due.stream_sequence
        )
    ),
    calls AS (
        SELECT tenant_id, event_id::VARCHAR AS event_id FROM model_calls
        WHERE stream_sequence BETWEEN (SELECT min(first_sequence) FROM records) AND (SELECT max(last_sequence) FROM records)
    ),
    strays AS MATERIALIZED (
        SELECT * FROM counted ANTI JOIN calls USING (tenant_id, event_id)
        -- What was priced before the first event the warehouse has cannot be compared.
        WHERE stream_sequence > coalesce((
                SELECT max(stream_sequence) FROM records
                WHERE first_sequence < (SELECT min(sequence) FROM applied_messages WHERE stream = 'EVENTS')
            ), 0)
            -- LEDGER may be applied further than EVENTS: then the calls are yet to come.
            AND stream_sequence <= (
                SELECT max(stream_sequence) FROM records
                WHERE last_sequence <= (SELECT applied_sequence FROM offsets WHERE stream = 'EVENTS')
            )
    ),
    suspects AS MATERIALIZED (SELECT tenant_id, event_id FROM unpaid UNION SELECT tenant_id, event_id FROM strays),
    elsewhere AS MATERIALIZED (
        SELECT tenant_id, event_id, count(*) AS charges FROM ledger SEMI JOIN suspects USING (tenant_id, event_id)
        WHERE kind = 'charge' GROUP BY tenant_id, event_id
    )
    SELECT * FROM (
        SELECT 'missing' AS problem, tenant_id, agent_id, event_id, NULL::VARCHAR AS entry_id, occurred_at, 0 AS entries
        FROM unpaid ANTI JOIN elsewhere USING (tenant_id, event_id)
        UNION ALL
        SELECT 'doubled', tenant_id, agent_id, event_id, NULL, occurred_at, charges FROM counted WHERE charges > 1
        UNION ALL
        SELECT 'doubled', strays.tenant_id, agent_id, strays.event_id, NULL, occurred_at, elsewhere.charges
        FROM strays JOIN elsewhere USING (tenant_id, event_id) WHERE elsewhere.charges > 1 AND strays.charges < elsewhere.charges
        UNION ALL
        SELECT 'stray', strays.tenant_id, agent_id, strays.event_id, NULL, occurred_at, strays.charges
        FROM strays JOIN elsewhere USING (tenant_id, event_id) WHERE elsewhere.charges = strays.charges
    ) ORDER BY occurred_at, event_id, problem
"""


def corrections(params: AuditParams) -> Question:
    """One row for each reversal and adjustment in a range of LEDGER that does not fit what it corrects."""
    return _asked(_CORRECTIONS, params)


_CORRECTIONS: Final = """
    WITH near AS MATERIALIZED (
        SELECT tenant_id, agent_id, event_id, entry_id, kind, corrects, cost_usd, occurred_at FROM ledger
        WHERE kind <> 'charge' AND stream_sequence > $after AND stream_sequence <= $until /* of one tenant */
    ),
    originals AS MATERIALIZED (
        SELECT tenant_id, entry_id AS corrects, any_value(cost_usd) AS was_usd FROM ledger
        SEMI JOIN (SELECT tenant_id, corrects AS entry_id FROM near) AS wanted USING (tenant_id, entry_id)
        GROUP BY tenant_id, entry_id
    ),
    alike AS MATERIALIZED (
        SELECT tenant_id, corrects, kind, count(*) AS entries, count(DISTINCT entry_id) AS different FROM ledger
        SEMI JOIN (SELECT tenant_id, corrects FROM near) AS wanted USING (tenant_id, corrects)
        WHERE kind <> 'charge' GROUP BY tenant_id, corrects, kind
    ),
    judged AS (
        SELECT DISTINCT ON (tenant_id, entry_id) near.*, was_usd, entries, different, CASE
            WHEN originals.corrects IS NULL THEN 'corrects nothing'
            WHEN different > 1 THEN 'corrected twice'
            WHEN entries > 1 THEN 'entry twice'
            WHEN kind = 'reversal' AND cost_usd <> -was_usd THEN 'other amount'
        END AS problem
        FROM near LEFT JOIN originals USING (tenant_id, corrects) LEFT JOIN alike USING (tenant_id, corrects, kind)
    )
    SELECT problem, tenant_id, agent_id, event_id, entry_id, occurred_at, coalesce(entries, 1) AS entries
    FROM judged WHERE problem IS NOT NULL ORDER BY occurred_at, entry_id
"""
