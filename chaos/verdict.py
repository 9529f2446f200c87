"""The verdict: what the publishers know against what the streams hold. Pure; fed line by line."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

from chaos import journal
from chaos.journal import Book
from chaos.sightings import Calls

BILLED: Final = "model_call.completed"
CONFLICT: Final = "conflicting_duplicate"
_SHOWN: Final = 10
_MARK: Final = re.compile(rb"mark-\w+-\d+-end")


@dataclass(frozen=True, slots=True)
class Violation:
    """One broken promise, with a few of those it was broken for."""

    what: str
    count: int
    examples: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.what}: {self.count:,}\n" + "\n".join(f"    {example}" for example in self.examples)


@dataclass(slots=True)
class Case:
    """Everything against ``book``. Feed events, then entries and letters, then ask for ``violations``."""

    book: Book
    price: Callable[[Mapping[str, Any]], Decimal]
    _awaited: dict[str, str] = field(init=False)
    _seen: set[str] = field(default_factory=set)
    _owed: dict[str, Decimal] = field(default_factory=dict)
    _entries: set[str] = field(default_factory=set)
    _calls: Calls = field(default_factory=Calls)
    _charged: dict[str, tuple[str, Decimal]] = field(default_factory=dict)
    """By entry, of those that charge: the event, and what it cost."""
    _spent: dict[str, Decimal] = field(default_factory=dict)
    """By call."""
    seen_again: int = 0
    reversed: int = 0
    _letters: set[str] = field(default_factory=set)
    _marks: dict[str, int] = field(default_factory=dict)
    _wrong: dict[str, list[str]] = field(default_factory=dict)
    _counts: dict[str, int] = field(default_factory=dict)
    expected_sum: Decimal = Decimal(0)
    ledger_sum: Decimal = Decimal(0)
    dead: int = 0
    unacknowledged: int = 0
    """Stored although their publisher did not live to hear so, and what our own services published."""

    def __post_init__(self) -> None:
        self._awaited = dict(self.book.events)

    @property
    def stored(self) -> int:
        """Different events in EVENTS."""
        return len(self._seen)

    @property
    def entries(self) -> int:
        """Different entries in LEDGER."""
        return len(self._entries)

    def _bad(self, what: str, example: str) -> None:
        self._counts[what] = self._counts.get(what, 0) + 1
        shown = self._wrong.setdefault(what, [])
        if len(shown) < _SHOWN:
            shown.append(example)

    def event(self, event: Mapping[str, Any]) -> None:
        """One line of ``events.>``."""
        name = journal.key(event)
        if name in self._seen:
            return self._bad("events stored twice", f"{name} again at TELEMETRY {event['ingest']['sequence']}")
        self._seen.add(name)
        told = self._awaited.pop(name, None)
        if told is None:
            self.unacknowledged += 1
        elif told != journal.fingerprint(event):
            self._bad("events stored otherwise than published", name)
        if event["event_type"] == BILLED:
            self._owed[name] = cost = self.price(event)
            self._calls.add(name, event, cost)
        return None

    def entry(self, entry: Mapping[str, Any]) -> None:
        """One line of ``ledger.>``."""
        name = f"{entry['tenant_id']}/{entry['event_id']}"
        cost = Decimal(entry["cost_usd"])
        self.ledger_sum += cost
        if entry["entry_id"] in self._entries:
            return self._bad("ledger entries with an id that stands already", f"{entry['entry_id']} for {name}")
        self._entries.add(entry["entry_id"])
        call = self._calls.call(name)
        if call is not None:
            self._spent[call] = self._spent.get(call, Decimal(0)) + cost
        if entry["kind"] != "charge":
            return self._correction(entry, name, cost)
        owed = self._owed.pop(name, None)
        if owed is None:
            return self._bad("charges for nothing, or for the second time", f"{entry['entry_id']} for {name}")
        if entry.get("duplicate_of") is not None:
            self.seen_again += 1
            if cost != 0 or entry["input_tokens"] or entry["output_tokens"]:
                self._bad("calls charged by one more sighting", f"{name}: {cost}")
            return None
        self._charged[entry["entry_id"]] = (name, cost)
        if owed != cost:
            self._bad("charges with a wrong amount", f"{name} {entry['provider']}/{entry['model']}: {cost}, should be {owed}")
        return None

    def _correction(self, entry: Mapping[str, Any], name: str, cost: Decimal) -> None:
        """A reversal is right where another sighting of the call took the place of the one it takes back."""
        of, charged = self._charged.pop(entry.get("corrects", ""), ("", Decimal(0)))
        if entry["kind"] != "reversal" or entry["reason"] != "duplicate_call" or of != name or charged != -cost:
            self._bad("corrections nobody asked for", f"{entry['kind']} {entry['entry_id']} for {name}")
        else:
            self.reversed += 1

    def _once(self) -> None:
        """Each call is charged once, what its best sighting says."""
        standing: dict[str, int] = {}
        for name, _ in self._charged.values():
            call = self._calls.call(name) or name
            standing[call] = standing.get(call, 0) + 1
        for call, owed in self._calls.costs().items():
            self.expected_sum += owed
            spent = self._spent.get(call)
            if spent is not None and (spent != owed or standing.get(call) != 1):
                self._bad(
                    "calls not charged once", f"{call}: {standing.get(call, 0)} charges stand, {spent} USD, should be {owed}"
                )

    def letter(self, letter: Mapping[str, Any], original: bytes) -> None:
        """One dead letter with the bytes it stands for."""
        if letter["letter_id"] in self._letters:
            return self._bad("dead letters stored twice", letter["letter_id"])
        self._letters.add(letter["letter_id"])
        self.dead += 1
        found = _MARK.search(original)
        if found is None:
            return self._bad("good events among the dead letters", f"{letter['reason']}: {original[:200]!r}")
        mark = found.group().decode()
        self._marks[mark] = self._marks.get(mark, 0) + 1
        if self._marks[mark] > self.book.attempts.get(mark, 0):
            self._bad("garbage with more dead letters than times it was published", mark)
        return None

    def violations(
        self, warehouse_sum: Decimal | None, audit: tuple[int, str], unsettled: str | None = None
    ) -> tuple[Violation, ...]:
        """Everything that is wrong.

        ``audit`` is the exit code and output of ``agentops audit``, ``unsettled`` what was never done with.
        """
        if unsettled is not None:
            self._bad("did not settle", unsettled)
        self._once()
        for name in self._awaited:
            self._bad("acknowledged events lost", name)
        for name in self._owed:
            self._bad("model calls without a charge", name)
        for mark in self.book.swallowed - set(self._marks):
            self._bad("acknowledged garbage that is nowhere", mark)
        if self.ledger_sum != self.expected_sum:
            self._bad("ledger sum", f"{self.ledger_sum}, should be {self.expected_sum}")
        if warehouse_sum != self.ledger_sum:
            self._bad("warehouse sum", f"{warehouse_sum}, the ledger's is {self.ledger_sum}")
        if audit[0] != 0:
            self._bad("the audit disagrees", audit[1])
        return tuple(Violation(what, self._counts[what], tuple(shown)) for what, shown in self._wrong.items())

    def lost(self) -> int:
        """Acknowledged events that are not stored, and garbage that is not among the letters."""
        return len(self._awaited) + len(self.book.swallowed - set(self._marks))

    def doubled(self) -> int:
        """Events and entries that stand more than once."""
        kinds = (
            "events stored twice",
            "ledger entries with an id that stands already",
            "charges for nothing, or for the second time",
            "calls charged by one more sighting",
            "calls not charged once",
        )
        return sum(self._counts.get(kind, 0) for kind in kinds)
