"""When an entry counts: budgets and the warehouse agree for what came late, from the future, or was corrected."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from nats.aio.client import Client

from processors.aggregate.queries.scope_spend import scope_spend
from processors.budget.books import Book
from processors.budget.spending import spends
from processors.cost.correcting import correct as corrected
from schemas.corrections import CorrectionRequest, EntryReference
from schemas.ledger import LedgerEntry
from schemas.queries import ScopeSpendParams
from streams.embedded import EmbeddedServer
from tests.conftest import until
from tests.processors_aggregate.conftest import Running
from tests.processors_aggregate.wire import ask
from tests.processors_budget.world import TENANT, budget, correct, counted, define, entry, lines, now, spend, standings, watching

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
TOLERANCE = timedelta(seconds=300)
PERIODS: tuple[dict[str, Any], ...] = (
    {"period": "hour"}, {"period": "day", "timezone": "Europe/Berlin"}, {"period": "week", "timezone": "Asia/Kolkata"},
    {"period": "month"}, {"period": "rolling", "rolling_minutes": 90}, {"period": "rolling", "rolling_minutes": 3 * 1440},
)  # fmt: skip


def charge(cost: Decimal | str, occurred: datetime, received: datetime) -> LedgerEntry:
    """As cost writes it."""
    latest = received + TOLERANCE
    return entry(cost, occurred, received=received, priced_at=latest if occurred > latest else None)


def correction(original: LedgerEntry, at: datetime, anew: Decimal | None) -> list[LedgerEntry]:
    """The reversal that cost writes ``at`` and, where it is charged ``anew``, the adjustment."""
    request = CorrectionRequest(
        correction_id="c", tenant=TENANT, action="reverse", entries=(EntryReference(sequence=1, entry_id=original.entry_id),),
        reason="wrong price",
    )  # fmt: skip
    made = corrected(original, request, None, {}, "test", at)
    assert not hasattr(made, "outcome")
    both = [made.reversal]
    if anew is not None:
        both.append(made.reversal.model_copy(update={"entry_id": "a", "kind": "adjustment", "cost_usd": anew}))
    return both


def asked(story: list[tuple[int, LedgerEntry]]) -> duckdb.DuckDBPyConnection:
    """What of the warehouse the query reads."""
    connection = duckdb.connect()
    connection.execute(
        "CREATE TABLE ledger (tenant_id VARCHAR, workspace_id VARCHAR, project_id VARCHAR, agent_id VARCHAR, stream_sequence BIGINT,"
        " occurred_at TIMESTAMP, received_at TIMESTAMP, priced_at TIMESTAMP, cost_usd DECIMAL(18,9));"
        "CREATE TABLE offsets (stream VARCHAR, applied_sequence BIGINT)"
    )
    for sequence, one in story:
        connection.execute(
            "INSERT INTO ledger VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                one.tenant_id, None, None, one.agent_id, sequence,
                *(None if at is None else at.replace(tzinfo=None) for at in (one.occurred_at, one.received_at, one.priced_at)),
                one.cost_usd,
            ],
        )  # fmt: skip
    return connection


def total(connection: duckdb.DuckDBPyConnection, since: datetime, until: datetime) -> Decimal:
    params = ScopeSpendParams(tenant=TENANT, since=since, until=until, up_to_sequence=10**6)
    question = scope_spend(params, NOW)
    [row] = connection.execute(question.sql, question.parameters).fetchall()
    found: Decimal = row[1]
    return found


DAYS = 40 * 86_400
CALLS = st.tuples(
    st.integers(-DAYS, DAYS), st.integers(0, DAYS), st.decimals(Decimal(0), Decimal(9), places=9),
    st.none() | st.tuples(st.integers(0, DAYS), st.none() | st.decimals(Decimal(0), Decimal(9), places=9)),
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(st.lists(CALLS, max_size=15), st.sampled_from(PERIODS))
def test_every_period_of_a_budget_is_what_the_warehouse_says_of_it(calls: list[Any], period: dict[str, Any]) -> None:
    """Calls that claim any time, arrive at any, and are corrected at any later one, in the order in which they arrive."""
    arriving: list[tuple[datetime, int, list[LedgerEntry]]] = []
    counts_at: dict[str, datetime] = {}
    for number, (claims_s, before_s, cost, fix) in enumerate(calls):
        received = NOW - timedelta(seconds=before_s)
        one = charge(cost, NOW + timedelta(seconds=claims_s), received)
        counts_at[one.event_id] = min(one.occurred_at, received + TOLERANCE)
        arriving.append((received, number, [one]))
        if fix is not None:
            at = min(NOW, received + timedelta(seconds=fix[0]))
            arriving.append((at, number + 1000, correction(one, at, fix[1])))
    began = NOW - timedelta(days=100)
    book = Book(budget(at=began, **period), 1, 0, began, 300.0, clock=began)
    book.current()
    story = []
    for sequence, (at, _, entries) in enumerate(sorted(arriving, key=lambda each: each[:2]), 1):
        spent, wrong = spends(lines(entries), TOLERANCE)
        assert not wrong
        book.take(sequence, spent, at)
        story += [(sequence, one) for one in entries]
    book.advance(NOW)
    with asked(story) as warehouse:
        for tally in book.tallies.values():
            start, end = tally.span.start, tally.span.end
            if book.rolling_s is not None:
                seconds = int(NOW.timestamp() - book.rolling_s) // book.slot_s * book.slot_s
                start, end = datetime.fromtimestamp(seconds, UTC), NOW + timedelta(days=1)
            own = sum((one.cost_usd for _, one in story if start <= counts_at[one.event_id] < end), Decimal(0))
            assert tally.spent == total(warehouse, start, end) == own


@pytest.mark.parametrize("period", PERIODS, ids=lambda period: "-".join(map(str, period.values())))
async def test_a_corrected_call_from_the_future_counts_where_the_call_did(
    server: EmbeddedServer, client: Client, running: Running, period: dict[str, Any]
) -> None:
    """It arrived in an earlier period, claims a later one, and is corrected today: today's spending is as before."""
    future = charge("7", now(40 * 86_400), now(-35 * 86_400))
    late = charge("3", now(-35 * 86_400), now())
    async with watching(server, warehouse_patience_s=10):
        await spend(client, future, late)
        await define(client, budget(limit="1000", at=now(-60 * 86_400), **period))
        await counted(client)
        await spend(client, charge("1.5", now(), now()))
        await correct(client, *correction(future, now(), Decimal(5)))
        await correct(client, *correction(late, now(), None))
        sequence = await correct(client, *correction(charge("1.5", now(), now()), now(), Decimal("0.25")))
        await running.caught_up()

        async def read() -> bool:
            return (await standings(client))["b"].ledger_sequence >= sequence

        await until(read, "everything is read")
        found = (await standings(client))["b"]
    assert found.spent_usd == Decimal("0.25")
    given: dict[str, Any] = {"tenant": TENANT, "since": found.period_start, "until": now(86_400), "up_to_sequence": sequence}
    [row] = (await ask(client, "scope_spend", **given)).rows
    assert Decimal(row["cost_usd"]) == Decimal("0.25")
