"""Whether an entry says the truth: computed again from itself, and from the book version it names. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final

from agent_manager.cli.ledger.rows import Row, priced, tokens, unit_prices
from schemas.prices.finding import PriceBook, Unpriced
from schemas.prices.rates import NoCostError, Rates

MOST_TOLD: Final = 50


@dataclass(frozen=True, slots=True)
class Problem:
    """One entry that is not as it should be."""

    entry_id: str
    tenant_id: str
    what: str


@dataclass(slots=True)
class Verdict:
    """What a verification has found so far."""

    entries: int = 0
    corrections: int = 0
    unpriced: int = 0
    seen_again: int = 0
    """Of calls that other entries stand for."""
    total: Decimal = Decimal(0)
    wrong: int = 0
    told: list[Problem] = field(default_factory=list)
    versions: dict[str, int] = field(default_factory=dict)
    """Entries by the book version they name."""

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return self.wrong == 0

    def add(self, problem: Problem) -> None:
        """One more; the first are told, all are counted."""
        self.wrong += 1
        if len(self.told) < MOST_TOLD:
            self.told.append(problem)


def check(rows: Iterable[Row], books: Mapping[str, PriceBook | None], verdict: Verdict) -> None:
    """Adds ``rows`` to ``verdict``; ``books`` are the versions they name, None for those there are no longer."""
    for row in rows:
        verdict.entries += 1
        verdict.total += row["cost_usd"]
        verdict.corrections += row["kind"] != "charge"
        version = row["price_book_version"]
        verdict.versions[version] = verdict.versions.get(version, 0) + 1
        verdict.unpriced += row["reason"] == "unpriced"
        verdict.seen_again += row["kind"] == "charge" and row["reason"] == "duplicate_call"
        for what in problems(row, books.get(version)):
            verdict.add(Problem(row["entry_id"], row["tenant_id"], what))


def one_more(row: Row) -> list[str]:
    """What is wrong with the entry of one more sighting of a call: it charges nothing, counts nothing, and says what stands."""
    told = [] if row["cost_usd"] == 0 else [f"costs {row['cost_usd']} USD though its call is charged by another entry"]
    if row["duplicate_of"] is None:
        told.append("does not say which entry stands for its call")
    if any(tokens(row)[:5]):
        told.append("counts tokens though its call is charged by another entry")
    return told


def problems(row: Row, book: PriceBook | None) -> list[str]:
    """What is wrong with one entry. Whether a reversal takes back what its entry cost is asked of the warehouse."""
    if row["kind"] == "charge" and row["reason"] == "duplicate_call":
        return one_more(row)
    sign = -1 if row["kind"] == "reversal" else 1
    cost = sign * row["cost_usd"]
    own = unit_prices(row)
    told: list[str] = []
    if own or row["priced_as"] is not None:
        try:
            again = Rates.of(own).cost(tokens(row))
        except NoCostError as error:
            told.append(f"cannot be computed again: {error}")
        else:
            if again != cost:
                told.append(f"costs {cost} USD; its own unit prices and tokens give {again}")
    elif cost != 0:
        told.append(f"costs {cost} USD without any unit price")
    if book is None:
        return [*told, f"names the price book {row['price_book_version']!r}, which there is not"]
    found = priced(row, book)
    if isinstance(found, Unpriced):
        if own:
            told.append(f"is priced; by {book.version} it has no price: {found.why}")
    elif row["priced_as"] is None:
        told.append(f"is unpriced; by {book.version} it costs {found.cost} USD")
    else:
        book_prices = found.rates.by_name()
        told += [
            f"was charged {own.get(name, 'nothing')} for {name}; by {book.version} it is {book_prices.get(name, 'nothing')}"
            for name in sorted(own.keys() | book_prices.keys())
            if own.get(name) != book_prices.get(name)
        ]
        for what, name, right in (
            ("priced as", "priced_as", found.priced_as),
            ("by agreement", "price_override", found.override),
        ):
            if row[name] != right:
                told.append(f"was charged {what} {row[name] or 'none'}; by {book.version} it is {right or 'none'}")
    return told
