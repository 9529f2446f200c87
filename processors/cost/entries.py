"""From an accepted model call to its ledger entry. No clock, no network."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final, NamedTuple

import orjson

from processors.cost.sightings import OBSERVED_BY, OBSERVERS, Sighting, sighting
from schemas.ids import derived_text
from schemas.prices.finding import PriceBook, Unpriced
from schemas.prices.pricing import price
from schemas.prices.rates import ZERO, Rates
from schemas.prices.units import FIELDS, Tokens, rarities

_KIND: Final = "charge"
_MOST_TOKENS: Final = 10**12
_RARE: Final = frozenset(FIELDS.values())


class PoisonError(ValueError):
    """A line on ``events.`` is not an accepted event: validate never wrote it. Trying again does not help."""


class Charge(NamedTuple):
    """One ledger entry, and what there is to say about it."""

    line: bytes
    """LedgerEntry as JSON."""
    cost: Decimal
    unpriced: str | None = None
    """Why there is no price, where there is none."""
    provider: str = ""
    model: str = ""
    seen: Sighting | None = None
    """By what the call is known again."""


@dataclass(frozen=True, slots=True)
class NotBillable:
    """A model call without usage: it failed before the provider counted anything."""


_SHOWN_RATES: Final = 4096
_shown_rates: dict[int, tuple[Rates, orjson.Fragment]] = {}


def _shown(rates: Rates) -> orjson.Fragment:
    """Rates as an entry writes them. Remembered by identity, which holding them keeps: they are the book's own few objects."""
    found = _shown_rates.get(id(rates))
    if found is None:
        if len(_shown_rates) >= _SHOWN_RATES:
            _shown_rates.clear()
        found = _shown_rates[id(rates)] = (rates, orjson.Fragment(orjson.dumps(rates.shown())))
    return found[1]


def _counts(usage: dict[str, Any]) -> tuple[int, int, int, int, int]:
    """Input, output, cache reads, cache writes, reasoning; raises PoisonError."""
    get = usage.get
    sent, answered = get("input_tokens", 0), get("output_tokens", 0)
    read, written, thought = get("cache_read_tokens", 0), get("cache_write_tokens", 0), get("reasoning_tokens", 0)
    if not (
        sent.__class__ is answered.__class__ is read.__class__ is written.__class__ is thought.__class__ is int
        and 0 <= sent <= _MOST_TOKENS and 0 <= answered <= _MOST_TOKENS and read >= 0 and written >= 0 and 0 <= thought <= answered
        and read + written <= sent
    ):  # fmt: skip
        for name in ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens"):
            _count(usage, name)
        raise PoisonError("$.resource_usage does not add up")
    return sent, answered, read, written, thought


def _count(usage: dict[str, Any], name: str) -> int:
    value = usage.get(name, 0)
    if type(value) is not int or not 0 <= value <= _MOST_TOKENS:
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


_arrival: Final = lru_cache(maxsize=1024)(moment_of)
"""Events of one message arrived at one moment."""


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
        *_counts(usage),
        None if _RARE.isdisjoint(usage) else rarities({name: _count(usage, name) for name in _RARE.intersection(usage)}),
    )  # fmt: skip
    occurred_at, received_at = event["occurred_at"], event["ingest"]["received_at"]
    provider, model, tier = call["provider"], call["model"], call.get("service_tier")
    occurred, latest = moment_of(occurred_at), _arrival(received_at) + tolerance
    moment = min(occurred, latest)
    found = price(book, provider=provider, model=model, service_tier=tier, tenant=tenant, moment=moment, tokens=tokens)
    cost, why = (ZERO, found.why) if isinstance(found, Unpriced) else (found.cost, None)
    event_id = event["event_id"]
    made: dict[str, Any] = {
        "entry_id": derived_text("ledger", tenant, event_id, _KIND),
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
    if "workspace_id" in whose:
        made["workspace_id"] = whose["workspace_id"]
    if "project_id" in whose:
        made["project_id"] = whose["project_id"]
    if "run_id" in run:
        made["run_id"] = run["run_id"]
    if "workflow_id" in run:
        made["workflow_id"] = run["workflow_id"]
    if "step_id" in call:
        made["step_id"] = call["step_id"]
    if "response_id" in call:
        made["response_id"] = call["response_id"]
    observer = event["attributes"].get(OBSERVED_BY) if "attributes" in event else None
    if isinstance(observer, str) and observer in OBSERVERS:
        made["observed_by"] = observer
        trace = event.get("trace")
        if trace is not None:
            # A proxy answers to the span that called it, which is the call's own.
            span = trace.get("parent_span_id" if observer == "proxy" else "span_id")
            if span is not None:
                made["trace_id"], made["span_id"] = trace["trace_id"], span
    if "service_tier" in call:
        made["service_tier"] = tier
    if "step_id" not in made and "step" in event:
        made["step_id"] = event["step"]["step_id"]
    if isinstance(found, Unpriced):
        made["note"] = found.why
    else:
        made["priced_as"] = found.priced_as
        made["unit_prices"] = _shown(found.rates)
        if found.override is not None:
            made["price_override"] = found.override
    if tokens.rarities is not None:
        made |= {name: usage[name] for name in _RARE.intersection(usage)}
    if moment is not occurred:
        made["priced_at"] = moment.isoformat()
    if "cost" in event:
        made["client_cost_usd"] = event["cost"]["cost_usd"]
    return Charge(orjson.dumps(made), cost, why, provider, model, sighting(made))


_OF_MONEY: Final = frozenset({"priced_as", "unit_prices", "price_override", "client_cost_usd", "note", *_RARE})
_COUNTED: Final = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens")


def one_more(line: bytes, stands: str, why: str | None) -> bytes:
    """The entry in ``line`` as that of one more sighting of the call for which ``stands`` stands: nothing is charged, no token counts.

    ``why`` tells how it differs from what stands; None where it does not.
    """
    made: dict[str, Any] = {name: value for name, value in orjson.loads(line).items() if name not in _OF_MONEY}
    made |= dict.fromkeys(_COUNTED, 0)
    made |= {"reason": "duplicate_call", "duplicate_of": stands, "cost_usd": "0.000000000", "differs": why is not None}
    if why is not None:
        made["note"] = why
    return orjson.dumps(made)
