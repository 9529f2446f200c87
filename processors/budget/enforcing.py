"""What is told and done when a threshold is reached, in the words of the wire. Pure."""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Final
from uuid import UUID

from processors.budget.books import Book
from processors.budget.judging import exhausted, falls_below_at
from processors.budget.tallies import Hit, Lapsed, Reached, Tally
from schemas.budgets import FULL, BudgetDefinition, BudgetFlag
from schemas.commands import Command
from schemas.events import CURRENT_VERSION, Event
from schemas.ids import derived_id, is_token
from schemas.model import Count, Lenient
from schemas.sections import Budget, Run, Tenant
from schemas.state import AgentRecord
from streams import subjects

BY: Final = "budget"
"""The user token of its commands, and who its events say they are from."""
STOP_WITHIN: Final = timedelta(hours=1)
"""A stop that no manager has taken by then is pointless."""
_LARGEST: Final = Decimal("999999999.999999999")
"""What an event can tell of a sum."""


class Telling(Lenient):
    """A message that must be published, whatever happens in between; its id makes a repeat harmless."""

    subject: str
    data: str
    message_id: str
    ttl_s: Count | None = None


def whose(definition: BudgetDefinition) -> str:
    """``project project-1 of tenant demo``."""
    tenant = f"tenant {definition.tenant_id}"
    return tenant if definition.of is None else f"{definition.scope} {definition.of} of {tenant}"


def dollars(amount: Decimal) -> str:
    """An amount as people read it: cents, and more digits where it has less than a cent."""
    rounded = amount.quantize(Decimal("0.01"))
    return f"${rounded:,.2f}" if rounded == amount or abs(amount) >= 1 else f"${amount.normalize():f}"


def _until(book: Book, tally: Tally) -> str:
    return "" if book.rolling_s is not None else f", which ends {tally.span.end:%Y-%m-%d %H:%M} UTC"


def reason(book: Book, tally: Tally, threshold: int) -> str:
    """One sentence for people."""
    definition = book.definition
    late = " (by spending that arrived late)" if tally.late else ""
    return (
        f"budget {definition.budget_id} of {whose(definition)} has reached {threshold} %: {dollars(tally.spent)} of "
        f"{dollars(definition.limit_usd)} in {book.period(tally)}{_until(book, tally)}{late}"
    )


def _tenant(definition: BudgetDefinition) -> Tenant:
    return Tenant(
        tenant_id=definition.tenant_id,
        workspace_id=definition.of if definition.scope == "workspace" else None,
        project_id=definition.of if definition.scope == "project" else None,
    )


def _agent(reached: Reached) -> str:
    return reached.agent if reached.agent and is_token(reached.agent) else BY


def event(book: Book, hit: Hit) -> Event:
    """``budget.threshold_hit``, in the name of the agent that spent last."""
    definition, tally = book.definition, hit.tally
    end = tally.span.end if book.rolling_s is None else falls_below_at(book, tally)
    return Event(
        event_version=CURRENT_VERSION,
        event_id=UUID(hit.reached.event_id),
        event_type="budget.threshold_hit",
        occurred_at=hit.reached.at,
        tenant=_tenant(definition),
        run=Run(agent_id=_agent(hit.reached)),
        budget=Budget(
            budget_id=definition.budget_id,
            scope=definition.scope,
            period=book.period(tally),
            threshold=hit.threshold / FULL,
            limit_usd=definition.limit_usd,
            spent_usd=_told(tally.spent),
            enforcement=definition.enforcement,
            result=_result(book, hit),
        ),
        attributes={
            "emitted_by": BY,
            "reason": reason(book, tally, hit.threshold),
            "revision": book.revision,
            "period_start": tally.span.start.isoformat(),
            "period_end": end.isoformat(),
            "late": tally.late,
        },
    )


def cleared(book: Book, lapsed: Lapsed) -> Event:
    """``budget.threshold_cleared``: the same agent's as the event that told of the threshold, so that it comes after it."""
    definition = book.definition
    return Event(
        event_version=CURRENT_VERSION,
        event_id=derived_id("budget_cleared", lapsed.reached.event_id),
        event_type="budget.threshold_cleared",
        occurred_at=lapsed.at,
        tenant=_tenant(definition),
        run=Run(agent_id=_agent(lapsed.reached)),
        budget=Budget(
            budget_id=definition.budget_id,
            scope=definition.scope,
            period=lapsed.period,
            threshold=lapsed.threshold / FULL,
            limit_usd=lapsed.limit,
            spent_usd=_told(lapsed.spent),
            enforcement=definition.enforcement,
            result="cleared",
        ),
        attributes={
            "emitted_by": BY,
            "reason": f"{lapsed.threshold} % of budget {definition.budget_id} of {whose(definition)} holds no longer: {lapsed.why}",
            "crossing": lapsed.reached.event_id,
            "revision": book.revision,
        },
    )


def _told(amount: Decimal) -> Decimal:
    return max(-_LARGEST, min(amount, _LARGEST))


def _result(book: Book, hit: Hit) -> str:
    if hit.threshold < FULL or not hit.tally.span.end > book.clock - timedelta(seconds=1):
        return "told"
    return {"alert": "told", "stop": "stopping agents", "deny": "doors refuse"}[book.definition.enforcement]


def telling(made: Event) -> Telling:
    """The event on its way."""
    subject = subjects.telemetry(made.tenant.tenant_id, made.run.agent_id, made.kind)
    return Telling(subject=subject, data=made.model_dump_json(exclude_none=True), message_id=str(made.event_id))


def flag(book: Book) -> BudgetFlag | None:
    """By which doors are to refuse now; None: they are not."""
    definition = book.definition
    if definition.enforcement != "deny" or (tally := exhausted(book)) is None:
        return None
    reached = tally.crossed.get(FULL)
    return BudgetFlag(
        budget_id=definition.budget_id,
        tenant_id=definition.tenant_id,
        scope=definition.scope,
        of=definition.of,
        limit_usd=definition.limit_usd,
        spent_usd=tally.spent,
        period=book.period(tally),
        reason=reason(book, tally, FULL),
        since=reached.at if reached is not None else book.clock,
        until=falls_below_at(book, tally),
    )


def stands(present: BudgetFlag | None, book: Book) -> bool:
    """Whether doors do by ``present`` what they should. What was spent meanwhile is no reason to write a flag anew."""
    definition = book.definition
    tally = exhausted(book) if definition.enforcement == "deny" else None
    if present is None or tally is None:
        return present is None and tally is None
    told = (present.limit_usd, present.scope, present.of, present.until)
    return told == (definition.limit_usd, definition.scope, definition.of, falls_below_at(book, tally))


def _in_scope(definition: BudgetDefinition, record: AgentRecord) -> bool:
    if record.tenant_id != definition.tenant_id:
        return False
    found = {
        "tenant": None, "workspace": record.workspace_id, "project": record.project_id, "agent": record.agent_id,
    }[definition.scope]  # fmt: skip
    return found == definition.of


def stops(book: Book, registry: Mapping[str, AgentRecord], now: datetime) -> list[Telling]:
    """A command to each agent in scope that was not asked yet: those registered in it, and those that spent in it."""
    definition = book.definition
    if definition.enforcement != "stop" or (tally := exhausted(book)) is None:
        return []
    registered = {record.agent_id for record in registry.values() if _in_scope(definition, record)}
    wanted = sorted(agent for agent in (registered | tally.agents) - tally.asked if is_token(agent))
    tally.asked.update(wanted)
    return list(_commands(book, tally, wanted, now))


def _commands(book: Book, tally: Tally, agents: Iterable[str], now: datetime) -> Iterable[Telling]:
    definition = book.definition
    expires = now + STOP_WITHIN
    reached = tally.crossed.get(FULL)
    for agent in agents:
        command_id = str(derived_id("budget_stop", reached.event_id if reached else now.isoformat(), agent))
        command = Command(
            command_id=command_id, command="stop", agent_id=agent, params={"reason": reason(book, tally, FULL)}, timestamp=now,
            expires_at=expires, issued_by=f"{BY} {definition.budget_id}",
        )  # fmt: skip
        yield Telling(
            subject=subjects.command(definition.tenant_id, BY, agent),
            data=command.model_dump_json(exclude_none=True),
            message_id=command_id,
            ttl_s=int(STOP_WITHIN.total_seconds()),
        )
