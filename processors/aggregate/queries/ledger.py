"""Queries of the ledger: the entries themselves, their sums beside what clients say, what does not fit, what is charged twice."""

from datetime import datetime
from typing import Final

from processors.aggregate.asking import Conditions, Question, within
from processors.aggregate.columns import LEDGER
from processors.aggregate.rollups import CHARGED, ONE_MORE
from schemas.queries import LedgerDaysParams, LedgerDuplicatesParams, LedgerParams, LedgerProblemsParams
from schemas.response_ids import NUMBERED

_REVERSALS: Final = "SELECT tenant_id, corrects AS entry_id, entry_id AS reversed_by FROM ledger WHERE kind = 'reversal'"


def _of_calls(given: Conditions, params: LedgerParams | LedgerDaysParams) -> Conditions:
    """Restricted to what the parameters both know name."""
    given.equal(tenant_id=params.tenant, agent_id=params.agent, provider=params.provider)
    if params.model is not None:
        # As the event named it, or as the book does: `provider/model` or the model alone.
        given.add("(model = $model OR priced_as = $model OR ends_with(priced_as, '/' || $model))", model=params.model)
    return given


def ledger(params: LedgerParams, now: datetime) -> Question:
    """In the order of the ledger, so that pages can follow each other by the last entry seen while new ones are added."""
    given = _of_calls(within(params.since, params.until, now), params)
    given.equal(kind=params.kind, correction_id=params.correction)
    if params.entry is not None:
        given.add(
            "(starts_with(entry_id, $entry) OR event_id = $entry OR model_call_id = $entry OR corrects = $entry)",
            entry=params.entry,
        )
    if params.after_sequence:
        given.add(
            "stream_sequence >= $after_sequence AND (stream_sequence > $after_sequence OR entry_id > $after_entry)",
            after_sequence=params.after_sequence,
            after_entry=params.after_entry or "",
        )
    if params.up_to_sequence is not None:
        given.add("stream_sequence <= $up_to_sequence", up_to_sequence=params.up_to_sequence)
    if params.open:
        given.add(
            f"kind <> 'reversal' AND NOT {ONE_MORE} AND (tenant_id, entry_id) NOT IN (SELECT (tenant_id, entry_id) FROM ({_REVERSALS}))"  # noqa: S608
        )
    columns = ", ".join(f'"{column.name}"' for column in LEDGER.columns)
    order = "DESC" if params.newest_first else "ASC"
    # Which entries they are is found in few columns; then only their part of the ledger is read whole.
    sql = f"""
        WITH picked AS (
            SELECT stream_sequence, entry_id FROM ledger WHERE {given.text()}
            ORDER BY stream_sequence {order}, entry_id {order} LIMIT $limit OFFSET $offset
        )
        SELECT {columns}, stream_sequence, reversed_by, cost_usd - client_cost_usd AS client_difference_usd
        FROM ledger SEMI JOIN picked USING (stream_sequence, entry_id) LEFT JOIN ({_REVERSALS}) USING (tenant_id, entry_id)
        ORDER BY stream_sequence {order}, entry_id {order}
    """  # noqa: S608
    return Question(sql, given.parameters)


def ledger_days(params: LedgerDaysParams, now: datetime) -> Question:
    """One row for each day, provider and model; corrections count on the day of the call they correct."""
    given = _of_calls(within(params.since, params.until, now), params)

    def tokens(name: str) -> str:
        return f"coalesce(sum({name} * {CHARGED}), 0)::BIGINT AS {name}"

    def usd(what: str, name: str) -> str:
        return f"coalesce(sum({what}), 0)::DECIMAL(38,9) AS {name}"

    told = "kind = 'charge' AND client_cost_usd IS NOT NULL"
    sql = f"""
        SELECT strftime(occurred_at, '%Y-%m-%d') AS day, provider, model, any_value(priced_as) AS priced_as,
            {usd("cost_usd", "cost_usd")}, {usd("CASE WHEN kind <> 'charge' THEN cost_usd END", "corrections_usd")},
            sum({CHARGED})::BIGINT AS entries, count(*) FILTER ({ONE_MORE}) AS seen_again,
            (count(*) FILTER (reason = 'unpriced') - count(*) FILTER (kind = 'reversal' AND priced_as IS NULL))::BIGINT AS unpriced,
            {tokens("input_tokens")}, {tokens("output_tokens")}, {tokens("cache_read_tokens")}, {tokens("cache_write_tokens")},
            {tokens("cache_write_1h_tokens")}, {tokens("web_searches")},
            count(*) FILTER ({told}) AS client_entries, {usd(f"CASE WHEN {told} THEN client_cost_usd END", "client_cost_usd")},
            {usd(f"CASE WHEN {told} THEN cost_usd - client_cost_usd END", "client_difference_usd")}
        FROM ledger WHERE {given.text()} GROUP BY day, provider, model ORDER BY day, provider, model
    """  # noqa: S608
    return Question(sql, given.parameters)


def ledger_problems(params: LedgerProblemsParams, now: datetime) -> Question:
    """Corrections that do not fit what they correct, by the day of the call."""
    given = within(params.since, params.until, now, "c.occurred_at")
    if params.tenant is not None:
        given.add("c.tenant_id = $tenant_id", tenant_id=params.tenant)
    sql = f"""
        WITH corrections AS (SELECT * FROM ledger AS c WHERE kind <> 'charge' AND {given.text()}),
        originals AS (
            SELECT tenant_id, entry_id AS corrects, any_value(kind) AS original_kind, any_value(cost_usd) AS original_usd, count(*) AS entries
            FROM ledger SEMI JOIN (SELECT DISTINCT tenant_id, corrects AS entry_id FROM corrections) USING (tenant_id, entry_id)
            GROUP BY tenant_id, entry_id
        ),
        joined AS (
            SELECT corrections.*, originals.original_kind, originals.original_usd,
                count(*) FILTER (kind = 'reversal') OVER (PARTITION BY tenant_id, corrects) AS reversals
            FROM corrections LEFT JOIN originals USING (tenant_id, corrects)
        )
        SELECT tenant_id, entry_id, kind, corrects, occurred_at, cost_usd, original_usd, CASE
            WHEN original_kind IS NULL THEN 'corrects no entry there is'
            WHEN original_kind = 'reversal' THEN 'corrects a reversal'
            WHEN kind = 'reversal' AND reversals > 1 THEN 'its entry is reversed ' || reversals || ' times'
            WHEN kind = 'reversal' AND cost_usd <> -original_usd THEN 'does not take back what its entry cost'
            WHEN kind = 'adjustment' AND reversals = 0 THEN 'its entry is not reversed' END AS problem
        FROM joined WHERE problem IS NOT NULL ORDER BY occurred_at, entry_id
    """  # noqa: S608
    return Question(sql, given.parameters)


_CALL: Final = f"""
    CASE WHEN regexp_full_match(response_id, '{NUMBERED}')
        THEN concat_ws(' ', response_id, input_tokens, output_tokens, strftime(occurred_at, '%Y-%m-%d')) ELSE response_id END
"""
"""SQL: what names one call of a tenant, as cost recognises it. Not the provider: a router and the maker of a model are names of the same one."""


def ledger_duplicates(params: LedgerDuplicatesParams, now: datetime) -> Question:
    """Same tenant and response id, another event: the entry that came first stays. Ids drawn out of a thousand need the same day and counts, too."""
    given = within(params.since, params.until, now)
    given.equal(tenant_id=params.tenant)
    sql = f"""
        WITH counting AS (
            SELECT *, {_CALL} AS call FROM ledger ANTI JOIN ({_REVERSALS}) USING (tenant_id, entry_id)
            WHERE kind <> 'reversal' AND response_id IS NOT NULL AND NOT {ONE_MORE}
        ),
        twice AS (
            SELECT *, first_value(entry_id) OVER first AS kept_entry_id
            FROM counting SEMI JOIN (
                SELECT tenant_id, call FROM counting GROUP BY ALL HAVING count(*) > 1
            ) USING (tenant_id, call)
            WINDOW first AS (PARTITION BY tenant_id, call ORDER BY stream_sequence, entry_id)
        )
        SELECT tenant_id, strftime(occurred_at, '%Y-%m-%d') AS day, provider, model, response_id, entry_id, kept_entry_id, event_id,
            cost_usd, stream_sequence
        FROM twice WHERE entry_id <> kept_entry_id AND {given.text()} ORDER BY stream_sequence, entry_id
    """  # noqa: S608
    return Question(sql, given.parameters)
