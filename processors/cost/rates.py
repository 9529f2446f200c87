"""Rates and what a call costs at them: exact decimals, rounded once."""

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Final, NamedTuple

_EXACT: Final = Context(prec=60, rounding=ROUND_HALF_EVEN)
_NINE_DIGITS: Final = Decimal("1e-9")
_TOO_MUCH: Final = Decimal(10) ** 9
_PER_MILLION: Final = Decimal("1e-6")
_PER_THOUSAND: Final = Decimal("1e-3")
ZERO: Final = Decimal("0.000000000")


class CostTooLargeError(ValueError):
    """A call would cost a billion dollars or more. Trying again does not help: the usage is nonsense."""


class Tokens(NamedTuple):
    """A call's tokens, as OpenTelemetry counts: input includes both cache counts, output includes reasoning."""

    input: int
    output: int
    cache_read: int = 0
    cache_write: int = 0
    reasoning: int = 0


@dataclass(frozen=True, slots=True)
class Rates:
    """US dollars per million tokens (and per thousand requests). None: not priced apart, so at the rate of what includes it."""

    input: Decimal | None = None
    output: Decimal | None = None
    cache_read: Decimal | None = None
    cache_write: Decimal | None = None
    reasoning: Decimal | None = None
    requests_k: Decimal | None = None

    def cost(self, tokens: Tokens) -> Decimal:
        """What a call with ``tokens`` costs, rounded half-even to nine digits. Raises CostTooLargeError."""
        multiply, add = _EXACT.multiply, _EXACT.add
        plain_input, plain_output, total = tokens.input, tokens.output, Decimal(0)
        if tokens.cache_read and self.cache_read is not None:
            plain_input -= tokens.cache_read
            total = add(total, multiply(self.cache_read, tokens.cache_read))
        if tokens.cache_write and self.cache_write is not None:
            plain_input -= tokens.cache_write
            total = add(total, multiply(self.cache_write, tokens.cache_write))
        if tokens.reasoning and self.reasoning is not None:
            plain_output -= tokens.reasoning
            total = add(total, multiply(self.reasoning, tokens.reasoning))
        if plain_input and self.input is not None:
            total = add(total, multiply(self.input, plain_input))
        if plain_output and self.output is not None:
            total = add(total, multiply(self.output, plain_output))
        total = multiply(total, _PER_MILLION)
        if self.requests_k is not None:
            total = add(total, multiply(self.requests_k, _PER_THOUSAND))
        cost = total.quantize(_NINE_DIGITS, ROUND_HALF_EVEN, _EXACT)
        if cost >= _TOO_MUCH:
            raise CostTooLargeError(f"{cost} USD for one call")
        return cost

    def shown(self) -> dict[str, str]:
        """The rates that exist, as the ledger writes them."""
        return {name: format(rate, "f") for name in self.__slots__ if (rate := getattr(self, name)) is not None}


@dataclass(frozen=True, slots=True)
class Tariff:
    """Rates by how many input tokens the whole call has: past a threshold the higher rates hold for all its tokens."""

    steps: tuple[Rates, ...]
    """One more than ``thresholds``."""
    thresholds: tuple[int, ...] = ()
    """Ascending; the next step holds for *more* input tokens than this."""

    def rates(self, input_tokens: int) -> Rates:
        """The rates of a call with so many input tokens, cache included."""
        return self.steps[bisect_left(self.thresholds, input_tokens)] if self.thresholds else self.steps[0]


def tariff(prices: Mapping[str, Decimal | tuple[Decimal, tuple[tuple[int, Decimal], ...]]]) -> Tariff:
    """The tariff of ``prices`` by name, each plain or ``(base, ((start, price), …))``; the highest start exceeded decides."""
    starts = sorted({start for price in prices.values() if isinstance(price, tuple) for start, _ in price[1]})

    def at(price: Decimal | tuple[Decimal, tuple[tuple[int, Decimal], ...]], reached: int) -> Decimal:
        if isinstance(price, Decimal):
            return price
        found = price[0]
        for start, higher in sorted(price[1], key=lambda tier: tier[0]):
            if start <= reached:
                found = higher
        return found

    steps = tuple(Rates(**{name: at(price, reached) for name, price in prices.items()}) for reached in (-1, *starts))
    return Tariff(steps, tuple(starts))
