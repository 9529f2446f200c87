"""Every broken promise is found, and a kept one is not called broken."""

import copy
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import orjson
import pytest

from chaos import journal, prices
from chaos.journal import Book
from chaos.sightings import Calls
from chaos.traffic import Traffic
from chaos.verdict import _MARK, Case, Violation

NOW = datetime(2026, 11, 20, tzinfo=UTC)
GOOD = (0, "ok")


@dataclass(slots=True)
class Streams:
    """What a right system holds after the traffic."""

    book: Book = field(default_factory=Book)
    events: list[dict[str, Any]] = field(default_factory=list)
    entries: list[dict[str, Any]] = field(default_factory=list)
    letters: list[tuple[dict[str, Any], bytes]] = field(default_factory=list)
    warehouse: Decimal = Decimal(0)
    audit: tuple[int, str] = GOOD
    unsettled: str | None = None

    def call(self) -> dict[str, Any]:
        """A model call with a price."""
        return next(e for e in self.events if e["event_type"] == "model_call.completed" and prices.expected(e))

    def violations(self) -> tuple[Violation, ...]:
        case = Case(self.book, prices.expected)
        for event in self.events:
            case.event(event)
        for entry in self.entries:
            case.entry(entry)
        for letter, raw in self.letters:
            case.letter(letter, raw)
        return case.violations(self.warehouse, self.audit, self.unsettled)


@pytest.fixture
def streams(right: Streams) -> Streams:
    """One to break."""
    return copy.deepcopy(right)


@pytest.fixture(scope="module")
def right() -> Streams:
    made = Streams()
    traffic, calls = Traffic("p", 1, 60.0), Calls()
    for parcel in (parcel for _ in range(60) for parcel in traffic.chunk(25, NOW)):
        for line in parcel.data.split(b"\n"):
            if mark := _MARK.search(line):
                made.book.attempts[mark.group().decode()] = 1
                made.book.swallowed.add(mark.group().decode())
                made.letters.append(({"letter_id": f"letter-{len(made.letters)}", "reason": "contract_violation"}, line))
                continue
            event = orjson.loads(line) | {"ingest": {"received_at": NOW.isoformat(), "sequence": 1, "position": 0}}
            if journal.key(event) in made.book.events:
                continue
            made.book.events[journal.key(event)] = journal.fingerprint(event)
            made.events.append(event)
            if event["event_type"] == "model_call.completed":
                calls.add(journal.key(event), event, prices.expected(event))
    charged: dict[str | None, str] = {}
    owed = calls.costs()
    for event in made.events:
        if event["event_type"] != "model_call.completed":
            continue
        call, cost = calls.call(journal.key(event)), prices.expected(event)
        entry = {
            "entry_id": f"entry-{len(made.entries)}", "kind": "charge", "tenant_id": event["tenant"]["tenant_id"], "reason": "priced",
            "event_id": event["event_id"], "cost_usd": str(cost), "provider": "p", "model": "m", "input_tokens": 1, "output_tokens": 1,
        }  # fmt: skip
        if call in charged or cost != owed[call or ""]:
            entry |= {"cost_usd": "0", "duplicate_of": charged.get(call, "to-come"), "input_tokens": 0, "output_tokens": 0}
        else:
            charged[call] = str(entry["entry_id"])
            made.warehouse += cost
        made.entries.append(entry)
    return made


def names(violations: Iterable[Violation]) -> set[str]:
    return {violation.what for violation in violations}


def test_nothing_is_wrong_where_nothing_is_wrong(streams: Streams) -> None:
    assert streams.violations() == ()
    assert streams.warehouse > 0
    assert streams.letters


def test_an_event_whose_publisher_died_before_it_heard_is_no_violation(streams: Streams) -> None:
    del streams.book.events[journal.key(streams.call())]
    assert streams.violations() == ()


def lose(streams: Streams) -> None:
    streams.events.remove(next(e for e in streams.events if e["event_type"] == "step.completed"))


def double(streams: Streams) -> None:
    streams.events.append(streams.events[0])


def change(streams: Streams) -> None:
    streams.events[0] = streams.events[0] | {"occurred_at": "2026-11-21T00:00:00Z"}


def charge_twice(streams: Streams) -> None:
    streams.entries.append(streams.entries[0] | {"entry_id": "another", "cost_usd": "0"})


def same_entry_twice(streams: Streams) -> None:
    streams.entries.append(streams.entries[0] | {"cost_usd": "0"})


def forget_charge(streams: Streams) -> None:
    free = next(e for e in streams.entries if Decimal(e["cost_usd"]) == 0 and "duplicate_of" not in e)
    streams.entries.remove(free)


def wrong_amount(streams: Streams) -> None:
    """By a billionth, and back by another entry: the sum does not show it."""
    for entry, by in zip(streams.entries, (Decimal("1e-9"), Decimal("-1e-9")), strict=False):
        entry["cost_usd"] = str(Decimal(entry["cost_usd"]) + by)


def wrong_sum(streams: Streams) -> None:
    streams.warehouse += Decimal("1e-9")


def correct_unasked(streams: Streams) -> None:
    streams.entries.append(streams.entries[0] | {"entry_id": "another", "kind": "reversal", "cost_usd": "0"})


def bury_good(streams: Streams) -> None:
    streams.letters.append(({"letter_id": "x", "reason": "contract_violation"}, orjson.dumps(streams.events[0])))


def lose_garbage(streams: Streams) -> None:
    streams.letters.pop()


def bury_twice(streams: Streams) -> None:
    letter, raw = copy.deepcopy(streams.letters[0])
    streams.letters.append((letter | {"letter_id": "another"}, raw))


def fail_audit(streams: Streams) -> None:
    streams.audit = (1, "a gap")


def never_settle(streams: Streams) -> None:
    streams.unsettled = "3 messages wait for validate"


@pytest.mark.parametrize(
    ("break_it", "what"),
    [
        (lose, {"acknowledged events lost"}),
        (double, {"events stored twice"}),
        (change, {"events stored otherwise than published"}),
        (charge_twice, {"charges for nothing, or for the second time"}),
        (same_entry_twice, {"ledger entries with an id that stands already"}),
        (forget_charge, {"model calls without a charge"}),
        (wrong_amount, {"charges with a wrong amount", "calls not charged once"}),
        (wrong_sum, {"warehouse sum"}),
        (correct_unasked, {"corrections nobody asked for"}),
        (bury_good, {"good events among the dead letters"}),
        (lose_garbage, {"acknowledged garbage that is nowhere"}),
        (bury_twice, {"garbage with more dead letters than times it was published"}),
        (fail_audit, {"the audit disagrees"}),
        (never_settle, {"did not settle"}),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_each_broken_promise_is_named(streams: Streams, break_it: Callable[[Streams], None], what: set[str]) -> None:
    break_it(streams)
    assert names(streams.violations()) == what
