"""Which of several spans of one call is billed: the innermost that counts tokens, whatever order they arrive in.

Frameworks put a span of their own around a call that the provider's instrumentation has a span for, too: both count the
same tokens. Of a request all spans are looked at together; between requests what was billed is remembered.

Fullness: at most ``most_spans`` ids of spans are remembered, of the traces seen last. Of a trace that was forgotten a wrapper
that comes after all its calls have come and gone is taken for a call; forgetting is counted.
"""

from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

MOST_SPANS: Final = 50_000
_HIGHEST: Final = 64
"""Ancestors that are looked at; a circle of parents ends here."""


_ALONE: Final = 4
"""A trace of which nothing is remembered takes as much room as so many ids."""


@dataclass(slots=True)
class _Trace:
    teller: str
    """The span that told that the run is under way: sent again it tells again."""
    billed: set[str] = field(default_factory=set)
    inside: set[str] = field(default_factory=set)
    """Spans inside a billed call, as far as they came after it."""
    around: set[str] = field(default_factory=set)
    """Spans around a billed call that had not arrived when it did."""

    @property
    def size(self) -> int:
        return _ALONE + len(self.billed) + len(self.inside) + len(self.around)


@dataclass(frozen=True, slots=True)
class Verdicts:
    """What of one trace's spans in one request is billed, and which is the first ever seen of the trace."""

    teller: str
    inner: frozenset[str]
    """Inside a call that was billed before they came."""
    wrappers: frozenset[str]
    """Around calls that are billed."""


class Traces:
    """What is known of the traces of one tenant."""

    def __init__(self, most_spans: int = MOST_SPANS) -> None:
        self._most = most_spans
        self._traces: OrderedDict[str, _Trace] = OrderedDict()
        self._held = 0
        self.forgotten = 0

    @property
    def held(self) -> int:
        """How much is remembered."""
        return self._held

    def counted(self) -> int:
        """The same, counted anew."""
        return sum(trace.size for trace in self._traces.values())

    def judge(self, trace_id: str, parents: Mapping[str, str], calls: Iterable[str], first: str) -> Verdicts:
        """Decides about the spans of one request: ``parents`` of all, ``calls`` that count tokens, ``first`` of them all."""
        known = self._traces.get(trace_id)
        if known is None:
            known = self._traces[trace_id] = _Trace(first)
            self._held += _ALONE
        else:
            self._traces.move_to_end(trace_id)
        before = known.size
        calling = set(calls)
        inner: set[str] = set()
        wrappers = {span for span in parents if span in known.around}
        if known.billed:
            # Parents end after their children, so they come after them.
            known.inside.update(
                span
                for span, parent in reversed(list(parents.items()))
                if (parent in known.billed or parent in known.inside) and span not in calling
            )
        if calling or wrappers:
            self._look(known, parents, calling, inner, wrappers)
        self._held += known.size - before
        if self._held > self._most:
            self._forget(trace_id)
        return Verdicts(known.teller, frozenset(inner), frozenset(wrappers & calling))

    @staticmethod
    def _look(known: _Trace, parents: Mapping[str, str], calling: set[str], inner: set[str], wrappers: set[str]) -> None:
        for span in [*calling, *wrappers]:
            again = span in known.billed
            above = parents[span]
            for _ in range(_HIGHEST):
                if not above:
                    break
                if not again and (above in known.billed or above in known.inside):
                    inner.add(span)
                    break
                if above not in parents:
                    known.around.add(above)
                    break
                if above in calling:
                    wrappers.add(above)
                above = parents[above]
        known.inside |= inner
        known.billed |= calling - wrappers - inner

    def _forget(self, but: str) -> None:
        while self._held > self._most and len(self._traces) > 1:
            oldest, trace = next(iter(self._traces.items()))
            if oldest == but:
                self._traces.move_to_end(oldest)
                continue
            del self._traces[oldest]
            self._held -= trace.size
            self.forgotten += 1
        if self._held > self._most:
            # One trace alone is larger than all that may be remembered.
            trace = self._traces[but]
            self._held -= trace.size - _ALONE
            trace.billed.clear()
            trace.inside.clear()
            trace.around.clear()
            self.forgotten += 1
