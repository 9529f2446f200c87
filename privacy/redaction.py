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


def _windows(text: str) -> list[tuple[int, int]]:
    """The parts of ``text`` in which something might stand, with what is said before it; apart from each other, cut between words."""
    parts: list[tuple[int, int]] = []
    for match in _POSSIBLE.finditer(text):
        begin, end = match.span()
        if parts and end <= parts[-1][1] - _AFTER:
            continue
        begin = max(0, begin - _BEFORE)
        begin = max(0, text.rfind(" ", max(0, begin - _WORD), begin + 1))
        blank = text.find(" ", end + _AFTER)
        end = len(text) if blank < 0 else blank
        if parts and begin <= parts[-1][1]:
            parts[-1] = (parts[-1][0], max(end, parts[-1][1]))
        else:
            parts.append((begin, end))
    return parts


def _spans(text: str, rules: Rules) -> Iterator[tuple[int, int, int, str]]:
    """Begin, end, rank and name of what is found in ``text`` read as it stands."""
    for start, stop in _windows(text):
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
    spans = list(_spans(text, rules))
    if (plain := folded(text)) is not None:
        spans += [(*plain.span(begin, end), rank, name) for begin, end, rank, name in _spans(plain.text, rules)]
    if not spans:
        return []
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
    return [(begin, end, name) for begin, end, _, name in merged]


def _once(text: str, rules: Rules, tally: Tally) -> str:
    """``text`` with what one look finds replaced; what was replaced before is not looked at."""
    parts: list[str] = []
    at = 0
    known = {*FINDING_KINDS, *(own.name for own in rules.own)}
    for mark in (*(m for m in _PLACEHOLDER.finditer(text) if m[0][1:-1] in known), None):
        piece = text[at : len(text) if mark is None else mark.start()]
        done = 0
        for begin, end, name in findings(piece, rules) if piece else ():
            tally.add(name)
            parts += (piece[done:begin], f"[{name}]")
            done = end
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
    for _ in range(_ROUNDS):
        after = _once(text, rules, tally)
        if after == text:
            return text
        text = after
    return text


def _plain(text: str) -> bool:
    """Whether nothing in ``text`` might hide a letter."""
    return text.isascii() and "%" not in text and "\\" not in text and "&" not in text
