"""Which steps and tool calls are told of. Pure.

Model calls and the beginnings and ends of runs are always told of: the first are the ledger, and a bill with holes is no
bill; of the second there are few, and an end that nobody hears of is a run that hangs. So a sampled agent is thinner to look
at and exactly as dear.
"""

from typing import Final

MOST_HELD: Final = 2_000
"""Of one trace; where it has more, those go on as they come."""
_RANGE: Final = 1 << 56


class Sampling:
    """The shares of traces whose successful steps and tool calls are told of; 1.0 is all.

    ``head`` is decided when a trace begins, by its id, so that every service of one trace decides alike; what is left out
    costs nothing. ``tail`` is decided when it ends: one in which anything failed, or that took ``slow_ms``, is kept whole.
    Failed steps and calls are always told of.
    """

    __slots__ = ("head", "slow_ms", "tail")

    def __init__(self, head: float = 1.0, tail: float = 1.0, slow_ms: float | None = None) -> None:
        for field, value in (("head", head), ("tail", tail)):
            if not isinstance(value, int | float) or not 0 <= value <= 1:
                raise ValueError(f"{field} must be a share from 0 to 1, not {value!r}")
        if slow_ms is not None and slow_ms < 0:
            raise ValueError(f"slow_ms must be 0 or more, not {slow_ms!r}")
        self.head = head
        self.tail = tail
        self.slow_ms = slow_ms

    @property
    def everything(self) -> bool:
        """Whether nothing is left out."""
        return self.head >= 1 and self.tail >= 1

    def at_head(self, trace_id: str, caller: bool | None = None) -> bool:
        """Whether a trace that begins is recorded; as ``caller`` decided, where there is one."""
        if self.head >= 1:
            return True
        return _share(trace_id[-14:]) < self.head if caller is None else caller

    def at_tail(self, trace_id: str, latency_ms: float, *, trouble: bool) -> bool:
        """Whether a trace that ended is told of in full."""
        slow = self.slow_ms is not None and latency_ms >= self.slow_ms
        return trouble or slow or self.tail >= 1 or _share(trace_id[:14]) < self.tail


def _share(digits: str) -> float:
    """Where 56 random bits lie between 0 and 1."""
    return int(digits, 16) / _RANGE
