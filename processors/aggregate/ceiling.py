"""How many dead letters are still accidents, and from when on they mean that something is badly wrong."""

from collections import deque
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Within:
    """Go on."""

    in_window: int


@dataclass(frozen=True, slots=True)
class Exceeded:
    """Stop: a person must look."""

    reason: str


@dataclass(slots=True)
class Ceiling:
    """At most ``most`` dead letters in any ``window_s`` seconds."""

    most: int
    window_s: float
    _seen: deque[tuple[float, int]] = field(default_factory=deque)

    def count(self, letters: int, now_s: float) -> Within | Exceeded:
        """Counts ``letters`` more at ``now_s`` (any clock that only goes forward)."""
        while self._seen and self._seen[0][0] <= now_s - self.window_s:
            self._seen.popleft()
        if letters:
            self._seen.append((now_s, letters))
        total = sum(number for _, number in self._seen)
        if total > self.most:
            return Exceeded(f"{total:,} lines could not be read within {self.window_s:g} s, at most {self.most:,} are accidents")
        return Within(total)
