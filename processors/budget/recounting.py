"""What was spent before a budget was watched: from the warehouse, and from LEDGER behind the position the warehouse answers for."""

import asyncio
from collections.abc import Iterable
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Final

import nats.errors
import structlog
from nats.aio.client import Client
from pydantic import ValidationError

from processors.budget.spending import Spend, in_scope, spends
from processors.budget.tallies import SLACK, ZERO, Gap, Part
from schemas.budgets import BudgetDefinition
from schemas.queries import MAX_PAGE, Page, ScopeSpendParams
from streams import subjects, topology
from streams.reader import OrderedReader, Source, position_at

log = structlog.get_logger(__name__)

_ASK_S: Final = 5.0
_AGAIN_S: Final = 0.5


class NoAnswerError(Exception):
    """The warehouse does not answer, or not usably. Trying again may help; the ledger itself always does."""


def _parts(rows: Iterable[dict[str, Any]], slot_s: int | None) -> list[Part]:
    found = []
    for row in rows:
        if not row["entries"]:
            continue
        slot = None
        if slot_s is not None:
            slot = int(_seconds(row["slot_at"])) // slot_s
        found.append(Part(Decimal(row["cost_usd"]), row["entries"], slot, row["last_agent_id"]))
    return found


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


async def _ask(client: Client, definition: BudgetDefinition, gap: Gap, tolerance_s: int) -> tuple[list[Part], int]:
    """Sums by the warehouse, and the position of LEDGER they are of."""
    of = {} if definition.of is None else {definition.scope: definition.of}
    params = ScopeSpendParams(
        tenant=definition.tenant_id, since=gap.span.start, until=gap.span.end, up_to_sequence=gap.up_to, tolerance_s=tolerance_s,
        slot_s=gap.slot_s, limit=MAX_PAGE, **of,  # type: ignore[arg-type]
    )  # fmt: skip
    request = params.model_dump_json(exclude_none=True).encode()
    try:
        reply = await client.request(subjects.query("scope_spend"), request, timeout=_ASK_S)
        page = Page.model_validate_json(reply.data)
        return _parts(page.rows, gap.slot_s), page.rows[0]["applied_sequence"]
    except (nats.errors.Error, TimeoutError, OSError) as error:
        raise NoAnswerError(repr(error)) from error
    except (ValidationError, KeyError, IndexError, TypeError, ValueError) as error:
        raise NoAnswerError(f"not an answer: {reply.data[:300]!r}") from error


def summed(definition: BudgetDefinition, gap: Gap, spent: list[Spend]) -> list[Part]:
    """What of ``spent`` belongs into ``gap``."""
    sums: dict[int | None, tuple[Decimal, int, str]] = {}
    for each in in_scope(definition, spent):
        if gap.span.holds(each.moment):
            slot = None if gap.slot_s is None else int(each.moment.timestamp()) // gap.slot_s
            amount, entries, _ = sums.get(slot, (ZERO, 0, ""))
            sums[slot] = (amount + each.amount, entries + 1, each.agent_id)
    return [Part(amount, entries, slot, agent) for slot, (amount, entries, agent) in sums.items()]


async def _read(client: Client, definition: BudgetDefinition, gap: Gap, after: int, tolerance_s: int) -> list[Part]:
    """The same from LEDGER itself, messages ``after`` … ``gap.up_to``."""
    if after >= gap.up_to:
        return []
    reader = OrderedReader(client, Source(topology.LEDGER, subjects.ledger_of(definition.tenant_id)), after)
    found: list[Part] = []
    try:
        while True:
            messages = await reader.fetch(500, 1.0)
            for message in messages:
                if message.sequence <= gap.up_to:
                    found += summed(definition, gap, spends(message.data, timedelta(seconds=tolerance_s))[0])
            if reader.position >= gap.up_to or (not messages and reader.caught_up):
                return found
            # Reading a long ledger must not hold up the one that is being watched.
            await asyncio.sleep(0)
    finally:
        await reader.close()


async def recount(client: Client, definition: BudgetDefinition, gap: Gap, *, tolerance_s: int, patience_s: float) -> list[Part]:
    """What ``gap`` comes to, exactly. Raises what NATS raises; trying again helps."""
    if gap.up_to == 0:
        return []
    loop = asyncio.get_running_loop()
    deadline = loop.time() + patience_s
    why = ""
    while loop.time() < deadline:
        try:
            parts, applied = await _ask(client, definition, gap, tolerance_s)
        except NoAnswerError as error:
            if not why:
                log.info("budget.warehouse_silent", budget_id=definition.budget_id, reason=str(error))
            why = str(error)
            await asyncio.sleep(_AGAIN_S)
            continue
        return parts + await _read(client, definition, gap, applied, tolerance_s)
    # An entry stands in LEDGER no earlier than it was received, and counts no later than the tolerance after that.
    since = gap.span.start - timedelta(seconds=tolerance_s) - SLACK
    after = await position_at(client, topology.LEDGER, since)
    log.warning(
        "budget.warehouse_not_asked", budget_id=definition.budget_id, tenant_id=definition.tenant_id, reason=why,
        ledger_messages=gap.up_to - after,
    )  # fmt: skip
    return await _read(client, definition, gap, after, tolerance_s)
