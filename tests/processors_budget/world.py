"""Budgets, ledger entries as cost writes them, and the processor at work on a real server."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import count
from pathlib import Path
from typing import Any

import orjson
from nats.aio.client import Client

from processors.budget.app import BudgetProcessor
from processors.budget.settings import BudgetSettings
from processors.runner import ProcessorContext
from schemas.budgets import BudgetDefinition, BudgetsPage, BudgetStanding, budget_key
from schemas.ledger import LedgerEntry
from streams import subjects, topology
from streams.connect import connect
from streams.embedded import EmbeddedServer
from streams.kv import TypedBucket
from streams.messages import CONTENT_TYPE, EVENT_COUNT, NDJSON
from tests.conftest import until
from tests.turns import Mine

TENANT = "acme"
_number = count(1)


def now(seconds: float = 0) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=seconds)


def budget(budget_id: str = "b", limit: str = "10", **given: Any) -> BudgetDefinition:
    at = given.pop("at", None) or now()
    return BudgetDefinition.model_validate(
        {
            "budget_id": budget_id, "tenant_id": TENANT, "scope": "tenant", "limit_usd": Decimal(limit), "period": "day",
            "created_at": at, "updated_at": at, "updated_by": "test",
        }
        | given
    )  # fmt: skip


def entry(cost: str | Decimal, at: datetime | None = None, *, received: datetime | None = None, **given: Any) -> LedgerEntry:
    number = next(_number)
    occurred = at or now()
    return LedgerEntry.model_validate(
        {
            "entry_id": f"e{number}", "kind": "charge", "reason": "priced", "tenant_id": TENANT, "agent_id": "planner",
            "model_call_id": f"m{number}", "event_id": f"v{number}", "provider": "openai", "model": "gpt-4o",
            "occurred_at": occurred, "received_at": received or max(occurred, now()), "price_book_version": "test",
            "cost_usd": Decimal(cost),
        }
        | given
    )  # fmt: skip


def lines(entries: Sequence[LedgerEntry]) -> bytes:
    return b"\n".join(each.model_dump_json(exclude_none=True).encode() for each in entries)


async def spend(client: Client, *entries: LedgerEntry, tenant: str = TENANT) -> int:
    """One micro-batch on the ledger; its sequence."""
    headers = {CONTENT_TYPE: NDJSON, EVENT_COUNT: str(len(entries))}
    ack = await client.jetstream().publish(subjects.ledger(tenant), lines(entries), headers=headers)
    return ack.seq


async def correct(client: Client, *entries: LedgerEntry) -> int:
    """Reversals and adjustments where cost writes them; the sequence."""
    subject = subjects.ledger_corrections(TENANT, f"{entries[0].occurred_at:%Y%m%d}")
    headers = {CONTENT_TYPE: NDJSON, EVENT_COUNT: str(len(entries))}
    return (await client.jetstream().publish(subject, lines(entries), headers=headers)).seq


async def define(client: Client, *definitions: BudgetDefinition) -> None:
    bucket = await TypedBucket.open(client, topology.BUDGETS, BudgetDefinition)
    for each in definitions:
        await bucket.put(budget_key(each.tenant_id, each.budget_id), each)


async def undefine(client: Client, budget_id: str = "b") -> None:
    bucket = await TypedBucket.open(client, topology.BUDGETS, BudgetDefinition)
    await bucket.delete(budget_key(TENANT, budget_id))


async def standings(client: Client, **params: Any) -> dict[str, BudgetStanding]:
    reply = await client.request(subjects.query("budgets"), orjson.dumps(params), timeout=5)
    return {each.definition.budget_id: each for each in BudgetsPage.model_validate_json(reply.data).budgets}


async def told(client: Client) -> list[dict[str, Any]]:
    """Every event on TELEMETRY, as validate would take it: each id once."""
    state = (await client.jsm().stream_info(topology.TELEMETRY)).state
    found: dict[str, dict[str, Any]] = {}
    for sequence in range(max(1, state.first_seq), state.last_seq + 1):
        message = await client.jsm().get_msg(topology.TELEMETRY, seq=sequence)
        assert message.data
        event = orjson.loads(message.data)
        before = found.setdefault(event["event_id"], event)
        assert before == event, "one id, two events"
    return list(found.values())


async def crossings(client: Client, budget_id: str = "b", event_type: str = "budget.threshold_hit") -> list[int]:
    """Thresholds told, in per cent."""
    return [
        round(event["budget"]["threshold"] * 100)
        for event in await told(client)
        if event["event_type"] == event_type and event["budget"]["budget_id"] == budget_id
    ]


async def cleared(client: Client, budget_id: str = "b") -> list[int]:
    """Thresholds told to hold no longer, in per cent; each of a crossing that was told before it."""
    events = await told(client)
    ids = [event["event_id"] for event in events]
    for number, event in enumerate(events):
        if event["event_type"] == "budget.threshold_cleared":
            assert event["attributes"]["crossing"] in ids[:number]
    return await crossings(client, budget_id, "budget.threshold_cleared")


@asynccontextmanager
async def watching(server: EmbeddedServer, **settings: Any) -> AsyncIterator[BudgetProcessor]:
    """The processor at work; stopped in the end as the runner does."""
    context = ProcessorContext(Path(), "test", lambda name: connect(server.settings(), name))
    processor = BudgetProcessor(context, BudgetSettings(**({"warehouse_patience_s": 0.3} | settings)), Mine())
    await processor.start()
    task = asyncio.create_task(processor.run())
    try:
        await until(lambda: not processor.waiting_for(), "the processor is ready")
        yield processor
    finally:
        await processor.stop()
        await task


async def counted(client: Client, budget_id: str = "b", within_s: float = 10) -> None:
    """Waits until the budget is known and everything before it is summed up."""

    async def known() -> bool:
        found = (await standings(client)).get(budget_id)
        return found is not None and found.counted

    await until(known, f"budget {budget_id} is counted", within_s)
