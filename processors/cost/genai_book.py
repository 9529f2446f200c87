"""The default price book, built from the ``genai-prices`` package: its rules for models, tiers and dates, our rules for doubt.

Agrees with the package wherever both name a price. Differs in refusing to guess: an unknown provider name, a model
name that several rules with different prices match, and a model sold by something other than tokens are unpriced.
"""

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any, Final

import genai_prices
from genai_prices import data_snapshot, types

from processors.cost.price_book import Find, Plan, PriceBook, Unpriced, Window
from processors.cost.rates import Tariff, tariff

_FIELDS: Final = {
    "input_mtok": "input",
    "output_mtok": "output",
    "cache_read_mtok": "cache_read",
    "cache_write_mtok": "cache_write",
    "output_reasoning_mtok": "reasoning",
    "requests_kcount": "requests_k",
}
"""The package's prices that our usage can be charged by, and what we call them."""

ALIASES: Final[Mapping[str, tuple[str, ...]]] = {
    "anthropic": (),
    "aws": ("aws.bedrock", "aws_bedrock", "amazon-bedrock", "amazon_bedrock", "bedrock", "amazon.bedrock"),
    "azure": ("azure.ai.openai", "azure.ai.inference", "az.ai.openai", "az.ai.inference", "azure_openai", "azure-openai", "azure_ai"),
    "cohere": (),
    "deepseek": (),
    "fireworks": ("fireworks_ai", "fireworks-ai"),
    "google": (
        "gcp.gemini", "gcp.gen_ai", "gcp.vertex_ai", "gemini", "vertex_ai", "vertex-ai", "vertexai", "google-gla", "google-vertex",
        "google_genai", "google_vertexai", "google-genai", "google.gemini",
    ),
    "groq": (),
    "mistral": ("mistral_ai", "mistralai"),
    "moonshotai": ("moonshot_ai", "moonshot"),
    "openai": (),
    "perplexity": (),
    "together": ("together_ai", "together-ai", "togetherai"),
    "x-ai": ("x_ai", "xai"),
}  # fmt: skip
"""Other names of the package's providers: OpenTelemetry's ``gen_ai.provider.name`` (new and old) and common client libraries'."""

_PREFIXES: Final[Mapping[str, tuple[str, ...]]] = {
    "google": ("models/", "publishers/google/models/", "publishers/anthropic/models/")
}
"""What a provider's own API writes in front of a model's name."""

_COMPACT_DATE: Final = re.compile(r"(-)(20\d{2})(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01])(?=-|:|$)")


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


def _naive_utc(value: time) -> time:
    if value.tzinfo is None:
        return value
    return datetime.combine(date(1970, 1, 1), value).astimezone(UTC).time()


def _window(constraint: Any) -> Window:
    if isinstance(constraint, types.StartDateConstraint):
        return Window(from_day=constraint.start_date)
    if isinstance(constraint, types.TimeOfDateConstraint):
        return Window(daily=(_naive_utc(constraint.start_time), _naive_utc(constraint.end_time)))
    return Window()


def _prices(price: Any) -> dict[str, Any]:
    return {name: value for name, value in vars(price).items() if value is not None}


def _tariff(prices: Mapping[str, Any]) -> Tariff:
    known: dict[str, Decimal | tuple[Decimal, tuple[tuple[int, Decimal], ...]]] = {}
    for theirs, ours in _FIELDS.items():
        value = prices.get(theirs)
        if isinstance(value, types.TieredPrices):
            known[ours] = (value.base, tuple((tier.start, tier.price) for tier in value.tiers))
        elif value is not None:
            known[ours] = value
    return tariff(known)


def _counts_tokens(prices: Mapping[str, Any]) -> bool:
    """No price at all is a free model; prices for other things alone are prices we cannot apply."""
    return not prices or "input_mtok" in prices or "output_mtok" in prices


def _tariffs(model: Any, context: Mapping[str, str]) -> tuple[tuple[Window, Tariff], ...] | Unpriced:
    """The model's tariffs for requests with this context; Unpriced where tokens do not tell what it costs."""
    standard = model.prices if isinstance(model.prices, list) else [types.ConditionalPrice(prices=model.prices)]
    if not all(_counts_tokens(_prices(conditional.prices)) for conditional in standard):
        return Unpriced(f"{model.id} is not sold by tokens")
    variants = [
        variant
        for variant in (model.price_variants or () if context else ())
        if all(context.get(key) == value for key, value in variant.when.items())
    ]
    if not variants:
        return tuple((_window(one.constraint), _tariff(_prices(one.prices))) for one in standard)
    # Windows of prices and of variants overlap as they like: one tariff for each stretch between the days on which any begins.
    constraints = [one.constraint for one in (*standard, *variants)]
    days = sorted({c.start_date for c in constraints if isinstance(c, types.StartDateConstraint)})
    if any(isinstance(constraint, types.TimeOfDateConstraint) for constraint in constraints):
        return Unpriced(f"{model.id} has prices by the hour and by service tier at once, which this version cannot combine")
    moments = [datetime(1, 1, 2, tzinfo=UTC), *(datetime.combine(day, time(), UTC) for day in days)]
    made = []
    for number, moment in enumerate(moments):
        window = Window(from_day=moment.date()) if number else Window()
        made.append((window, _tariff(_prices(model.get_prices(moment, context)))))
    return tuple(made)


def _same_price(models: Iterable[Any]) -> bool:
    return len({repr((model.prices, model.price_variants)) for model in models}) == 1


def _finder(provider: Any, every: Mapping[str, Any]) -> Find:
    fallbacks = [every[name] for name in provider.fallback_model_providers or () if name in every]

    prefixes = _PREFIXES.get(provider.id, ())

    def find(reference: str, context: Mapping[str, str]) -> Plan | Unpriced:
        for prefix in prefixes:
            reference = reference.removeprefix(prefix)
        for attempt in dict.fromkeys((reference, _dashed_date(reference))):
            for owner in (provider, *fallbacks):
                models = [model for model in owner.models if model.is_match(attempt)]
                if not models:
                    continue
                if not _same_price(models):
                    names = ", ".join(model.id for model in models[:4])
                    return Unpriced(f"{reference[:80]!r} may be several models of {owner.id}: {names}")
                # A variant is the seller's own offer; a model found at another provider's has its standard price.
                tariffs = _tariffs(models[0], context if owner is provider else {})
                return tariffs if isinstance(tariffs, Unpriced) else Plan(f"{owner.id}/{models[0].id}", tariffs)
        return Unpriced(f"no model {reference[:80]!r} at {provider.id}")

    return find


def build() -> PriceBook:
    """The book of the installed package. Takes a moment and some megabytes; once per process."""
    providers = {provider.id: provider for provider in data_snapshot.get_snapshot().providers}
    named: dict[str, Find] = {}
    for name, provider in providers.items():
        find = _finder(provider, providers)
        for alias in (name, *ALIASES.get(name, ())):
            named[alias] = find
    return PriceBook(f"genai-prices-{genai_prices.__version__}", named)
