"""Price books as values: what matches, what is agreed on top, what is refused rather than guessed."""

import copy
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from schemas.prices.book import Book, Model, Offer, Provider, Rule, Step, Stepped, StoredBook, digest, written
from schemas.prices.finding import Plan, PriceBook, Unpriced
from schemas.prices.overrides import Override, Revision, parts
from schemas.prices.pricing import Priced, price
from schemas.prices.rates import NoCostError, Rates
from schemas.prices.units import PARTS, UNITS, Rarities, Tokens
from schemas.sections import ResourceUsage

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
MILLION = Tokens(1_000_000, 0)
BOOK = Book(
    version="test-1",
    source="a test",
    providers=(
        Provider(
            id="openai", names=("oai",),
            models=(
                Model(id="big", match=Rule(any_of=(Rule(equals="big"), Rule(starts_with="big-2026"))),
                      offers=(Offer(prices={"input": Decimal(10), "output": Decimal(20)}),)),
                Model(id="stepped", match=Rule(equals="stepped"),
                      offers=(Offer(prices={"input": Stepped(base=Decimal(1), steps=(Step(above=1000, price=Decimal(2)),)), "output": Decimal(3)}),)),
                Model(id="twin-a", match=Rule(contains="twin"), offers=(Offer(prices={"input": Decimal(1)}),)),
                Model(id="twin-b", match=Rule(ends_with="twin"), offers=(Offer(prices={"input": Decimal(2)}),)),
                Model(id="alike-a", match=Rule(contains="alike"), offers=(Offer(prices={"input": Decimal(1)}),)),
                Model(id="alike-b", match=Rule(regex="alike$"), offers=(Offer(prices={"input": Decimal(1)}),)),
            ),
        ),
        Provider(id="reseller", fallbacks=("openai",)),
    ),
)  # fmt: skip


def cost(
    *overrides: Override, provider: str = "openai", model: str = "big", tenant: str = "acme", tier: str | None = None,
    at: datetime = NOW, tokens: Tokens = MILLION,
) -> Priced | Unpriced:  # fmt: skip
    revision = Revision(number=7, book="test-1", overrides=overrides, at=NOW, by="me", reason="why")
    book = PriceBook.of(BOOK, revision)
    return price(book, provider=provider, model=model, service_tier=tier, tenant=tenant, moment=at, tokens=tokens)


def paid(*overrides: Override, **call: Any) -> str:
    found = cost(*overrides, **call)
    assert isinstance(found, Priced), found
    return f"{found.cost.normalize():f} {found.override or '-'}"


def off(name: str, percent: int, **more: Any) -> Override:
    return Override.model_validate({"override_id": name, "provider": "openai", "discount_percent": Decimal(percent)} | more)


def own(name: str, usd: str, **more: Any) -> Override:
    return Override.model_validate({"override_id": name, "provider": "openai", "prices": {"input": Decimal(usd)}} | more)


def test_a_book_comes_back_from_its_bytes_and_equal_books_have_equal_bytes() -> None:
    assert Book.model_validate_json(written(BOOK)) == BOOK
    again = copy.deepcopy(BOOK)
    assert written(again) == written(BOOK)
    stored = StoredBook.pack(BOOK, at=NOW, by="me", reason="why")
    assert StoredBook.model_validate_json(stored.model_dump_json()).book() == BOOK
    assert digest(BOOK) == digest(BOOK.model_copy(update={"version": "other"}))
    changed = BOOK.model_copy(update={"providers": BOOK.providers[:1]})
    assert digest(changed) != digest(BOOK)


def test_every_kind_of_agreement_changes_the_price_it_should_and_no_other() -> None:
    assert paid() == "10 -"
    assert paid(off("all", 10)) == "9 all"
    assert paid(off("all", -10)) == "11 all"
    assert paid(off("big", 50, model="big")) == "5 big"
    assert paid(off("other", 50, model="stepped")) == "10 -"
    assert paid(own("mine", "0.5", model="big")) == "0.5 mine"
    assert paid(off("theirs", 50, tenant="globex")) == "10 -"
    assert paid(off("theirs", 50, tenant="acme")) == "5 theirs"
    assert paid(off("batch", 50, service_tier="batch")) == "10 -"
    assert paid(off("batch", 50, service_tier="batch"), tier="batch") == "5 batch"
    assert paid(off("rule", 50, match=Rule(starts_with="big-"))) == "10 -"
    assert paid(off("rule", 50, match=Rule(starts_with="big-")), model="big-2026-01-01") == "5 rule"


def test_an_agreement_on_a_model_holds_by_whatever_name_a_call_has_it() -> None:
    assert paid(off("big", 50, model="big"), model="BIG-2026-09-09", provider="oai") == "5 big"
    assert paid(off("big", 50, provider="oai", model="big"), provider="openai") == "5 big"


def test_the_most_particular_agreement_holds_and_of_equals_the_latest() -> None:
    everybody, tenants, models = (
        off("everybody", 10, model="big"),
        off("tenants", 20, tenant="acme"),
        off("models", 30, model="big", tenant="acme"),
    )
    assert paid(everybody, tenants, models) == "7 models"
    assert paid(models, tenants, everybody, tenant="globex") == "9 everybody"
    old, new = off("old", 10, since=NOW - timedelta(days=9)), off("new", 20, since=NOW - timedelta(days=1))
    assert paid(new, old) == "8 new"
    assert paid(new, old, at=NOW - timedelta(days=2)) == "9 old"
    assert paid(new, old, at=NOW - timedelta(days=20)) == "10 -"


def test_an_agreement_begins_and_ends_to_the_microsecond() -> None:
    one = off("month", 50, since=NOW, until=NOW + timedelta(days=30))
    tick = timedelta(microseconds=1)
    moments = [NOW - tick, NOW, NOW + timedelta(days=30) - tick, NOW + timedelta(days=30)]
    assert [paid(one, at=at) for at in moments] == ["10 -", "5 month", "5 month", "10 -"]


def test_a_model_of_ones_own_has_the_price_agreed_and_none_before_it() -> None:
    mine = own("mine", "0.1", provider="local", model="our-llama", since=NOW)
    assert paid(mine, provider="local", model="Our-Llama") == "0.1 mine"
    before = cost(mine, provider="local", model="our-llama", at=NOW - timedelta(days=1))
    assert isinstance(before, Unpriced)
    assert "no price of local/our-llama holds" in before.why
    assert isinstance(cost(mine, provider="local", model="our-llama-2"), Unpriced)
    assert isinstance(cost(off("free", 10, provider="local"), provider="local", model="our-llama"), Unpriced)


def test_a_discount_reaches_every_step_and_stays_exact() -> None:
    seventh = Override(override_id="s", provider="openai", discount_percent=Decimal("12.345678901"))
    assert paid(seventh, model="stepped", tokens=Tokens(1000, 0)) == "0.000876543 s"
    assert paid(seventh, model="stepped", tokens=Tokens(1001, 0)) == "0.00175484 s"


def test_names_that_may_be_several_models_are_not_guessed_and_those_of_equal_price_are_one() -> None:
    found = cost(model="the-twin")
    assert isinstance(found, Unpriced)
    assert "may be several models of openai: twin-a, twin-b" in found.why
    assert paid(model="alike") == "1 -"


def test_a_reseller_has_the_prices_of_whom_it_resells() -> None:
    found = cost(provider="reseller")
    assert isinstance(found, Priced)
    assert (found.priced_as, found.cost) == ("openai/big", Decimal(10))


def test_entries_name_book_and_revision_only_where_agreements_are_in_force() -> None:
    plain = Revision(number=3, book="test-1", at=NOW, by="me", reason="why")
    assert plain.version == "test-1"
    agreed = plain.model_copy(update={"overrides": (off("all", 10),)})
    assert (agreed.version, parts(agreed.version), parts("test-1"), parts("odd+rx")) == (
        "test-1+r3", ("test-1", 3), ("test-1", None), ("odd+rx", None),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, "either discount_percent or prices"),
        ({"discount_percent": Decimal(1), "prices": {"input": Decimal(1)}}, "either discount_percent or prices"),
        ({"discount_percent": Decimal(101)}, "less than or equal to 100"),
        ({"prices": {"input": Decimal(-1)}}, "greater than or equal to 0"),
        ({"prices": {"tokens": Decimal(1)}}, "Input should be 'input'"),
        ({"discount_percent": Decimal(1), "since": NOW, "until": NOW}, "until must lie after since"),
        ({"discount_percent": Decimal(1), "model": "a", "match": Rule(equals="b")}, "either model or match"),
        ({"discount_percent": Decimal(1), "provider": "OpenAI"}, "lower case"),
    ],
)
def test_an_agreement_that_makes_no_sense_is_refused_with_the_reason(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        Override.model_validate({"override_id": "x", "provider": "openai"} | fields)


@pytest.mark.parametrize("rule", [{}, {"equals": "a", "contains": "b"}, {"regex": "("}])
def test_a_rule_says_exactly_one_thing_that_can_be_matched(rule: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        Rule.model_validate(rule)


def test_a_provider_name_belongs_to_one_provider() -> None:
    with pytest.raises(ValidationError, match="belongs to a and to b"):
        Book(version="v", providers=(Provider(id="a"), Provider(id="b", names=("a",))))


def test_names_made_up_without_end_do_not_fill_memory() -> None:
    book = PriceBook.of(BOOK)
    for number in range(30_000):
        book.plan("nobody", f"model-{number}")
    assert len(book._plans) <= 20_000


def test_agreements_of_one_tenant_do_not_multiply_what_is_remembered_of_others() -> None:
    book = PriceBook.of(
        BOOK, Revision(number=1, book="test-1", overrides=(off("t", 5, tenant="acme"),), at=NOW, by="me", reason="why")
    )
    for number in range(100):
        assert isinstance(book.plan("openai", "big", None, f"tenant-{number}"), Plan)
    book.plan("openai", "big", None, "acme")
    assert len(book._plans) == 2


counts = st.integers(0, 10_000)


@given(st.lists(counts, min_size=9, max_size=9), st.sets(st.sampled_from(UNITS)), st.integers(1, 10**6))
def test_every_token_is_charged_once_whatever_is_priced_apart(made: list[int], priced: set[str], unit: int) -> None:
    """With one price for everything, what is told apart costs what it would cost together."""
    read_audio, audio, image, read, write_1h, write, text, out_audio, out_text = made
    tokens = Tokens(
        read_audio + audio + image + read + write_1h + write + text, out_audio + out_text, read_audio + read, write_1h + write, 0,
        Rarities(cache_write_1h=write_1h, input_audio=read_audio + audio, cache_read_audio=read_audio, input_image=image,
                 cache_read_image=0, output_audio=out_audio),
    )  # fmt: skip
    per_token = {name: Decimal(unit) for name in priced if not name.endswith("_k")}
    # Where parts overlap the overlap must have a price of its own: else it belongs to both, and no sum is right.
    if {"cache_read", "input_audio"} <= per_token.keys() and "cache_read_audio" not in per_token:
        per_token["cache_read_audio"] = Decimal(unit)
    found = Rates.of(per_token | {"input": Decimal(unit), "output": Decimal(unit)}).cost(tokens)
    assert found == Decimal(unit) * (tokens.input + tokens.output) / 10**6


@given(st.builds(Tokens, counts, counts, counts, counts, counts, st.builds(Rarities, *[st.none() | counts] * 12)))
def test_usage_that_does_not_add_up_has_no_cost_and_never_a_negative_one(tokens: Tokens) -> None:
    rates = Rates.of({name: Decimal(1) for name in UNITS})
    try:
        assert rates.cost(tokens) >= 0
    except NoCostError:
        assert any(PARTS.values())


@pytest.mark.parametrize(
    ("usage", "said"),
    [
        ({"cache_write_tokens": 5, "cache_write_1h_tokens": 6}, "cache_write_1h_tokens must not exceed cache_write_tokens"),
        (
            {"input_audio_tokens": 60, "input_image_tokens": 50},
            "input_audio_tokens \\+ input_image_tokens must not exceed input_tokens",
        ),
        ({"cache_read_tokens": 5, "input_audio_tokens": 9, "cache_read_audio_tokens": 6}, "must not exceed cache_read_tokens"),
        ({"cache_read_tokens": 9, "cache_read_audio_tokens": 6}, "cache_read_audio_tokens must not exceed input_audio_tokens"),
        ({"output_video_tokens": 11}, "must not exceed output_tokens"),
        ({"reasoning_tokens": 6, "citation_tokens": 6}, "reasoning_tokens \\+ citation_tokens must not exceed output_tokens"),
        ({"web_searches": -1}, "greater than or equal to 0"),
    ],
)
def test_what_is_told_apart_is_never_more_than_what_it_is_part_of(usage: dict[str, int], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        ResourceUsage.model_validate({"input_tokens": 100, "output_tokens": 10} | usage)


def test_usage_without_the_newer_counts_is_written_as_before() -> None:
    assert ResourceUsage(input_tokens=1, output_tokens=2).model_dump(exclude_none=True) == {
        "input_tokens": 1, "output_tokens": 2, "cache_read_tokens": 0, "cache_write_tokens": 0, "reasoning_tokens": 0, "estimated": False,
    }  # fmt: skip
