"""What waits for one exporter.

Fullness: at most ``capacity`` items. One more drops the oldest step or tool call; where only model calls and ends of runs wait,
the oldest of those. Every drop is counted, and those of model calls apart: they are money.
"""

from collections import deque
from typing import Final

from sidecar.tracing.events import Item
from sidecar.tracing.spans import Span

CAPACITY: Final = 10_000


class Outbox:
    """Filled by any thread without a lock, emptied by one. Threads that fill it at once may exceed the bound by their number."""

    __slots__ = ("_minor", "_vital", "capacity", "dropped", "dropped_billable")

    def __init__(self, capacity: int = CAPACITY) -> None:
        self.capacity = max(1, capacity)
        self._minor: deque[Item] = deque()
        self._vital: deque[Item] = deque()
        self.dropped = 0
        """Items lost because there was no room."""
        self.dropped_billable = 0
        """Of those, model calls."""

    def __len__(self) -> int:
        return len(self._minor) + len(self._vital)

    def put(self, item: Item) -> int:
        """Takes ``item`` and returns how many wait."""
        (self._vital if not isinstance(item, Span) or item.vital else self._minor).append(item)
        waiting = len(self._minor) + len(self._vital)
        if waiting > self.capacity:
            self._drop()
        return waiting

    def _drop(self) -> None:
        try:
            lost = self._minor.popleft() if self._minor else self._vital.popleft()
        except IndexError:
            # Emptied in between.
            return
        self.dropped += 1
        self.dropped_billable += lost.billable

    def take(self, most: int) -> list[Item]:
        """At most so many, in the order of their ends as far as they wait together."""
        minor, vital = self._minor, self._vital
        found: list[Item] = []
        while len(found) < most and (minor or vital):
            try:
                if not vital or (minor and minor[0].at_ns < vital[0].at_ns):
                    found.append(minor.popleft())
                else:
                    found.append(vital.popleft())
            except IndexError:
                # A full outbox dropped it from another thread.
                continue
        return found

    def forget_waiting(self) -> None:
        """Nothing waits any more; whoever says so counts it."""
        self._minor.clear()
        self._vital.clear()

    def forget(self) -> None:
        """Nothing waits, and nothing was lost: in a forked child it is the parent's to tell."""
        self.forget_waiting()
        self.dropped = self.dropped_billable = 0
