"""How many dead letters a processor behind validate may write before it must stop."""

from collections import deque


class Ceiling:
    """At most ``limit`` in any ``window_s``: there, more mean a bad deploy, not bad input."""

    def __init__(self, limit: int, window_s: float) -> None:
        self.limit = limit
        self.window_s = window_s
        self._at: deque[float] = deque(maxlen=limit + 1)

    def add(self, now_s: float) -> bool:
        """Counts one at ``now_s`` (any clock that does not go back); True when that is one too many."""
        self._at.append(now_s)
        while self._at and now_s - self._at[0] > self.window_s:
            self._at.popleft()
        return len(self._at) > self.limit
