"""From an accepted model call to its ledger entry. No clock, no network."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final

import orjson

from processors.cost.price_book import PriceBook, Unpriced
from processors.cost.rates import ZERO, CostTooLargeError, Rates, Tokens
from schemas.ids import derived_id

_KIND: Final = "charge"


class PoisonError(ValueError):
    """A line on ``events.`` is not an accepted event: validate never wrote it. Trying again does not help."""


@dataclass(frozen=True, slots=True)
class Charge:
    """One ledger entry, and what there is to say about it."""

    line: bytes
    """LedgerEntry as JSON."""
    cost: Decimal
    unpriced: str | None = None
    """Why there is no price, where there is none."""
    provider: str = ""
    model: str = ""


@dataclass(frozen=True, slots=True)
class NotBillable:
    """A model call without usage: it failed before the provider counted anything."""


@lru_cache(maxsize=4096)
def _shown(rates: Rates) -> orjson.Fragment:
    return orjson.Fragment(orjson.dumps(rates.shown()))


def _count(usage: dict[str, Any], name: str) -> int:
    value = usage.get(name, 0)
    if type(value) is not int or not 0 <= value <= 10**12:
        msg = f"$.resource_usage.{name} is not a count of tokens"
        raise PoisonError(msg)
    return value


def moment_of(text: str) -> datetime:
    """An instant as validate writes it; raises ValueError for anything else."""
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None:
        msg = f"{text!r} has no time zone"
        raise ValueError(msg)
    return moment


def entry(raw: bytes, tenant: str, book: PriceBook, tolerance: timedelta) -> Charge | NotBillable:
    """The ledger entry for the event in ``raw``; raises PoisonError where it is not an accepted model call of ``tenant``.

    The price is the one effective when the call happened; a call from the future is priced as of its arrival plus ``tolerance``.
    """
    try:
        return _entry(orjson.loads(raw), tenant, book, tolerance)
    except PoisonError:
        raise
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
        raise PoisonError(f"{type(error).__name__}: {error}") from error


def _entry(event: dict[str, Any], tenant: str, book: PriceBook, tolerance: timedelta) -> Charge | NotBillable:
    call, whose, run = event["model_call"], event["tenant"], event["run"]
    if whose["tenant_id"] != tenant:
        msg = f"$.tenant.tenant_id is {whose['tenant_id']!r}, the subject says {tenant!r}"
        raise PoisonError(msg)
    usage = event.get("resource_usage")
    if usage is None:
        return NotBillable()
    tokens = Tokens(
        _count(usage, "input_tokens"), _count(usage, "output_tokens"), _count(usage, "cache_read_tokens"),
        _count(usage, "cache_write_tokens"), _count(usage, "reasoning_tokens"),
    )  # fmt: skip
    if tokens.cache_read + tokens.cache_write > tokens.input or tokens.reasoning > tokens.output:
        raise PoisonError("$.resource_usage does not add up")
    occurred_at, received_at = event["occurred_at"], event["ingest"]["received_at"]
    provider, model, tier = call["provider"], call["model"], call.get("service_tier")
    received = moment_of(received_at)
    plan = book.plan(provider, model, tier)
    cost, rates, why = ZERO, None, None
    if isinstance(plan, Unpriced):
        why = plan.why
    else:
        moment = min(moment_of(occurred_at), received + tolerance)
        rates = plan.at(moment).rates(tokens.input)
        try:
            cost = rates.cost(tokens)
        except CostTooLargeError as error:
            why = str(error)
    event_id = event["event_id"]
    made: dict[str, Any] = {
        "entry_id": str(derived_id("ledger", tenant, event_id, _KIND)),
        "kind": _KIND,
        "reason": "priced" if why is None else "unpriced",
        "tenant_id": tenant,
        "agent_id": run["agent_id"],
        "model_call_id": call["model_call_id"],
        "event_id": event_id,
        "provider": provider,
        "model": model,
        "occurred_at": occurred_at,
        "received_at": received_at,
        "input_tokens": tokens.input,
        "output_tokens": tokens.output,
        "cache_read_tokens": tokens.cache_read,
        "cache_write_tokens": tokens.cache_write,
        "reasoning_tokens": tokens.reasoning,
        "estimated": bool(usage.get("estimated", False)),
        "price_book_version": book.version,
        "cost_usd": format(cost, "f"),
        "currency": "USD",
    }
    for name, source in (("workspace_id", whose), ("project_id", whose), ("run_id", run), ("workflow_id", run)):
        if name in source:
            made[name] = source[name]
    for name in ("step_id", "response_id", "service_tier"):
        if name in call:
            made[name] = call[name]
    if "step_id" not in made and "step" in event:
        made["step_id"] = event["step"]["step_id"]
    if why is None and rates is not None and not isinstance(plan, Unpriced):
        made["priced_as"] = plan.priced_as
        made["unit_prices"] = _shown(rates)
    if "cost" in event:
        made["client_cost_usd"] = event["cost"]["cost_usd"]
    return Charge(orjson.dumps(made), cost, why, provider, model)
