"""Which tariff a call has: its provider and model found in the book by rules, the user's agreements applied. Never a guess."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Final

from schemas.prices.book import Book, Model, Offer, Price, Prices, Provider, Stepped
from schemas.prices.overrides import EVERY_MODEL, Override, Revision
from schemas.prices.rates import Steps, Tariff, tariff

_REMEMBERED: Final = 20_000
"""Models remembered; more than that means invented names, and memory stays bounded."""
_HUNDRED: Final = Decimal(100)
_COMPACT_DATE: Final = re.compile(r"(-)(20\d{2})(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])(?=-|:|$)")


@dataclass(frozen=True, slots=True)
class Window:
    """When a tariff holds: from a day on, or in a daily interval (both UTC); always when nothing is given."""

    from_day: date | None = None
    daily: tuple[time, time] | None = None
    """Start (inclusive) and end (exclusive), naive UTC; an end before the start crosses midnight."""

    def open(self, moment: datetime) -> bool:
        """Whether it holds at ``moment`` (UTC)."""
        if self.from_day is not None and moment.date() < self.from_day:
            return False
        if self.daily is None:
            return True
        start, end = self.daily
        now = moment.time()
        return start <= now < end if start <= end else now >= start or now < end


@dataclass(frozen=True, slots=True)
class Unpriced:
    """No price applies, and why."""

    why: str


Tariffs = tuple[tuple[Window, Tariff], ...]
"""The last one whose window is open holds, else the first."""


def _holding(tariffs: Tariffs, moment: datetime) -> Tariff:
    if len(tariffs) > 1:
        for window, found in reversed(tariffs):
            if window.open(moment):
                return found
    return tariffs[0][1]


@dataclass(frozen=True, slots=True)
class Agreed:
    """An override as it applies to one plan: from when to when, and the tariffs in place of the book's."""

    since: datetime
    until: datetime
    tariffs: Tariffs


@dataclass(frozen=True, slots=True)
class Plan:
    """The tariffs of one model, and what was agreed in their place."""

    priced_as: str
    """``provider/model`` of the price book."""
    tariffs: Tariffs
    """Empty for a model only agreements know."""
    agreed: tuple[Agreed, ...] = ()
    """The most particular first."""

    def at(self, moment: datetime) -> Tariff | Unpriced:
        """The tariff at ``moment`` (UTC)."""
        for one in self.agreed:
            if one.since <= moment < one.until:
                return _holding(one.tariffs, moment)
        if not self.tariffs:
            return Unpriced(f"no price of {self.priced_as} holds at {moment:%Y-%m-%dT%H:%M:%SZ}")
        return _holding(self.tariffs, moment)


def context_of(service_tier: str | None) -> dict[str, str]:
    """What a service tier says of a request. ``batch`` is a way of processing and ``fast`` a speed, whoever calls them tiers."""
    if not service_tier:
        return {}
    more = {"batch": {"processing": "batch"}, "fast": {"speed": "fast"}}.get(service_tier, {})
    return {"service_tier": service_tier, **more}


def _dashed_date(reference: str) -> str:
    """``-20251211`` as ``-2025-12-11``: some gateways write dates without dashes."""

    def dashed(match: re.Match[str]) -> str:
        year, month, day = (int(match.group(index)) for index in range(2, 5))
        try:
            date(year, month, day)
        except ValueError:
            return match.group(0)
        return f"{match.group(1)}{year:04d}-{month:02d}-{day:02d}"

    return _COMPACT_DATE.sub(dashed, reference)


def _steps(price: Price | Stepped) -> Decimal | Steps:
    if isinstance(price, Stepped):
        return price.base, tuple((step.above, step.price) for step in price.steps)
    return price


def as_tariff(prices: Prices, override: str | None = None) -> Tariff:
    """The tariff of ``prices``."""
    return tariff({name: _steps(price) for name, price in prices.items()}, override)


def _window(offer: Offer) -> Window:
    return Window(offer.since, offer.daily)


def _sold_by_tokens(offer: Offer) -> bool:
    """No price at all is a free model; prices for other things alone are prices that tokens do not tell."""
    return "input" in offer.prices or "output" in offer.prices or not (offer.prices or offer.other)


def _offer_at(offers: Iterable[Offer], moment: datetime) -> Offer:
    every = tuple(offers)
    return next((offer for offer in reversed(every) if _window(offer).open(moment)), every[0])


def _tariffs(model: Model, context: Mapping[str, str]) -> tuple[tuple[Window, Tariff], ...] | Unpriced:
    """The model's tariffs for requests with this context."""
    if not all(map(_sold_by_tokens, model.offers)):
        return Unpriced(f"{model.id} is not sold by tokens")
    variants = [one for one in model.variants if context and all(context.get(key) == value for key, value in one.when.items())]
    if not variants:
        return tuple((_window(offer), as_tariff(offer.prices)) for offer in model.offers)
    # Windows of offers and of variants overlap as they like: one tariff for each stretch between the days on which any begins.
    every = (*model.offers, *variants)
    if any(offer.daily is not None for offer in every):
        return Unpriced(f"{model.id} has prices by the hour and by service tier at once, which this version cannot combine")
    days = sorted({offer.since for offer in every if offer.since is not None})
    made = []
    for day in (None, *days):
        moment = datetime.combine(day, time(), UTC) if day else datetime(1, 1, 2, tzinfo=UTC)
        prices: Prices = dict(_offer_at(model.offers, moment).prices)
        replaced: set[str] = set()
        for variant in variants:
            if _window(variant).open(moment):
                prices.update({name: price for name, price in variant.prices.items() if name not in replaced})
                replaced.update(variant.prices)
        made.append((Window(from_day=day), as_tariff(prices)))
    return tuple(made)


_EVER: Final = datetime(1, 1, 1, tzinfo=UTC)
_NEVER: Final = datetime.max.replace(tzinfo=UTC)


@dataclass(slots=True)
class PriceBook:
    """A book with a revision's overrides: finds the plan of a call as its event names provider, model, tier and tenant."""

    book: Book
    version: str
    """What entries name."""
    overrides: tuple[Override, ...] = ()
    providers: Mapping[str, Provider] = field(init=False)
    """By every name."""
    _plans: dict[tuple[str, str, str | None, str | None], Plan | Unpriced] = field(default_factory=dict, init=False)
    _tenants: frozenset[str] = field(init=False)

    def __post_init__(self) -> None:
        self.providers = {name: one for one in self.book.providers for name in (one.id, *one.names)}
        self._tenants = frozenset(one.tenant for one in self.overrides if one.tenant is not None)

    @classmethod
    def of(cls, book: Book, revision: Revision | None = None) -> "PriceBook":
        """The book as a revision has it in force."""
        return cls(book, revision.version if revision else book.version, revision.overrides if revision else ())

    def plan(self, provider: str, model: str, service_tier: str | None = None, tenant: str | None = None) -> Plan | Unpriced:
        """The plan of a model as an event names it; remembered."""
        key = (provider, model, service_tier, tenant if tenant in self._tenants else None)
        found = self._plans.get(key)
        if found is None:
            if len(self._plans) >= _REMEMBERED:
                self._plans.clear()
            found = self._plans[key] = self._look_up(*key)
        return found

    def _look_up(self, provider: str, model: str, service_tier: str | None, tenant: str | None) -> Plan | Unpriced:
        name, reference = provider.strip().lower(), model.strip().lower()
        if name == "litellm":
            # LiteLLM names the real provider in front of the model.
            ahead, slash, rest = reference.partition("/")
            if slash and (ahead in self.providers or any(one.provider == ahead for one in self.overrides)):
                name, reference = ahead, rest
        seller = self.providers.get(name)
        found: Plan | Unpriced = Unpriced(f"unknown provider {provider[:80]!r}")
        if seller is not None:
            found = self._find(seller, reference, context_of(service_tier))
        if not self.overrides:
            return found
        return self._with_overrides(found, seller, name, reference, service_tier, tenant)

    def _find(self, seller: Provider, reference: str, context: Mapping[str, str]) -> Plan | Unpriced:
        for prefix in seller.prefixes:
            reference = reference.removeprefix(prefix)
        others = [self.providers[name] for name in seller.fallbacks if name in self.providers]
        for attempt in dict.fromkeys((reference, _dashed_date(reference))):
            for owner in (seller, *others):
                models = [model for model in owner.models if model.match.matches(attempt)]
                if not models:
                    continue
                if any((model.offers, model.variants) != (models[0].offers, models[0].variants) for model in models):
                    names = ", ".join(model.id for model in models[:4])
                    return Unpriced(f"{reference[:80]!r} may be several models of {owner.id}: {names}")
                # A variant is the seller's own offer; a model found at another provider's has its standard price.
                tariffs = _tariffs(models[0], context if owner is seller else {})
                return tariffs if isinstance(tariffs, Unpriced) else Plan(f"{owner.id}/{models[0].id}", tariffs)
        return Unpriced(f"no model {reference[:80]!r} at {seller.id}")

    def _with_overrides(
        self, found: Plan | Unpriced, seller: Provider | None, name: str, reference: str, tier: str | None, tenant: str | None
    ) -> Plan | Unpriced:
        names = {name, *((seller.id, *seller.names) if seller else ())}
        known = {reference}
        if isinstance(found, Plan):
            known.add(found.priced_as.partition("/")[2].lower())

        def fits(one: Override) -> bool:
            if one.provider not in names or one.tenant not in {None, tenant} or one.service_tier not in {None, tier}:
                return False
            if one.match is not None:
                return one.match.matches(reference)
            return one.model == EVERY_MODEL or one.model.lower() in known

        fitting = sorted(filter(fits, self.overrides), key=lambda one: (one.rank(), one.since or _EVER), reverse=True)
        if isinstance(found, Unpriced):
            # A discount on no price is no price.
            fitting = [one for one in fitting if one.prices is not None]
        if not fitting:
            return found
        tariffs = found.tariffs if isinstance(found, Plan) else ()
        priced_as = found.priced_as if isinstance(found, Plan) else f"{seller.id if seller else name}/{reference}"[:256]
        return Plan(priced_as, tariffs, tuple(_agreed(one, tariffs) for one in fitting))


def _agreed(one: Override, tariffs: Tariffs) -> Agreed:
    if one.prices is not None:
        instead: Tariffs = ((Window(), as_tariff(one.prices, one.override_id)),)
    else:
        assert one.discount_percent is not None
        factor = (_HUNDRED - one.discount_percent) / _HUNDRED
        instead = tuple((window, tariff.times(factor, one.override_id)) for window, tariff in tariffs)
    return Agreed(one.since or _EVER, one.until or _NEVER, instead)
