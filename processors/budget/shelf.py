"""The books of all budgets, by tenant, and what follows when a message is taken or time passes. Pure."""

from collections.abc import Container, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from processors.budget.books import Book
from processors.budget.checkpoints import Kept
from processors.budget.enforcing import cleared, event, stops, telling
from processors.budget.judging import settle
from processors.budget.spending import FIELD, Spend
from schemas.budgets import BudgetDefinition, budget_key
from schemas.state import AgentRecord


@dataclass(slots=True)
class Tenant:
    """The budgets of one tenant, found by whose entries they count."""

    whole: list[Kept] = field(default_factory=list)
    parts: dict[str, dict[str, list[Kept]]] = field(default_factory=dict)
    """By field of an entry, then by its value."""

    @property
    def wanted(self) -> Mapping[str, Container[str]] | None:
        """Whose entries are to be read; None: everybody's."""
        return None if self.whole else self.parts

    def place(self, kept: Kept) -> list[Kept]:
        """Where a budget stands among those that count the same."""
        definition = kept.book.definition
        if definition.scope == "tenant":
            return self.whole
        assert definition.of is not None
        return self.parts.setdefault(FIELD[definition.scope], {}).setdefault(definition.of, [])

    def all(self) -> Iterator[Kept]:
        """Every budget."""
        yield from self.whole
        for those in self.parts.values():
            for several in those.values():
                yield from several

    def shares(self, spent: list[Spend]) -> Iterator[tuple[Kept, list[Spend]]]:
        """Which budget counts which of ``spent``; those that count nothing of it are left out."""
        for kept in self.whole:
            yield kept, spent
        for name, those in self.parts.items():
            own: dict[str, list[Spend]] = {}
            for each in spent:
                of = getattr(each, name)
                if of in those:
                    own.setdefault(of, []).append(each)
            for of, share in own.items():
                for kept in those[of]:
                    yield kept, share


@dataclass(slots=True)
class Shelf:
    """Every budget that is watched."""

    books: dict[str, Kept] = field(default_factory=dict)
    incomplete: set[str] = field(default_factory=set)
    """Keys of books with something still to be summed up."""
    told: set[str] = field(default_factory=set)
    """Crossings found told already, of budgets whose checkpoint is lost."""
    _tenants: dict[str, Tenant] = field(default_factory=dict)

    @property
    def tenants(self) -> frozenset[str]:
        """Whose ledger is to be read."""
        return frozenset(self._tenants)

    def put(self, kept: Kept) -> None:
        """Watches a budget; an earlier book of the same budget is given up."""
        self.remove(kept.key)
        self.books[kept.key] = kept
        self._tenants.setdefault(kept.book.definition.tenant_id, Tenant()).place(kept).append(kept)
        self.incomplete.add(kept.key)

    def remove(self, key: str) -> Kept | None:
        """Watches it no more."""
        kept = self.books.pop(key, None)
        if kept is not None:
            name = kept.book.definition.tenant_id
            tenant = self._tenants[name]
            tenant.place(kept).remove(kept)
            tenant.parts = {
                part: left
                for part, those in tenant.parts.items()
                if (left := {of: several for of, several in those.items() if several})
            }
            if not tenant.whole and not tenant.parts:
                del self._tenants[name]
            self.incomplete.discard(key)
        return kept

    def tenant(self, name: str) -> Tenant:
        """The budgets of one tenant."""
        return self._tenants.get(name, _NOBODY)

    def take(self, tenant: str, sequence: int, spent: list[Spend], at: datetime) -> Iterator[Kept]:
        """Counts a message in every book it concerns; those that changed by it."""
        for kept, share in self.tenant(tenant).shares(spent):
            if kept.book.take(sequence, share, at):
                kept.unsaved = True
                if any(not tally.counted for tally in kept.book.tallies.values()):
                    self.incomplete.add(kept.key)
                yield kept

    def judge(self, kept: Kept, registry: Mapping[str, AgentRecord], now: datetime) -> int:
        """Puts what follows from the book as it stands into its outbox; how many thresholds were reached."""
        book, hits = kept.book, 0
        word(kept)
        for hit in settle(book):
            kept.unsaved = True
            if hit.reached.event_id in self.told:
                continue
            hits += 1
            kept.outbox.append(telling(event(book, hit)))
            kept.to_save = True
        commands = stops(book, registry, now)
        if commands:
            kept.outbox += commands
            kept.unsaved = kept.to_save = True
        return hits


def word(kept: Kept) -> None:
    """Puts into the outbox what holds no longer."""
    lapsed, kept.book.lapsed = kept.book.lapsed, []
    for each in lapsed:
        kept.outbox.append(telling(cleared(kept.book, each)))
        kept.unsaved = kept.to_save = True


_NOBODY: Final = Tenant()


def opened(definition: BudgetDefinition, revision: int, last: int, now: datetime, tolerance_s: float) -> Kept:
    """A new book, which counts what LEDGER stores after ``last``."""
    book = Book(definition, revision, last, now, tolerance_s, clock=now)
    book.current()
    return Kept(budget_key(definition.tenant_id, definition.budget_id), book)
