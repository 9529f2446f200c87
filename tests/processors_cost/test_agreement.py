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

from processors.cost import genai_book
from processors.cost.price_book import Plan, PriceBook, Unpriced, context_of
from processors.cost.rates import Tokens

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
    return genai_book.build()


def models() -> Iterator[tuple[str, str]]:
    """Every provider with each of its models, by id."""
    for provider in data_snapshot.get_snapshot().providers:
        for model in provider.models:
            if model.is_match(model.id):
                yield provider.id, model.id


def theirs(provider: str, model: str, tokens: Tokens, moment: datetime, tier: str | None = None) -> Decimal:
    usage = genai_prices.Usage(
        input_tokens=tokens.input, output_tokens=tokens.output, cache_read_tokens=tokens.cache_read,
        cache_write_tokens=tokens.cache_write, output_reasoning_tokens=tokens.reasoning,
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = genai_prices.calc_price(
            usage, model, provider_id=provider, genai_request_timestamp=moment, price_context=context_of(tier) or None
        )
    total: Decimal = found.total_price
    return total.quantize(Decimal("1e-9"), ROUND_HALF_EVEN)


def ours(plan: Plan, tokens: Tokens, moment: datetime) -> Decimal:
    return plan.at(moment).rates(tokens.input).cost(tokens)


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
