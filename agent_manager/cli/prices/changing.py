"""``agentops prices set|remove|import|use``: a request to cost, which alone writes prices and leaves an audit record."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, Final
from uuid import uuid4

from nats.aio.client import Client
from pydantic import ValidationError

from agent_manager.cli import output
from agent_manager.cli.connection import Place, run
from agent_manager.cli.failure import CommandFailedError
from agent_manager.cli.money import ask_cost
from agent_manager.cli.prices.shelf import in_force, opened
from agent_manager.cli.when import NotATimeError, moment
from schemas.errors import field_errors
from schemas.prices.book import Book, Rule, Step, Stepped, StoredBook
from schemas.prices.overrides import EVERY_MODEL, Override, PriceChange, PriceChanged
from schemas.prices.units import UNITS
from streams import subjects

_RULES: Final = ("starts_with", "ends_with", "contains", "regex", "equals")


@dataclass(frozen=True, slots=True)
class Wanted:
    """An agreement as it was typed."""

    provider: str
    model: str
    match: str | None
    discount: str | None
    prices: tuple[str, ...]
    tenant: str | None
    tier: str | None
    since: str | None
    until: str | None
    name: str | None


def _decimal(text: str, option: str) -> Decimal:
    try:
        value = Decimal(text)
    except InvalidOperation:
        value = Decimal("NaN")
    if not value.is_finite():
        raise CommandFailedError(f"{option}: {text!r} is not a number", code=2)
    return value


def _price(text: str) -> tuple[str, Decimal | Stepped]:
    """``input=3`` or ``input=3@200000:6``; raises CommandFailedError."""
    unit, equals, value = text.partition("=")
    if not equals or unit not in UNITS:
        raise CommandFailedError(f"--price {text!r} is not UNIT=USD", f"Units: {', '.join(sorted(UNITS))}", code=2)
    base, *steps = value.split("@")
    option = f"--price {unit}"
    if not steps:
        return unit, _decimal(base, option)
    made = []
    for step in steps:
        above, colon, price = step.partition(":")
        if not colon or not above.isdecimal():
            raise CommandFailedError(f"{option}: {step!r} is not TOKENS:USD, as in 3@200000:6", code=2)
        made.append(Step(above=int(above), price=_decimal(price, option)))
    return unit, Stepped(base=_decimal(base, option), steps=tuple(made))


def _rule(text: str) -> Rule:
    kind, colon, value = text.partition(":")
    if not colon or kind not in _RULES:
        raise CommandFailedError(
            f"--match {text!r} is no rule", f"Write one of {', '.join(f'{name}:…' for name in _RULES)}", code=2
        )
    return Rule.model_validate({kind: value})


def _when(text: str | None, option: str, now: datetime) -> datetime | None:
    try:
        return None if text is None else moment(text, now)
    except NotATimeError as error:
        raise CommandFailedError(f"{option}: {error}", code=2) from error


def agreement(wanted: Wanted, now: datetime) -> Override:
    """The override that was typed; raises CommandFailedError naming the option."""
    what = wanted.match or ("all" if wanted.model == EVERY_MODEL else wanted.model)
    provider = wanted.provider.strip().lower()
    parts = (wanted.tenant, provider, what, wanted.tier)
    named = wanted.name or re.sub(r"[^A-Za-z0-9_-]+", "-", "-".join(part for part in parts if part)).strip("-")[:64]
    fields: dict[str, Any] = {
        "override_id": named, "provider": provider, "model": wanted.model, "tenant": wanted.tenant,
        "service_tier": wanted.tier, "since": _when(wanted.since, "--from", now), "until": _when(wanted.until, "--until", now),
        "match": None if wanted.match is None else _rule(wanted.match),
        "discount_percent": None if wanted.discount is None else _decimal(wanted.discount, "--discount"),
        "prices": dict(map(_price, wanted.prices)) or None,
    }  # fmt: skip
    try:
        return Override.model_validate({name: value for name, value in fields.items() if value is not None})
    except ValidationError as error:
        told = "; ".join(
            one.told(name) if (name := one.loc.removeprefix("$").removeprefix(".")) else one.msg for one in field_errors(error)
        )
        raise CommandFailedError(
            told.replace("discount_percent or prices", "--discount or --price"),
            "See `agentops prices set --help`",
            code=2,
        ) from error


async def change(client: Client, place: Place, wanted: PriceChange) -> PriceChanged:
    """Asks cost; raises CommandFailedError with its reason."""
    return await ask_cost(client, subjects.cost_prices(place.user), wanted, PriceChanged)


def _tell(changed: PriceChanged, *, as_json: bool) -> None:
    if as_json:
        output.write_json(changed.model_dump(mode="json"))
    else:
        output.write_line(f"{changed.change}. In force: {changed.version} (revision {changed.revision})")


def _make(data: Path | None, reason: str, *, as_json: bool, **fields: Any) -> None:
    async def work(client: Client, place: Place) -> PriceChanged:
        newest = await in_force(await opened(client))
        return await change(client, place, PriceChange(change_id=uuid4().hex, revision=newest.number, reason=reason, **fields))

    if not reason.strip():
        raise CommandFailedError("--reason is empty", "Say why: it stays with the change", code=2)
    _tell(run(data, work), as_json=as_json)


def set_(data: Path | None, wanted: Wanted, reason: str, *, as_json: bool) -> None:
    """Sets an agreement."""
    _make(data, reason, as_json=as_json, action="set", override=agreement(wanted, datetime.now(UTC)))


def remove(data: Path | None, name: str, reason: str, *, as_json: bool) -> None:
    """Takes one away."""
    _make(data, reason, as_json=as_json, action="remove", override_id=name)


def use(data: Path | None, version: str | None, reason: str, *, as_json: bool) -> None:
    """Brings a book into force; without a version the default."""
    _make(data, reason, as_json=as_json, action="use", version=version)


def import_(data: Path | None, file: Path, reason: str, *, use_it: bool, as_json: bool) -> None:
    """Keeps a book, and with ``use_it`` brings it into force."""
    try:
        book = Book.model_validate_json(file.read_bytes())
    except OSError as error:
        raise CommandFailedError(f"{file} cannot be read: {error.strerror}", code=2) from error
    except ValidationError as error:
        told = "; ".join(one.told() for one in field_errors(error)[:5])
        raise CommandFailedError(
            f"{file} is no price book: {told}", "`agentops prices export` prints one to start from", code=2
        ) from error
    stored = StoredBook.pack(book, at=datetime.now(UTC), by="import", reason=reason)
    _make(data, reason, as_json=as_json and not use_it, action="import", book=stored)
    if use_it:
        _make(data, reason, as_json=as_json, action="use", version=book.version)
