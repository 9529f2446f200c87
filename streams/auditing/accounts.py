"""The sums of an audit: pure, fed in order of sequence, bounded in memory."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final, Literal

from schemas.coverage import CORRECTIONS, Coverage
from streams import subjects

Severity = Literal["ok", "warning", "error"]

_DEAD: Final = subjects.beginning(subjects.ALL_DEAD)

MOST_ALIKE: Final = 20
"""Findings of one check that are told one by one; the rest are counted."""


def messages(number: int) -> str:
    """``1 message``, ``2 messages``."""
    return f"{number:,} message{'' if number == 1 else 's'}"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing an audit has found out, good or bad."""

    severity: Severity
    check: str
    """A stable word."""
    message: str
    details: Mapping[str, Any] = field(default_factory=dict)


@dataclass(slots=True)
class Findings:
    """Findings as they come, the many alike cut short."""

    _told: list[Finding] = field(default_factory=list)
    _alike: Counter[tuple[Severity, str]] = field(default_factory=Counter)

    def add(self, severity: Severity, check: str, message: str, **details: Any) -> None:
        """One more."""
        self._alike[severity, check] += 1
        if self._alike[severity, check] <= MOST_ALIKE:
            self._told.append(Finding(severity, check, message, details))

    def take(self, finding: Finding) -> None:
        """One that is made already."""
        self.add(finding.severity, finding.check, finding.message, **finding.details)

    def bad(self, check: str) -> int:
        """How many warnings and errors ``check`` has."""
        return self._alike["error", check] + self._alike["warning", check]

    def all(self) -> tuple[Finding, ...]:
        """All told, and how many more there were."""
        more = [
            Finding(severity, check, f"… and {number - MOST_ALIKE:,} more", {"more": number - MOST_ALIKE})
            for (severity, check), number in self._alike.items()
            if number > MOST_ALIKE
        ]
        return (*self._told, *more)


@dataclass(frozen=True, slots=True)
class Stored:
    """One message of a stream, as far as counting needs it."""

    sequence: int
    subject: str
    events: int
    """What its header promises; 1 without one."""
    coverage: Coverage | None = None
    cost_usd: Decimal | None = None
    """What its entries come to, where it was read whole and holds some."""


@dataclass(frozen=True, slots=True)
class Applied:
    """One message as the warehouse has applied it, and the rows of it there are now."""

    sequence: int
    subject: str
    events: int
    lines: int
    unreadable: int
    rows: int
    cost_usd: Decimal | None = None
    """What its rows come to, where they are entries of the ledger."""


@dataclass(slots=True)
class Mismatch:
    """A coverage record that tells of other outputs than stand between the record before it and itself."""

    sequence: int
    told: int
    found: int
    dead: bool = False
    """Whether it is about dead letters, of which there may be more than it tells: a kill writes some again."""

    @property
    def wrong(self) -> bool:
        """Whether that is still so."""
        return self.found < self.told if self.dead else self.found != self.told


@dataclass(frozen=True, slots=True)
class Completed:
    """A message that was left behind by a torn batch, and the record that accounts for it, with another record between."""

    sequence: int
    events: int
    dead: bool
    record: int


def settle(off: Sequence[Mismatch], completed: Sequence[Completed]) -> list[Mismatch]:
    """What is still wrong with ``off`` (in order of sequence), after what was left behind counts for the record that accounts for it.

    Between a torn part and its record another partition may have stored a batch: its record has too much before it, the other too little.
    """
    for dead in (False, True) if completed else ():
        kind = [one for one in off if one.dead is dead]
        by_record = {one.sequence: one for one in kind}
        order = [one.sequence for one in kind]
        for part in completed:
            if part.dead is not dead or part.record not in by_record:
                continue
            by_record[part.record].found += part.events
            place = bisect_left(order, part.sequence)
            if order[place] < part.record:
                kind[place].found -= part.events
    return [one for one in off if one.wrong]


@dataclass(slots=True)
class CoverageBook:
    """Checks one processor's coverage records against each other, and against the outputs stored before each of them where it sees those.

    Each partition's records follow one another; what stands before a record in the stream is of the batch it closes, whichever partition's.
    """

    processor: str
    outputs: str
    """First token of the subjects that carry what it made."""
    from_the_start: bool
    """Whether all there ever was is seen; otherwise the first record of each partition follows one that is not."""
    findings: Findings
    counting: bool = True
    """Whether outputs are seen too, not records alone."""
    covered_before: Mapping[int, int] = field(default_factory=dict)
    """Input covered by records before the range, by partition, as far as the warehouse knows them."""
    records: int = 0
    valid: int = 0
    dead: int = 0
    duplicates: int = 0
    received: int = 0
    missing: int = 0
    until: dict[int, int] = field(default_factory=dict)
    """Last input sequence covered, by partition."""
    completed: list[Completed] = field(default_factory=list)
    """What torn batches had left behind and another partition's record closed, until its own accounted for it."""
    _newest: int = 0
    """Where the record before stands, whichever partition's."""
    _off: list[Mismatch] = field(default_factory=list)
    _made: int = 0
    _buried: int = 0
    _closed: bool = False

    def see(self, stored: Stored) -> None:
        """The next message of the output stream."""
        if stored.coverage is not None:
            if stored.coverage.processor == self.processor:
                self._close(stored.sequence, stored.coverage)
        elif subjects.beginning(stored.subject) == _DEAD:
            self._buried += stored.events
        elif subjects.beginning(stored.subject) == self.outputs:
            self._made += stored.events

    def _close(self, sequence: int, record: Coverage) -> None:
        told = {0: "", CORRECTIONS: " for corrections"}.get(record.partition, f" of partition {record.partition}")
        where = f"coverage record {sequence} of {self.processor}{told}"
        self.completed += [
            Completed(part.sequence, part.events, part.dead, sequence)
            for part in record.torn or ()
            if part.sequence < self._newest
        ]
        self._newest = sequence
        self._follow(sequence, record, where)
        self._add_up(sequence, record, where)
        self.records += 1
        self.valid += record.valid
        self.dead += record.dead
        self.duplicates += record.duplicates
        self.received += record.received
        self.until[record.partition] = record.last_sequence
        self._made = self._buried = 0
        self._closed = True

    def _follow(self, sequence: int, record: Coverage, where: str) -> None:
        """Whether the record begins where its predecessor ended, and whether its input was all there."""
        check, missing = f"{self.processor}.coverage", record.missing
        seen = self.until.get(record.partition)
        before = seen if seen is not None else self.covered_before.get(record.partition)
        if before is None:
            if self.from_the_start and record.first_sequence > 1 and record.partition in {0, CORRECTIONS}:
                # A stream that was made anew may start anywhere, but says so by its first sequence.
                self.findings.add(
                    "warning", check, f"{where} is the first, and begins at input {record.first_sequence:,} instead of 1",
                    sequence=sequence,
                )  # fmt: skip
        elif record.first_sequence > before + 1:
            self.findings.add(
                "error", check,
                f"gap: {messages(record.first_sequence - before - 1)} of {record.input_stream} before {where} not covered by any record",
                sequence=sequence, first=before + 1, last=record.first_sequence - 1,
            )  # fmt: skip
        elif record.first_sequence <= before and seen is None and record.first_sequence == 1:
            # Its last record had aged out of the stream, so it began again; what it found missing had been covered before.
            missing = max(0, missing - before)
            self.findings.add(
                "ok", check, f"{where} begins again at 1: the record before it had aged out, input up to {before:,} was covered then",
                sequence=sequence,
            )  # fmt: skip
        elif record.first_sequence <= before:
            self.findings.add(
                "error", check, f"overlap: {where} begins at {record.first_sequence:,}, already covered up to {before:,}",
                sequence=sequence,
            )  # fmt: skip
        self.missing += missing
        if missing:
            self.findings.add(
                "error", f"{self.processor}.purged",
                f"{messages(missing)} of {record.input_stream} between {record.first_sequence:,} and {record.last_sequence:,} "
                "gone before being read: purged or deleted by hand",
                sequence=sequence, missing=missing,
            )  # fmt: skip

    def _add_up(self, sequence: int, record: Coverage, where: str) -> None:
        """Whether its sums are right, and the outputs before it as many as it says."""
        if record.received != record.valid + record.dead + record.duplicates:
            self.findings.add(
                "error", f"{self.processor}.coverage",
                f"{where} does not add up: received {record.received:,}, valid {record.valid:,} + dead {record.dead:,} + duplicates {record.duplicates:,}",
                sequence=sequence,
            )  # fmt: skip
        if not self.counting or not (self._closed or self.from_the_start):
            return
        if self._made != record.valid:
            self._off.append(Mismatch(sequence, record.valid, self._made))
        if self.outputs == subjects.beginning(subjects.ALL_EVENTS) and self._buried < record.dead:
            self._off.append(Mismatch(sequence, record.dead, self._buried, dead=True))

    def finish(self) -> None:
        """All has been seen: tells of records whose outputs are others than they say."""
        self.tell(self._off)

    def tell(self, off: Sequence[Mismatch]) -> None:
        """Tells of those of ``off`` that no torn batch explains."""
        for one in settle(off, self.completed):
            kind, carry = (
                ("dead", "dead letters before it stand for")
                if one.dead
                else ("valid", f"{self.outputs} messages before it carry")
            )
            self.findings.add(
                "error", f"{self.processor}.outputs",
                f"coverage record {one.sequence} of {self.processor} tells of {one.told:,} {kind}, the {carry} {one.found:,}",
                sequence=one.sequence, told=one.told, found=one.found,
            )  # fmt: skip


def compare(stream: str, stored: Stored | None, applied: Applied | None, findings: Findings) -> None:
    """One sequence of ``stream`` as it stands there and as the warehouse has it."""
    if stored is None:
        assert applied is not None
        findings.add(
            "error", f"{stream}.purged",
            f"message {applied.sequence:,} ({applied.subject}, {applied.events:,} events) was applied to the warehouse but is gone "
            f"from {stream}: purged or deleted by hand",
            sequence=applied.sequence,
        )  # fmt: skip
        return
    what = f"message {stored.sequence:,} of {stream} ({stored.subject})"
    if applied is None:
        findings.add(
            "error", f"{stream}.applied", f"{what} is missing in the warehouse", sequence=stored.sequence, events=stored.events
        )
        return
    if stored.subject != applied.subject:
        findings.add("error", f"{stream}.applied", f"{what} is {applied.subject} in the warehouse", sequence=stored.sequence)
        return
    letter = subjects.beginning(stored.subject) == _DEAD
    if stored.events != applied.events or (applied.lines != stored.events and not letter):
        findings.add(
            "error", f"{stream}.counts",
            f"{what} promises {stored.events:,} events, the warehouse found {applied.lines:,}",
            sequence=stored.sequence, promised=stored.events, found=applied.lines,
        )  # fmt: skip
    if applied.rows != applied.lines - applied.unreadable:
        findings.add(
            "error", f"{stream}.rows",
            f"{what} has {applied.rows:,} rows in the warehouse, there were {applied.lines - applied.unreadable:,}",
            sequence=stored.sequence, expected=applied.lines - applied.unreadable, found=applied.rows,
        )  # fmt: skip
    elif stored.cost_usd is not None and not applied.unreadable and stored.cost_usd != (applied.cost_usd or 0):
        findings.add(
            "error", f"{stream}.money",
            f"{what} comes to ${stored.cost_usd:f}, its rows in the warehouse to ${applied.cost_usd or 0:f}",
            sequence=stored.sequence, expected=format(stored.cost_usd, "f"), found=format(applied.cost_usd or 0, "f"),
        )  # fmt: skip
    if applied.unreadable:
        findings.add(
            "warning", f"{stream}.unreadable", f"{what} had {applied.unreadable:,} lines the warehouse could not read: dead letters",
            sequence=stored.sequence,
        )  # fmt: skip
