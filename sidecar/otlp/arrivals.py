"""When requests came that were not answered well: sent again they are read as of then, so that what they become is the same.

Matters only where a sender gives no moments of its own. Which request it is is known by its bytes; one that was answered is
forgotten, because the same again is another one. Fullness: at most ``MOST`` are remembered, the oldest forgotten first.
"""

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from sidecar.otlp.bodies import UnreadableError

MOST: Final = 1_000
_Key = tuple[str, str, int, int]


class Arrival:
    """One request's coming: at ``at``, in nanoseconds since 1970. ``answered``: its sender knows that it is kept, or never will be."""

    __slots__ = ("answered", "at")

    def __init__(self, at: int) -> None:
        self.at = at
        self.answered = False


class Arrivals:
    """The memory of one receiver."""

    def __init__(self, most: int = MOST) -> None:
        self._most = most
        self._unanswered: OrderedDict[_Key, int] = OrderedDict()

    @contextmanager
    def one(self, tenant: str, signal: str, body: bytes, now: int) -> Iterator[Arrival]:
        """The coming of ``body``: remembered at the end unless it was answered."""
        # As long as nothing is remembered, which is nearly always, nobody has to look through the body.
        came = self._unanswered.pop(_key(tenant, signal, body), None) if self._unanswered else None
        arrival = Arrival(now if came is None else came)
        try:
            yield arrival
        except UnreadableError:
            arrival.answered = True
            raise
        finally:
            if not arrival.answered:
                self._unanswered[_key(tenant, signal, body)] = arrival.at
                if len(self._unanswered) > self._most:
                    self._unanswered.popitem(last=False)


def _key(tenant: str, signal: str, body: bytes) -> _Key:
    return tenant, signal, len(body), hash(body)
