"""How many of an agent's lines become events. Pure: time is an argument."""

from collections import Counter
from typing import Final

from sidecar.log_lines import Level

_RESERVED: Final = 0.5
"""Of the burst, for warnings and worse: an agent that chatters does not hide what goes wrong."""


class Bucket:
    """Lets ``per_s`` entries a second through, ``burst`` at once; counts the others by level."""

    def __init__(self, per_s: float, burst: int, now: float) -> None:
        self._per_s = per_s
        self._burst = float(burst)
        self._left = float(burst)
        self._at = now
        self.suppressed: Counter[str] = Counter()

    def lets(self, level: Level, now: float) -> bool:
        """Whether one more may pass."""
        self._left = min(self._burst, self._left + max(0.0, now - self._at) * self._per_s)
        self._at = now
        least = 1.0 if level in {"warning", "error", "critical"} else 1.0 + self._burst * _RESERVED
        if self._left < min(least, self._burst):
            self.suppressed[level] += 1
            return False
        self._left -= 1.0
        return True

    def take(self) -> dict[str, int]:
        """How many were suppressed since it was last asked, by level."""
        found, self.suppressed = dict(self.suppressed), Counter()
        return found
