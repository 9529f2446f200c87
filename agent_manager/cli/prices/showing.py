"""``agentops prices list|show|export|diff|history``."""

import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from nats.aio.client import Client

from agent_manager.cli import output, readable
from agent_manager.cli.connection import Place, run
from agent_manager.cli.failure import CommandFailedError
from agent_manager.cli.fitting import Column
from agent_manager.cli.prices.shelf import in_force, opened, prices
from agent_manager.cli.when import NotATimeError, moment
from schemas.prices.book import Book, Model, Price, Prices, Rule, Stepped, written
from schemas.prices.finding import PriceBook, Unpriced
from schemas.prices.overrides import Override, Revision
from schemas.prices.rates import Tariff

_COMMON = ("input", "output", "cache_read", "cache_write", "cache_write_1h")


def plain(value: Any) -> str:
    """A price without needless zeros."""
    text = format(value, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def price_text(price: Price | Stepped | None) -> str:
    """``3``, or ``3, above 200,000: 6``."""
    if price is None:
        return readable.NOTHING
    if isinstance(price, Stepped):
        return ", ".join([plain(price.base), *(f"above {step.above:,}: {plain(step.price)}" for step in price.steps)])
    return plain(price)


def prices_text(found: Prices) -> str:
    """All of them in one line."""
    return " · ".join(f"{name} {price_text(price)}" for name, price in found.items()) or "free"


def rule_text(rule: Rule) -> str:
    """A rule in words."""
    (name,) = rule.model_fields_set
    value = getattr(rule, name)
    if name in {"any_of", "all_of"}:
        return f"({(' or ' if name == 'any_of' else ' and ').join(map(rule_text, value))})"
    return f"{name.replace('_', ' ')} {value!r}"


def agreement_text(one: Override) -> tuple[str, str, str, str, str, str]:
    """An agreement as a table row: id, for whom, what, price, when, note."""
    what = (
        f"{one.provider}/{rule_text(one.match) if one.match else one.model}{f' ({one.service_tier})' if one.service_tier else ''}"
    )
    if one.discount_percent is not None:
        percent = one.discount_percent
        price = f"{plain(percent)} % off" if percent >= 0 else f"{plain(-percent)} % on top"
    else:
        price = prices_text(one.prices or {})
    since = f"from {one.since:%Y-%m-%d %H:%M}" if one.since else ""
    until = f"until {one.until:%Y-%m-%d %H:%M}" if one.until else ""
    return one.override_id, one.tenant or "all", what, price, f"{since} {until}".strip() or "always", one.note


def _at(model: Model, now: datetime) -> tuple[str, Prices]:
    """Since when which prices of a model hold, of its offers that do not depend on the hour."""
    offers = [offer for offer in model.offers if offer.since is None or offer.since <= now.date()]
    newest = next((offer for offer in reversed(offers) if offer.daily is None), model.offers[0])
    return (newest.since.isoformat() if newest.since else ""), newest.prices


def list_(data: Path | None, provider: str | None, search: str | None, version: str | None, *, as_json: bool) -> None:
    """What is in force, or the models of one provider."""

    async def work(client: Client, _: Place) -> tuple[PriceBook, Revision]:
        shelf = await opened(client)
        return await prices(shelf, version), await in_force(shelf)

    book, newest = run(data, work)
    if provider is None and search is None:
        _overview(book, newest, as_json=as_json)
        return
    sellers = [one for one in book.book.providers if provider is None or provider.lower() in {one.id, *one.names}]
    if not sellers:
        known = ", ".join(one.id for one in book.book.providers)
        raise CommandFailedError(f"{book.book.version} knows no provider {provider!r}", f"It knows: {known}", code=2)
    now = datetime.now(UTC)
    rows = [
        (f"{seller.id}/{model.id}", *_at(model, now), bool(model.variants), any(offer.daily for offer in model.offers), model)
        for seller in sellers
        for model in seller.models
        if search is None or search.lower() in model.id.lower()
    ]
    if as_json:
        output.write_json([
            {"model": name, "since": since or None, "prices": _json_prices(found), "tiers": tiers, "by_the_hour": hourly}
            for name, since, found, tiers, hourly, _ in rows
        ])  # fmt: skip
        return
    columns = [
        Column("MODEL"),
        *(
            Column(name.upper().replace("_", " "), right=True, rank=place - 1 if place > 1 else 0)
            for place, name in enumerate(_COMMON)
        ),
        Column("ALSO", wrap=True, rank=4),
    ]
    cells = []
    for name, since, found, tiers, hourly, model in rows:
        also = [f"{unit} {price_text(price)}" for unit, price in found.items() if unit not in _COMMON]
        also += [f"since {since}"] if since else []
        also += ["service tiers"] if tiers else []
        also += ["by the hour"] if hourly else []
        also += [f"charged by {other}: not priced" for offer in model.offers for other in offer.other][:2]
        cells.append([name, *(price_text(found.get(unit)) for unit in _COMMON), ", ".join(also)])  # type: ignore[call-overload]
    output.write_table(columns, cells, empty="no such model; try --search with less")
    output.note(f"{len(rows):,} models of {book.book.version}; US dollars per million tokens (_k: per thousand)")


def _json_prices(found: Prices) -> dict[str, Any]:
    return {name: price.model_dump(mode="json") if isinstance(price, Stepped) else plain(price) for name, price in found.items()}


def _overview(book: PriceBook, newest: Revision, *, as_json: bool) -> None:
    if as_json:
        output.write_json(
            {
                "version": book.version, "revision": newest.number, "book": book.book.version, "follows_default": newest.follows_default,
                "providers": {one.id: len(one.models) for one in book.book.providers},
                "agreements": [one.model_dump(mode="json", exclude_none=True) for one in book.overrides],
            }
        )  # fmt: skip
        return
    output.write_facts([
        ("in force" if book.version == newest.version else "version", book.version),
        ("book", f"{book.book.version}, from {book.book.source or 'an import'}{'; moves along with newer defaults' if newest.follows_default else ''}"),
        ("changed", f"{readable.clock(newest.at)} by {newest.by}: {newest.reason}"),
    ])  # fmt: skip
    output.write_line()
    columns = [
        Column("AGREEMENT"),
        Column("TENANT"),
        Column("FOR"),
        Column("PRICE", wrap=True),
        Column("WHEN", rank=1),
        Column("NOTE", wrap=True, rank=2),
    ]
    output.write_table(
        columns, map(agreement_text, book.overrides), empty="no agreements of your own: `agentops prices set --help`"
    )
    output.write_line()
    rows = [(one.id, f"{len(one.models):,}", ", ".join(one.names)) for one in book.book.providers]
    output.write_table([Column("PROVIDER"), Column("MODELS", right=True), Column("ALSO CALLED", wrap=True)], rows, empty="")


def _tariff_json(tariff: Tariff) -> list[dict[str, Any]]:
    steps = zip((None, *tariff.thresholds), tariff.steps, strict=True)
    return [{"above_input_tokens": above, "prices": rates.shown()} for above, rates in steps]


def show(
    data: Path | None, model: str, tenant: str | None, tier: str | None, at: str | None, version: str | None, *, as_json: bool
) -> None:  # fmt: skip
    """How one call would be priced."""
    provider, slash, name = model.partition("/")
    if not slash or not name:
        raise CommandFailedError(f"{model!r} is not PROVIDER/MODEL", "For example: agentops prices show openai/gpt-4o", code=2)
    try:
        when = moment(at, datetime.now(UTC)) if at else datetime.now(UTC)
    except NotATimeError as error:
        raise CommandFailedError(f"--at: {error}", code=2) from error

    async def work(client: Client, _: Place) -> PriceBook:
        return await prices(await opened(client), version)

    book = run(data, work)
    plan = book.plan(provider, name, tier, tenant)
    tariff = plan if isinstance(plan, Unpriced) else plan.at(when)
    if isinstance(plan, Unpriced) or isinstance(tariff, Unpriced):
        why = plan.why if isinstance(plan, Unpriced) else tariff.why  # type: ignore[union-attr]
        raise CommandFailedError(f"unpriced by {book.version}: {why}", "A price of your own: `agentops prices set --help`")
    changes = [(window, found) for window, found in plan.tariffs if window.from_day or window.daily]
    if as_json:
        output.write_json({
            "version": book.version, "priced_as": plan.priced_as, "at": when.isoformat(), "agreement": tariff.override,
            "steps": _tariff_json(tariff),
            "changes": [
                {"since": window.from_day, "daily": [str(each) for each in window.daily or ()] or None, "steps": _tariff_json(found)}
                for window, found in changes
            ],
        })  # fmt: skip
        return
    facts = [("priced as", plan.priced_as), ("by", book.version), ("at", f"{when:%Y-%m-%d %H:%M:%S} UTC")]
    if tariff.override:
        facts.append(("agreement", tariff.override))
    if plan.agreed:
        facts.append(("agreements that may apply", ", ".join(one.tariffs[0][1].override or "" for one in plan.agreed)))
    output.write_facts(facts)
    output.write_line()
    rows = [
        (unit, "" if above is None else f"above {above:,} input tokens", plain(rate))
        for above, rates in zip((None, *tariff.thresholds), tariff.steps, strict=True)
        for unit, rate in rates.by_name().items()
    ]
    output.write_table([Column("UNIT"), Column("WHEN"), Column("USD", right=True)], rows, empty="free")
    for window, found in changes:
        from_day = (
            f"from {window.from_day}" if window.from_day else f"{window.daily[0]}–{window.daily[1]} UTC" if window.daily else ""
        )
        output.write_line(f"{from_day}: {' · '.join(f'{unit} {plain(rate)}' for unit, rate in found.steps[0].by_name().items())}")
    output.note("US dollars per million tokens (_k: per thousand)")


def export(data: Path | None, version: str | None) -> None:
    """A whole book."""

    async def work(client: Client, _: Place) -> Book:
        return (await prices(await opened(client), version)).book

    sys.stdout.write(written(run(data, work)).decode())


def _said(model: Model) -> str:
    offers = [
        f"{f'from {offer.since}: ' if offer.since else ''}{f'{offer.daily[0]}–{offer.daily[1]}: ' if offer.daily else ''}"
        f"{', '.join(f'{key}={value}' for key, value in offer.when.items())}{': ' if offer.when else ''}{prices_text(offer.prices)}"
        for offer in (*model.offers, *model.variants)
    ]
    return " | ".join(offers)


def differences(before: PriceBook, after: PriceBook, provider: str | None = None) -> list[dict[str, str]]:
    """What differs, by provider and model, and by agreement."""

    def models(book: PriceBook) -> Mapping[str, Model]:
        return {
            f"{seller.id}/{model.id}": model
            for seller in book.book.providers
            if provider is None or provider.lower() in {seller.id, *seller.names}
            for model in seller.models
        }

    old, new = models(before), models(after)
    rows = []
    for name in sorted(old.keys() | new.keys()):
        one, other = old.get(name), new.get(name)
        if one != other:
            told = [readable.NOTHING if model is None else _said(model) for model in (one, other)]
            if told[0] == told[1] and one is not None and other is not None:
                told = [f"names: {rule_text(one.match)}", f"names: {rule_text(other.match)}"]
            rows.append({"what": name, "before": told[0], "after": told[1]})
    agreed = [{one.override_id: one for one in book.overrides} for book in (before, after)]
    for name in sorted(agreed[0].keys() | agreed[1].keys()):
        if agreed[0].get(name) != agreed[1].get(name):
            told = [" ".join(agreement_text(each[name])[1:5]) if name in each else readable.NOTHING for each in agreed]
            rows.append({"what": f"agreement {name}", "before": told[0], "after": told[1]})
    return rows


def diff(data: Path | None, before: str, after: str | None, provider: str | None, *, as_json: bool) -> None:
    """Two versions beside each other."""

    async def work(client: Client, _: Place) -> tuple[PriceBook, PriceBook]:
        shelf = await opened(client)
        return await prices(shelf, before), await prices(shelf, after)

    one, other = run(data, work)
    rows = differences(one, other, provider)
    if as_json:
        output.write_json({"before": one.version, "after": other.version, "differences": rows})
        return
    output.write_table(
        [Column("WHAT"), Column(one.version.upper(), wrap=True), Column(other.version.upper(), wrap=True)],
        ((row["what"], row["before"], row["after"]) for row in rows),
        empty=f"{one.version} and {other.version} price everything alike",
    )


def history(data: Path | None, *, as_json: bool) -> None:
    """Every book and every revision."""

    async def work(client: Client, _: Place) -> tuple[list[dict[str, Any]], list[Revision]]:
        shelf = await opened(client)
        books = [
            {
                "book": one.version,
                "models": one.models,
                "digest": one.digest,
                "at": one.at.isoformat(),
                "by": one.by,
                "reason": one.reason,
            }
            for one in await shelf.every_book()
        ]
        return books, await shelf.every_revision()

    books, revisions = run(data, work)
    if as_json:
        output.write_json({
            "books": books,
            "revisions": [
                {"revision": one.number, "version": one.version, "book": one.book, "agreements": len(one.overrides), "at": one.at.isoformat(),
                 "by": one.by, "reason": one.reason, "change": one.change}
                for one in revisions
            ],
        })  # fmt: skip
        return
    output.write_table(
        [Column("BOOK"), Column("MODELS", right=True), Column("STORED"), Column("BY"), Column("WHY", wrap=True)],
        ((one["book"], f"{one['models']:,}", readable.clock(one["at"]), one["by"], one["reason"]) for one in books),
        empty="no books yet",
    )
    output.write_line()
    output.write_table(
        [
            Column("REVISION", right=True),
            Column("ENTRIES NAME IT", rank=2),
            Column("SINCE", rank=1),
            Column("BY", rank=3),
            Column("CHANGE", wrap=True),
            Column("WHY", wrap=True),
        ],
        ((str(one.number), one.version, readable.clock(one.at), one.by, one.change, one.reason) for one in revisions),
        empty="nothing in force yet",
    )
