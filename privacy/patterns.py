"""A tenant's own patterns, in RE2's language: its matching is linear, whatever the pattern and the text."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

import re2

from privacy.linear import compiled
from schemas.content import FINDING_KINDS, OwnPattern

_MEMORY_BYTES: Final = 2 * 1024 * 1024
"""Of one compiled pattern: one that needs more is refused when it is set."""


class UnusablePatternError(ValueError):
    """A pattern cannot be used. Trying again unchanged does not help; the message says why."""


@dataclass(frozen=True, slots=True)
class Own:
    """A pattern made ready."""

    name: str
    made: Any

    def find(self, text: str) -> Iterator[tuple[int, int]]:
        """Where it matches; nothing where it matches nothing."""
        for match in self.made.finditer(text):
            begin, end = match.span()
            if end > begin:
                yield begin, end


@lru_cache(maxsize=256)
def _made(name: str, pattern: str) -> Own:
    if name in FINDING_KINDS:
        raise UnusablePatternError(f"the name {name} is taken: choose another")
    try:
        made = compiled(pattern, _MEMORY_BYTES)
    except re2.error as error:
        reason = error.args[0] if error.args else "not a pattern"
        said = reason.decode("utf-8", "replace") if isinstance(reason, bytes) else str(reason)
        raise UnusablePatternError(f"pattern {name}: {said} (RE2: no look-around, no back references)") from error
    if made.search("") is not None:
        raise UnusablePatternError(f"pattern {name}: it matches an empty text, so it would match everywhere")
    return Own(name, made)


def made(patterns: Iterable[OwnPattern]) -> tuple[Own, ...]:
    """The patterns made ready; raises UnusablePatternError."""
    found = tuple(_made(each.name, each.pattern) for each in patterns)
    names = [each.name for each in found]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise UnusablePatternError(f"two patterns are called {twice}")
    return found
