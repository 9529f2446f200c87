"""What a call costs: exact, never negative, rounded once."""

from decimal import ROUND_HALF_EVEN, Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.cost.ceiling import Ceiling
from schemas.prices.rates import CostTooLargeError, Rates, tariff
from schemas.prices.units import Tokens

prices = st.decimals(min_value=0, max_value=1000, places=9)
maybe = st.none() | prices
rates = st.builds(Rates, input=prices, output=prices, cache_read=maybe, cache_write=maybe, reasoning=maybe)


@st.composite
def tokens(draw: st.DrawFn, most: int = 10**8) -> Tokens:
    sent, answered = draw(st.integers(0, most)), draw(st.integers(0, most))
    read = draw(st.integers(0, sent))
    return Tokens(sent, answered, read, draw(st.integers(0, sent - read)), draw(st.integers(0, answered)))


def exact(at: Rates, of: Tokens) -> Decimal:
    """The sum as fractions would have it, by another road: every token at the price of its own bucket."""
    buckets = [
        (of.input - of.cache_read - of.cache_write, at.input), (of.cache_read, at.input if at.cache_read is None else at.cache_read),
        (of.cache_write, at.input if at.cache_write is None else at.cache_write), (of.output - of.reasoning, at.output),
        (of.reasoning, at.output if at.reasoning is None else at.reasoning),
    ]  # fmt: skip
    return sum((Decimal(count) * (price or 0) for count, price in buckets), Decimal(0)) / 10**6


@given(rates, tokens())
def test_a_cost_is_the_exact_sum_rounded_once_to_nine_digits(at: Rates, of: Tokens) -> None:
    assert at.cost(of) == exact(at, of).quantize(Decimal("1e-9"), ROUND_HALF_EVEN)
    assert at.cost(of) >= 0
    assert at.cost(of).as_tuple().exponent == -9


@given(rates, tokens(10**6), tokens(10**6))
def test_two_calls_cost_what_one_with_both_their_tokens_costs(at: Rates, one: Tokens, other: Tokens) -> None:
    both = Tokens(
        one.input + other.input, one.output + other.output, one.cache_read + other.cache_read, one.cache_write + other.cache_write,
        one.reasoning + other.reasoning,
    )  # fmt: skip
    assert abs(at.cost(one) + at.cost(other) - at.cost(both)) <= Decimal("1e-9")


@given(rates, tokens())
def test_cached_input_costs_no_more_than_fresh_where_its_price_is_lower(at: Rates, of: Tokens) -> None:
    fresh = Tokens(of.input, of.output, 0, 0, of.reasoning)
    cheaper = all(price is None or (at.input is not None and price <= at.input) for price in (at.cache_read, at.cache_write))
    if cheaper:
        assert at.cost(of) <= at.cost(fresh)


@given(
    st.lists(st.tuples(st.integers(0, 10**6), prices), max_size=4, unique_by=lambda tier: tier[0]), prices, st.integers(0, 10**6)
)
def test_past_a_threshold_the_higher_rate_holds_for_all_tokens(
    tiers: list[tuple[int, Decimal]], base: Decimal, sent: int
) -> None:
    want = base
    for start, price in sorted(tiers):
        if sent > start:
            want = price
    assert tariff({"input": (base, tuple(tiers)), "output": base}).rates(sent) == Rates(input=want, output=base)


def test_half_a_billionth_is_rounded_to_even() -> None:
    for price, cost in (("0.0005", "0.000000000"), ("0.0015", "0.000000002"), ("0.0025", "0.000000002")):
        assert format(Rates(input=Decimal(price)).cost(Tokens(1, 0)), "f") == cost


def test_a_price_for_each_request_is_added_once() -> None:
    assert Rates(input=Decimal(1), requests_k=Decimal(5)).cost(Tokens(0, 0)) == Decimal("0.005")


def test_a_call_for_a_billion_dollars_is_refused() -> None:
    with pytest.raises(CostTooLargeError):
        Rates(input=Decimal(10**6)).cost(Tokens(10**12, 0))


def test_rates_are_shown_as_plain_decimals() -> None:
    assert Rates(input=Decimal("1E-7"), output=Decimal(15)).shown() == {"input": "0.0000001", "output": "15"}


@given(st.lists(st.floats(0, 100), max_size=40))
def test_the_ceiling_is_reached_by_more_than_so_many_within_the_window(pauses: list[float]) -> None:
    ceiling, now, seen = Ceiling(5, 50.0), 0.0, list[float]()
    for pause in pauses:
        now += pause
        seen.append(now)
        assert ceiling.add(now) == (sum(now - at <= 50.0 for at in seen) > 5)
