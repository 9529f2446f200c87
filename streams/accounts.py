"""The sums of an audit: pure, fed in order of sequence, bounded in memory."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final, Literal

from schemas.coverage import Coverage
from streams import subjects

Severity = Literal["ok", "warning", "error"]

_DEAD: Final = subjects.beginning(subjects.ALL_DEAD)

MOST_ALIKE: Final = 20
"""Findings of one check that are told one by one; the rest are counted."""


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


@dataclass(frozen=True, slots=True)
class Applied:
    """One message as the warehouse has applied it, and the rows of it there are now."""

    sequence: int
    subject: str
    events: int
    lines: int
    unreadable: int
    rows: int


@dataclass(slots=True)
class CoverageBook:
    """Checks one processor's coverage records against each other and against the outputs stored before each of them."""

    processor: str
    outputs: str
    """First token of the subjects that carry what it made."""
    from_the_start: bool
    """Whether the stream still has its first message; otherwise the oldest records have aged out."""
    findings: Findings
    records: int = 0
    valid: int = 0
    dead: int = 0
    duplicates: int = 0
    received: int = 0
    missing: int = 0
    covered: int = 0
    _last: Coverage | None = None
    _made: int = 0
    _buried: int = 0

    def see(self, stored: Stored) -> None:
        """The next message of the output stream."""
        kind = subjects.beginning(stored.subject)
        if kind == self.outputs:
            self._made += stored.events
        elif kind == _DEAD:
            self._buried += stored.events
        elif stored.coverage is not None and stored.coverage.processor == self.processor:
            self._close(stored.sequence, stored.coverage)

    def _close(self, sequence: int, record: Coverage) -> None:
        check, where = f"{self.processor}.coverage", f"coverage record {sequence} of {self.processor}"
        if self._last is None:
            if self.from_the_start and record.first_sequence > 1:
                # A stream that was made anew may start anywhere, but says so by its first sequence.
                self.findings.add(
                    "warning", check, f"{where} is the first, and begins at input {record.first_sequence:,} instead of 1",
                    sequence=sequence,
                )  # fmt: skip
        elif record.first_sequence > self._last.last_sequence + 1:
            lost = record.first_sequence - self._last.last_sequence - 1
            self.findings.add(
                "error", check, f"gap: {lost:,} messages of {record.input_stream} before {where} are covered by no record",
                sequence=sequence, first=self._last.last_sequence + 1, last=record.first_sequence - 1,
            )  # fmt: skip
        elif record.first_sequence <= self._last.last_sequence:
            self.findings.add(
                "error", check, f"overlap: {where} begins at {record.first_sequence:,}, already covered up to {self._last.last_sequence:,}",
                sequence=sequence,
            )  # fmt: skip
        if record.received != record.valid + record.dead + record.duplicates:
            self.findings.add(
                "error", check,
                f"{where} does not add up: received {record.received:,}, valid {record.valid:,} + dead {record.dead:,} + duplicates {record.duplicates:,}",
                sequence=sequence,
            )  # fmt: skip
        whole = self._last is not None or self.from_the_start
        if whole and self._made != record.valid:
            self.findings.add(
                "error", f"{self.processor}.outputs",
                f"{where} tells of {record.valid:,} valid, the {self.outputs} messages before it carry {self._made:,}",
                sequence=sequence, told=record.valid, found=self._made,
            )  # fmt: skip
        if whole and self.outputs == subjects.beginning(subjects.ALL_EVENTS) and self._buried < record.dead:
            self.findings.add(
                "error", f"{self.processor}.outputs",
                f"{where} tells of {record.dead:,} dead, the dead letters before it stand for {self._buried:,}",
                sequence=sequence, told=record.dead, found=self._buried,
            )  # fmt: skip
        if record.missing:
            self.findings.add(
                "warning", f"{self.processor}.purged",
                f"{record.missing:,} messages of {record.input_stream} between {record.first_sequence:,} and {record.last_sequence:,} "
                "were gone before they were read: purged or deleted by hand",
                sequence=sequence, missing=record.missing,
            )  # fmt: skip
        self.records += 1
        self.valid += record.valid
        self.dead += record.dead
        self.duplicates += record.duplicates
        self.received += record.received
        self.missing += record.missing
        self.covered = record.last_sequence
        self._last = record
        self._made = self._buried = 0


def head_gone(stored_at: datetime, max_age: timedelta, now: datetime) -> Severity:
    """How a message that no longer stands at the head of its stream has gone: aged out (ok), or earlier, by hand (error)."""
    return "ok" if max_age and now - stored_at >= max_age - timedelta(minutes=2) else "error"


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
    if applied.unreadable:
        findings.add(
            "warning", f"{stream}.unreadable", f"{what} had {applied.unreadable:,} lines the warehouse could not read: dead letters",
            sequence=stored.sequence,
        )  # fmt: skip
