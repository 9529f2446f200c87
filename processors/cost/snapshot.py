"""The default price book: read out of the ``genai-prices`` package, written to a file beside this one.

``python -m processors.cost.snapshot`` writes ``default_prices.json``; ``--check`` fails where the file is not what the
installed package gives. Equal packages give equal bytes; the version names the package's and the content.
"""

import argparse
import sys
from collections.abc import Mapping
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

from schemas.prices.book import Book, Model, Offer, Prices, Provider, Rule, Step, Stepped, digest, written
from schemas.prices.units import UnitName

FILE: Final = Path(__file__).with_name("default_prices.json")

_UNITS: Final[Mapping[str, UnitName]] = {
    "input_mtok": "input",
    "output_mtok": "output",
    "cache_read_mtok": "cache_read",
    "cache_write_mtok": "cache_write",
    "cache_write_1h_mtok": "cache_write_1h",
    "output_reasoning_mtok": "reasoning",
    "output_citation_mtok": "citation",
    "input_audio_mtok": "input_audio",
    "cache_audio_read_mtok": "cache_read_audio",
    "output_audio_mtok": "output_audio",
    "input_image_mtok": "input_image",
    "cache_image_read_mtok": "cache_read_image",
    "output_image_mtok": "output_image",
    "input_video_mtok": "input_video",
    "output_video_mtok": "output_video",
    "web_searches_kcount": "web_searches_k",
    "storage_searches_kcount": "file_searches_k",
    "requests_kcount": "requests_k",
}
"""The package's prices that an event's usage can be charged by."""

NAMES: Final[Mapping[str, tuple[str, ...]]] = {
    "aws": ("aws.bedrock", "aws_bedrock", "amazon-bedrock", "amazon_bedrock", "bedrock", "amazon.bedrock"),
    "azure": ("azure.ai.openai", "azure.ai.inference", "az.ai.openai", "az.ai.inference", "azure_openai", "azure-openai", "azure_ai"),
    "fireworks": ("fireworks_ai", "fireworks-ai"),
    "google": (
        "gcp.gemini", "gcp.gen_ai", "gcp.vertex_ai", "gemini", "vertex_ai", "vertex-ai", "vertexai", "google-gla", "google-vertex",
        "google_genai", "google_vertexai", "google-genai", "google.gemini",
    ),
    "mistral": ("mistral_ai", "mistralai"),
    "moonshotai": ("moonshot_ai", "moonshot"),
    "together": ("together_ai", "together-ai", "togetherai"),
    "x-ai": ("x_ai", "xai"),
}  # fmt: skip
"""Other names of the package's providers: OpenTelemetry's ``gen_ai.provider.name`` (new and old) and common client libraries'."""

_PREFIXES: Final[Mapping[str, tuple[str, ...]]] = {
    "google": ("models/", "publishers/google/models/", "publishers/anthropic/models/")
}
"""What a provider's own API writes in front of a model's name."""

_CLAUSES: Final = {
    "ClauseEquals": "equals", "ClauseStartsWith": "starts_with", "ClauseEndsWith": "ends_with", "ClauseContains": "contains",
    "ClauseRegex": "regex",
}  # fmt: skip


def _rule(clause: Any) -> Rule:
    kind = type(clause).__name__
    if kind == "ClauseOr":
        return Rule(any_of=tuple(map(_rule, clause.or_)))
    if kind == "ClauseAnd":
        return Rule(all_of=tuple(map(_rule, clause.and_)))
    field = _CLAUSES[kind]
    return Rule.model_validate({field: getattr(clause, field)})


def _naive_utc(value: time) -> time:
    if value.tzinfo is None:
        return value
    return datetime.combine(date(1970, 1, 1), value).astimezone(UTC).time()


def _price(value: Any) -> Decimal | Stepped:
    if isinstance(value, Decimal):
        return value
    return Stepped(base=value.base, steps=tuple(Step(above=tier.start, price=tier.price) for tier in value.tiers))


def _offer(prices: Any, constraint: Any, when: Mapping[str, str] | None = None) -> Offer:
    given = {name: value for name, value in vars(prices).items() if value is not None}
    known: Prices = {_UNITS[name]: _price(value) for name, value in sorted(given.items()) if name in _UNITS}
    fields: dict[str, Any] = {"prices": known, "when": dict(when or {}), "other": tuple(sorted(given.keys() - _UNITS.keys()))}
    if constraint is not None:
        if hasattr(constraint, "start_date"):
            fields["since"] = constraint.start_date
        else:
            fields["daily"] = (_naive_utc(constraint.start_time), _naive_utc(constraint.end_time))
    return Offer(**fields)


def _model(model: Any) -> Model:
    offers = (
        tuple(_offer(one.prices, one.constraint) for one in model.prices)
        if isinstance(model.prices, list)
        else (_offer(model.prices, None),)
    )
    variants = tuple(_offer(one.prices, one.constraint, one.when) for one in model.price_variants or ())
    return Model(id=model.id, match=_rule(model.match), offers=offers, variants=variants)


def build() -> Book:
    """The book of the installed package."""
    import genai_prices  # noqa: PLC0415 - heavy, and needed here alone
    from genai_prices import data_snapshot  # noqa: PLC0415

    providers = tuple(
        Provider(
            id=one.id, names=NAMES.get(one.id, ()), prefixes=_PREFIXES.get(one.id, ()),
            fallbacks=tuple(one.fallback_model_providers or ()), models=tuple(map(_model, one.models)),
        )
        for one in data_snapshot.get_snapshot().providers
    )  # fmt: skip
    package = f"genai-prices {genai_prices.__version__}"
    made = Book(version="unnamed", source=package, providers=providers)
    return made.model_copy(update={"version": f"{package.replace(' ', '-')}-{digest(made)}"})


def default() -> Book:
    """The committed book."""
    return Book.model_validate_json(FILE.read_bytes())


def main() -> int:
    """Writes or checks the file; the exit code says whether all is well."""
    parser = argparse.ArgumentParser(prog="python -m processors.cost.snapshot", description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare the committed file with the installed package instead")
    checking = parser.parse_args().check
    book = build()
    made = written(book)
    if not checking:
        FILE.write_bytes(made)
        print(
            f"wrote {FILE.name}: {book.version}, {sum(len(one.models) for one in book.providers):,} models, {len(made):,} bytes"
        )
        return 0
    if not FILE.exists() or FILE.read_bytes() != made:
        print(
            f"{FILE.name} is not {book.version}: run `python -m processors.cost.snapshot` and commit what it writes",
            file=sys.stderr,
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
