"""Where genai-prices and our price book both name a price, they name the same one, to the last of nine digits."""

import random
import warnings
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal

import genai_prices
import pytest
from genai_prices import data_snapshot
from genai_prices.types import StartDateConstraint

from processors.cost import snapshot
from schemas.prices.book import digest, written
from schemas.prices.finding import Plan, PriceBook, Unpriced, context_of
from schemas.prices.rates import NoCostError
from schemas.prices.units import Rarities, Tokens

USAGES = [
    Tokens(0, 0), Tokens(1, 0), Tokens(0, 1), Tokens(1234, 567), Tokens(1000, 10, 400), Tokens(1000, 10, 0, 300),
    Tokens(1000, 10, 500, 500), Tokens(999, 77, 123, 45, 33), Tokens(100_000, 5, 7), Tokens(100_001, 5), Tokens(128_001, 9, 3, 2),
    Tokens(200_000, 11), Tokens(200_001, 11, 150_000, 50_001), Tokens(272_001, 3, 1), Tokens(600_000, 1000, 599_999),
    Tokens(10**9, 10**8, 3 * 10**8, 10**8, 10**7),
]  # fmt: skip
MOMENTS = [
    datetime(2020, 1, 1, tzinfo=UTC), datetime(2024, 10, 31, 23, 59, 59, tzinfo=UTC), datetime(2025, 2, 9, 8, 0, tzinfo=UTC),
    datetime(2025, 9, 6, 0, 30, tzinfo=UTC), datetime(2025, 9, 6, 16, 30, tzinfo=UTC), datetime(2026, 11, 20, 2, 0, tzinfo=UTC),
    datetime(2026, 11, 20, 12, 0, tzinfo=UTC),
]  # fmt: skip


@pytest.fixture(scope="module")
def book() -> PriceBook:
    return PriceBook.of(snapshot.default())


def models() -> Iterator[tuple[str, str]]:
    """Every provider with each of its models, by id."""
    for provider in data_snapshot.get_snapshot().providers:
        for model in provider.models:
            if model.is_match(model.id):
                yield provider.id, model.id


THEIR_NAMES = {
    "cache_write_1h": "cache_write_1h_tokens", "citation": "output_citation_tokens", "input_audio": "input_audio_tokens",
    "cache_read_audio": "cache_audio_read_tokens", "output_audio": "output_audio_tokens", "input_image": "input_image_tokens",
    "cache_read_image": "cache_image_read_tokens", "output_image": "output_image_tokens", "input_video": "input_video_tokens",
    "output_video": "output_video_tokens", "web_searches_k": "web_searches", "file_searches_k": "storage_searches",
}  # fmt: skip
RARE = [
    Tokens(1000, 10, 0, 300, 0, Rarities(cache_write_1h=200)), Tokens(1000, 10, 500, 500, 3, Rarities(cache_write_1h=500)),
    Tokens(300_000, 10, 10, 30, 3, Rarities(cache_write_1h=0)), Tokens(900, 500, 0, 0, 100, Rarities(citation=300)),
    Tokens(10_000, 4000, 0, 0, 0, Rarities(input_audio=5000, output_audio=3999, cache_read_audio=0)),
    Tokens(10_000, 4000, 3000, 0, 0, Rarities(input_audio=5000, output_audio=17, cache_read_audio=1234)),
    Tokens(10_000, 4000, 3000, 0, 0, Rarities(input_image=5000, output_image=1700, cache_read_image=2999)),
    Tokens(10_000, 4000, 0, 0, 0, Rarities(input_video=4321, output_video=4000, input_audio=1, cache_read_audio=0)),
    Tokens(10_000, 4000, 0, 0, 0, Rarities(input_audio=4000, input_image=3000, input_video=3000, cache_read_audio=0, cache_read_image=0)),
    Tokens(1000, 100, 5, 7, 9, Rarities(web_searches_k=3, file_searches_k=11)), Tokens(0, 0, 0, 0, 0, Rarities(web_searches_k=1)),
    Tokens(600_000, 1000, 599_000, 900, 0, Rarities(cache_write_1h=899, web_searches_k=2, input_image=50, cache_read_image=50)),
]  # fmt: skip
"""Usages of everything the package has prices of and an event can tell."""


def theirs(provider: str, model: str, tokens: Tokens, moment: datetime, tier: str | None = None) -> Decimal:
    usage = genai_prices.Usage(
        input_tokens=tokens.input, output_tokens=tokens.output, cache_read_tokens=tokens.cache_read,
        cache_write_tokens=tokens.cache_write, output_reasoning_tokens=tokens.reasoning,
        **{THEIR_NAMES[name]: count for name, count in (tokens.rarities or Rarities())._asdict().items() if count is not None},
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = genai_prices.calc_price(
            usage, model, provider_id=provider, genai_request_timestamp=moment, price_context=context_of(tier) or None
        )
    total: Decimal = found.total_price
    return total.quantize(Decimal("1e-9"), ROUND_HALF_EVEN)


def ours(plan: Plan, tokens: Tokens, moment: datetime) -> Decimal:
    tariff = plan.at(moment)
    assert not isinstance(tariff, Unpriced)
    return tariff.rates(tokens.input).cost(tokens)


def test_every_model_of_every_provider_agrees_on_usages_with_cache_and_tiers(book: PriceBook) -> None:
    chance, compared, priced = random.Random(3), 0, 0
    for provider, model in models():
        plan = book.plan(provider, model)
        if isinstance(plan, Unpriced):
            continue
        priced += 1
        for tokens in chance.sample(USAGES, 4):
            moment = chance.choice(MOMENTS)
            assert ours(plan, tokens, moment) == theirs(provider, model, tokens, moment), (provider, model, tokens, moment)
            compared += 1
    assert priced > 2000
    assert compared > 8000


def test_every_model_agrees_on_audio_images_searches_and_hour_long_cache_writes_or_both_find_no_price(book: PriceBook) -> None:
    compared = refused = 0
    for provider, model in models():
        plan = book.plan(provider, model)
        if isinstance(plan, Unpriced):
            continue
        for number, tokens in enumerate(RARE):
            moment = MOMENTS[number % len(MOMENTS)]
            try:
                want = theirs(provider, model, tokens, moment)
            except ValueError:
                with pytest.raises(NoCostError):
                    ours(plan, tokens, moment)
                refused += 1
                continue
            assert ours(plan, tokens, moment) == want, (provider, model, tokens, moment)
            compared += 1
    assert compared > 20_000
    assert refused < 200


def test_what_an_event_can_be_charged_for_is_all_the_package_knows_but_hours_pages_and_characters() -> None:
    """A price the package learns to know later must not be left aside without a sign."""
    others = {other for provider in snapshot.default().providers for model in provider.models
              for offer in (*model.offers, *model.variants) for other in offer.other}  # fmt: skip
    assert others == {
        "audio_hours", "input_audio_hours", "input_annotated_document_kpages", "input_document_kpages", "input_mchars",
        "input_text_messages_kcount",
    }  # fmt: skip


def test_the_committed_book_is_what_the_installed_package_gives_byte_for_byte() -> None:
    made = snapshot.build()
    assert snapshot.FILE.read_bytes() == written(made)
    assert made.version == f"genai-prices-{genai_prices.__version__}-{digest(made)}"
    assert snapshot.default() == made


def test_cached_audio_that_is_not_told_apart_is_not_guessed(book: PriceBook) -> None:
    plan = book.plan("openai", "gpt-4o-realtime-preview")
    assert isinstance(plan, Plan)
    with pytest.raises(NoCostError, match="cache_read_audio"):
        ours(plan, Tokens(1000, 10, 400, 0, 0, Rarities(input_audio=500)), MOMENTS[-1])


def test_an_hour_long_cache_write_costs_what_it_costs_and_not_what_five_minutes_do(book: PriceBook) -> None:
    plan = book.plan("anthropic", "claude-sonnet-4-5")
    assert isinstance(plan, Plan)
    moment = datetime(2026, 11, 20, tzinfo=UTC)
    short = ours(plan, Tokens(100_000, 0, 0, 100_000), moment)
    long = ours(plan, Tokens(100_000, 0, 0, 100_000, 0, Rarities(cache_write_1h=100_000)), moment)
    assert (short, long) == (Decimal("0.375"), Decimal("0.6"))


@pytest.mark.parametrize(
    ("provider", "model"),
    [
        ("openai", "gpt-4o"), ("openai", "gpt-4o-mini-2024-07-18"), ("openai", "o3"), ("anthropic", "claude-sonnet-4-5-20250929"),
        ("anthropic", "claude-3-5-haiku-latest"), ("google", "gemini-2.5-pro"), ("google", "gemini-2.5-flash"),
        ("deepseek", "deepseek-chat"), ("perplexity", "sonar-pro"), ("perplexity", "sonar-deep-research"), ("azure", "gpt-4o"),
        ("aws", "anthropic.claude-3-5-sonnet-20240620-v1:0"), ("groq", "llama-3.3-70b-versatile"), ("x-ai", "grok-4"),
        ("mistral", "mistral-large-latest"), ("openrouter", "anthropic/claude-sonnet-4.5"), ("openai", "gpt-5.2-20251211"),
    ],
)  # fmt: skip
def test_well_known_models_agree_on_the_whole_grid(book: PriceBook, provider: str, model: str) -> None:
    plan = book.plan(provider, model)
    assert isinstance(plan, Plan), plan
    for tokens in USAGES:
        for moment in MOMENTS:
            assert ours(plan, tokens, moment) == theirs(provider, model, tokens, moment), (tokens, moment)


def test_service_tiers_and_batches_agree(book: PriceBook) -> None:
    compared = 0
    for provider in data_snapshot.get_snapshot().providers:
        for model in provider.models:
            if not model.price_variants or not model.is_match(model.id):
                continue
            for tier in ("batch", "flex", "priority", "default", "fast", "unheard of"):
                plan = book.plan(provider.id, model.id, tier)
                if isinstance(plan, Unpriced):
                    assert "not sold by tokens" in plan.why
                    continue
                for tokens in (USAGES[3], USAGES[7], USAGES[12]):
                    for moment in (MOMENTS[0], MOMENTS[4], MOMENTS[6]):
                        want = theirs(provider.id, model.id, tokens, moment, tier)
                        assert ours(plan, tokens, moment) == want, (provider.id, model.id, tier, tokens, moment)
                        compared += 1
    assert compared > 3000


def test_prices_change_on_the_day_they_change_and_not_a_second_before(book: PriceBook) -> None:
    checked = 0
    for provider, name in models():
        plan = book.plan(provider, name)
        if not isinstance(plan, Plan) or len(plan.tariffs) < 2:
            continue
        _, model = data_snapshot.get_snapshot().find_provider_model(name, None, provider, None)
        for conditional in model.prices if isinstance(model.prices, list) else []:
            if isinstance(conditional.constraint, StartDateConstraint):
                begins = datetime.combine(conditional.constraint.start_date, datetime.min.time(), UTC)
                for moment in (begins - timedelta(microseconds=1), begins):
                    assert ours(plan, USAGES[7], moment) == theirs(provider, name, USAGES[7], moment), (provider, name, moment)
                    checked += 1
    assert checked > 200


@pytest.mark.parametrize(
    ("name", "provider"),
    [
        ("gcp.gemini", "google"), ("gcp.vertex_ai", "google"), ("gcp.gen_ai", "google"), ("vertex_ai", "google"), ("gemini", "google"),
        ("aws.bedrock", "aws"), ("azure.ai.openai", "azure"), ("azure.ai.inference", "azure"), ("az.ai.openai", "azure"),
        ("mistral_ai", "mistral"), ("x_ai", "x-ai"), ("xai", "x-ai"), ("OpenAI", "openai"), (" anthropic ", "anthropic"),
        ("groq", "groq"), ("cohere", "cohere"), ("deepseek", "deepseek"), ("perplexity", "perplexity"), ("together_ai", "together"),
    ],
)  # fmt: skip
def test_names_of_opentelemetry_and_of_client_libraries_lead_to_their_provider(book: PriceBook, name: str, provider: str) -> None:
    model = next(model for owner, model in models() if owner == provider and isinstance(book.plan(provider, model), Plan))
    assert book.plan(name, model) == book.plan(provider, model)


@pytest.mark.parametrize(
    ("provider", "model", "why"),
    [
        ("not-openai", "gpt-4o", "unknown provider"),
        ("openai-compatible", "gpt-4o", "unknown provider"),
        ("unknown", "gpt-4o", "unknown provider"),
        ("openai", "my-fine-model", "no model"),
        ("openai", "", "no model"),
        ("mistral", "mistral-ocr-latest", "not sold by tokens"),
        ("litellm", "nobody/gpt-4o", "unknown provider"),
    ],
)
def test_what_is_not_known_is_not_guessed(book: PriceBook, provider: str, model: str, why: str) -> None:
    plan = book.plan(provider, model)
    assert isinstance(plan, Unpriced)
    assert why in plan.why


def test_what_geminis_own_api_writes_in_front_of_a_model_is_left_aside(book: PriceBook) -> None:
    assert book.plan("gemini", "models/gemini-2.5-pro") == book.plan("google", "gemini-2.5-pro")


def test_litellm_names_the_provider_in_front_of_the_model(book: PriceBook) -> None:
    assert book.plan("litellm", "anthropic/claude-sonnet-4-5") == book.plan("anthropic", "claude-sonnet-4-5")


def test_names_made_up_without_end_do_not_fill_memory(book: PriceBook) -> None:
    for number in range(30_000):
        book.plan("nobody", f"model-{number}")
    assert len(book._plans) <= 20_000
