"""Rates and what a call costs at them: exact decimals, rounded once."""

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Context, Decimal
from typing import Final

from schemas.prices.units import PARTS, PER_THOUSAND, UNITS, WITHIN, Tokens

_EXACT: Final = Context(prec=60, rounding=ROUND_HALF_EVEN)
_NINE_DIGITS: Final = Decimal("1e-9")
_TOO_MUCH: Final = Decimal(10) ** 9
_PER_MILLION: Final = Decimal("1e-6")
_PER_THOUSAND: Final = Decimal("1e-3")
ZERO: Final = Decimal("0.000000000")
_COMMON: Final = ("input", "output", "cache_read", "cache_write", "reasoning", "requests_k")


class NoCostError(ValueError):
    """What a call costs cannot be said, and why. Trying again does not help: its usage would have to be told otherwise."""


class CostTooLargeError(NoCostError):
    """A call would cost a billion dollars or more: the usage is nonsense."""


@dataclass(frozen=True, slots=True)
class Rates:
    """US dollars per million tokens (``_k``: per thousand). None: not priced apart, so at the rate of what includes it."""

    input: Decimal | None = None
    output: Decimal | None = None
    cache_read: Decimal | None = None
    cache_write: Decimal | None = None
    reasoning: Decimal | None = None
    requests_k: Decimal | None = None
    rare: tuple[tuple[str, Decimal], ...] = ()
    """Prices of rarer units, by name."""

    @classmethod
    def of(cls, prices: Mapping[str, Decimal]) -> "Rates":
        """Rates by the names of their units."""
        rare = tuple((name, price) for name, price in sorted(prices.items()) if name not in _COMMON)
        get = prices.get
        return cls(
            get("input"), get("output"), get("cache_read"), get("cache_write"), get("reasoning"), get("requests_k"), rare
        )  # fmt: skip

    def cost(self, tokens: Tokens) -> Decimal:
        """What a call with ``tokens`` costs, rounded half-even to nine digits. Raises NoCostError."""
        multiply, add = _EXACT.multiply, _EXACT.add
        if tokens.rarities is not None:
            total = self._in_full(tokens)
        else:
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

    def _in_full(self, tokens: Tokens) -> Decimal:
        """The exact sum where units are parts of several others: each is charged for what its priced parts leave over."""
        assert tokens.rarities is not None
        counts: dict[str, int | None] = {**tokens._asdict(), **tokens.rarities._asdict()}
        prices = self.by_name()
        left: dict[str, int] = {}
        total = Decimal(0)
        for name in UNITS:
            price = prices.get(name)
            if price is None or name == "requests_k":
                continue
            count = counts[name]
            if count is None:
                # Of two overlapping counts the common part is not told: guessing it would bill something twice.
                wholes = [whole for whole in WITHIN[name] if len(WITHIN[whole]) == 1 and counts[whole]]
                if len(wholes) > 1:
                    raise NoCostError(f"resource_usage tells {' and '.join(wholes)} but not their common {name}")
                count = 0
            rest = count - sum(left.get(part, 0) for part in PARTS[name])
            if rest < 0:
                raise NoCostError(f"resource_usage does not add up: the parts of {name} are more than its {count:,}")
            left[name] = rest
            per = _PER_THOUSAND if name in PER_THOUSAND else _PER_MILLION
            total = _EXACT.add(total, _EXACT.multiply(_EXACT.multiply(price, rest), per))
        return total

    def by_name(self) -> dict[str, Decimal]:
        """The rates that exist."""
        common = {name: rate for name in _COMMON if (rate := getattr(self, name)) is not None}
        return common | dict(self.rare)

    def shown(self) -> dict[str, str]:
        """The rates that exist, as the ledger writes them."""
        return {name: format(rate, "f") for name, rate in self.by_name().items()}

    def times(self, factor: Decimal) -> "Rates":
        """Every rate multiplied, exactly."""
        return Rates.of({name: _EXACT.multiply(rate, factor).normalize(_EXACT) for name, rate in self.by_name().items()})


@dataclass(frozen=True, slots=True)
class Tariff:
    """Rates by how many input tokens the whole call has: past a threshold the higher rates hold for all its tokens."""

    steps: tuple[Rates, ...]
    """One more than ``thresholds``."""
    thresholds: tuple[int, ...] = ()
    """Ascending; the next step holds for *more* input tokens than this."""
    override: str | None = None
    """The override that made it what it is."""

    def rates(self, input_tokens: int) -> Rates:
        """The rates of a call with so many input tokens, cache included."""
        return self.steps[bisect_left(self.thresholds, input_tokens)] if self.thresholds else self.steps[0]

    def times(self, factor: Decimal, override: str) -> "Tariff":
        """Every rate multiplied, by that override."""
        return Tariff(tuple(rates.times(factor) for rates in self.steps), self.thresholds, override)


Steps = tuple[Decimal, tuple[tuple[int, Decimal], ...]]
"""A price below all thresholds, then each threshold with the price above it."""


def tariff(prices: Mapping[str, Decimal | Steps], override: str | None = None) -> Tariff:
    """The tariff of ``prices`` by name, each plain or ``(base, ((start, price), …))``; the highest start exceeded decides."""
    starts = sorted({start for price in prices.values() if isinstance(price, tuple) for start, _ in price[1]})

    def at(price: Decimal | Steps, reached: int) -> Decimal:
        if isinstance(price, Decimal):
            return price
        found = price[0]
        for start, higher in sorted(price[1], key=lambda tier: tier[0]):
            if start <= reached:
                found = higher
        return found

    steps = tuple(Rates.of({name: at(price, reached) for name, price in prices.items()}) for reached in (-1, *starts))
    return Tariff(steps, tuple(starts), override)
