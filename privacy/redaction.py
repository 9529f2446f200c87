"""From a text to the same text with ``[KIND]`` in place of what was found."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from privacy.detectors import FINDERS, PREFILTER
from privacy.folding import folded
from privacy.linear import compiled
from privacy.rules import Rules
from privacy.secrets import private_keys
from schemas.content import FINDING_KINDS

_PLACEHOLDER: Final = re.compile(r"\[[A-Z][A-Z0-9_]{0,31}\]")
_ROUNDS: Final = 8
"""What was found changes what stands beside it; more rounds than these no text has needed."""


@dataclass(slots=True)
class Tally:
    """What was found, by kind."""

    found: dict[str, int] = field(default_factory=dict)
    looked_at: int = 0
    """Characters that might have been something."""
    withheld: int = 0
    """Texts of which the end was cut off, because too much had been looked at."""

    def add(self, kind: str, count: int = 1) -> None:
        self.found[kind] = self.found.get(kind, 0) + count

    @property
    def total(self) -> int:
        """Findings of every kind."""
        return sum(self.found.values())


_POSSIBLE: Final = compiled(PREFILTER)
_BEFORE: Final = 96
"""Characters before a place that might be something: what announces it stands there."""
_AFTER: Final = 64
_WORD: Final = 400
"""A word longer than this is cut."""
_BETWEEN_WORDS: Final = re.compile("[\\s\u3000-\u30ff\u3400-\u9fff\uac00-\ud7af]")
"""Blanks, and the letters of languages that put none between their words."""
_LONGEST_POSSIBLE: Final = 48
"""Characters of what ``PREFILTER`` matches, at most."""
MOST_LOOKED_AT: Final = 131_072
"""Characters of one event that are looked at closely; a text is cut where it would take more. Every one takes microseconds, several times:
a megabyte that is full of what might be something would hold up everybody else's events for many seconds."""


def _windows(text: str, most: int | None = None) -> list[tuple[int, int]]:
    """The parts of ``text`` in which something might stand, with what is said before it; apart from each other, cut between words.

    Where they have more than ``most`` characters together the rest is not looked for.
    """
    size = 0
    parts: list[tuple[int, int]] = []
    # One byte a character, so that places are the same; what is looked for is ASCII.
    data = text.encode("ascii", "replace")
    at = 0
    while (match := _POSSIBLE.search(data, at)) is not None:
        begin, end = match.span()
        at = end
        if parts and end <= parts[-1][1] - _AFTER:
            continue
        begin = max(0, begin - _BEFORE)
        before = text.rfind(" ", max(0, begin - _WORD), begin + 1)
        begin = max(0, begin - _WORD) if before < 0 else before
        blank = _BETWEEN_WORDS.search(text, end + _AFTER)
        end = len(text) if blank is None else blank.start()
        if parts and begin <= parts[-1][1]:
            size += max(0, end - parts[-1][1])
            parts[-1] = (parts[-1][0], max(end, parts[-1][1]))
        else:
            size += end - begin
            parts.append((begin, end))
        if most is not None and size > most:
            break
        # What lies well within the window needs no looking for: of a text full of places that would be most of the time.
        at = max(at, parts[-1][1] - _AFTER - _LONGEST_POSSIBLE)
    return parts


def _afford(parts: list[tuple[int, int]], tally: "Tally") -> tuple[list[tuple[int, int]], int | None]:
    """Those of ``parts`` that may still be looked at, and where the first begins that may not; they are counted."""
    for number, (begin, end) in enumerate(parts):
        room = MOST_LOOKED_AT - tally.looked_at
        if end - begin > room:
            # One that is too large by itself is looked at as far as there is room, less what might announce what follows.
            some = begin + room - _WORD
            tally.looked_at = MOST_LOOKED_AT
            return ([*parts[:number], (begin, begin + room)], some) if room > 2 * _WORD else (parts[:number], begin)
        tally.looked_at += end - begin
    return parts, None


def _spans(text: str, parts: list[tuple[int, int]], rules: Rules) -> Iterator[tuple[int, int, int, str]]:
    """Begin, end, rank and name of what is found in ``parts`` of ``text`` read as it stands."""
    for start, stop in parts:
        part = text[start:stop]
        for rank, kind in enumerate(FINDERS):
            if kind in rules.kinds:
                for begin, end in FINDERS[kind](part):
                    yield start + begin, start + end, rank, kind
    if "KEY" in rules.kinds and "-----BEGIN" in text:
        for begin, end in private_keys(text):
            yield begin, end, 0, "KEY"
    for rank, own in enumerate(rules.own, len(FINDERS)):
        for begin, end in own.find(text):
            yield begin, end, rank, own.name


def findings(text: str, rules: Rules) -> list[tuple[int, int, str]]:
    """What is found in ``text``: places and names, in order, apart from each other: what overlaps is one place."""
    return _found(text, rules, None)[0]


def _found(text: str, rules: Rules, tally: "Tally | None") -> tuple[list[tuple[int, int, str]], int | None]:
    """The findings, and from where on ``text`` was not looked at, because that would have been too much for ``tally``."""
    most = None if tally is None else MOST_LOOKED_AT - tally.looked_at
    parts, stop = _windows(text, most), None
    if tally is not None:
        parts, stop = _afford(parts, tally)
    spans = list(_spans(text, parts, rules))
    if (plain := folded(text)) is not None:
        parts = _windows(plain.text, most)
        if tally is not None:
            parts, folded_stop = _afford(parts, tally)
            if folded_stop is not None:
                stop = min(plain.begins[folded_stop], len(text) if stop is None else stop)
        spans += [(*plain.span(begin, end), rank, name) for begin, end, rank, name in _spans(plain.text, parts, rules)]
    spans.sort()
    merged: list[tuple[int, int, int, str]] = []
    for begin, end, rank, name in spans:
        if merged and begin < merged[-1][1]:
            first, last, best, called = merged[-1]
            if rank < best:
                best, called = rank, name
            merged[-1] = (first, max(last, end), best, called)
        else:
            merged.append((begin, end, rank, name))
    return [(begin, end, name) for begin, end, _, name in merged], stop


def _once(text: str, rules: Rules, tally: Tally, *, counts: bool = False) -> str:
    """``text`` with what one look finds replaced; what was replaced before is not looked at. ``counts``: what is looked at."""
    parts: list[str] = []
    at = 0
    known = {*FINDING_KINDS, *(own.name for own in rules.own)}
    for mark in (*(m for m in _PLACEHOLDER.finditer(text) if m[0][1:-1] in known), None):
        piece = text[at : len(text) if mark is None else mark.start()]
        found, stop = _found(piece, rules, tally if counts else None) if piece else ([], None)
        done = 0
        for begin, end, name in found:
            if stop is not None and begin >= stop:
                break
            tally.add(name)
            parts += (piece[done:begin], f"[{name}]")
            done = end
        if stop is not None:
            tally.withheld += 1
            parts += (piece[done : max(done, stop)], f"… [TRUNCATED {len(text):,} characters]")
            break
        parts.append(piece[done:])
        if mark is not None:
            parts.append(mark[0])
            at = mark.end()
    return "".join(parts)


def redact(text: str, rules: Rules, tally: Tally) -> str:
    """``text`` without anything ``rules`` look for; ``tally`` counts what was replaced. Done again it changes nothing."""
    if not text:
        return text
    if not rules.own and _plain(text) and _POSSIBLE.search(text) is None:
        return text
    for number in range(_ROUNDS):
        after = _once(text, rules, tally, counts=number == 0)
        if after == text:
            return text
        text = after
    return text


def _plain(text: str) -> bool:
    """Whether nothing in ``text`` might hide a letter."""
    return text.isascii() and "%" not in text and "\\" not in text and "&" not in text
