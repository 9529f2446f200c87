"""From a request's spans to the events they become."""

from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from typing import Final, NamedTuple

from sidecar.otlp.calls import Teller
from sidecar.otlp.exports import Export, Group
from sidecar.otlp.mapping import EMITTERS, Emitter
from sidecar.otlp.reading import CONSUMER, SERVER, Span
from sidecar.otlp.sources import Source, whose
from sidecar.otlp.spans import Judged, Sorted, judge, sort
from sidecar.otlp.usage import counted
from sidecar.otlp.wrapping import Traces, Verdicts

_TRACE_ID: Final = 32
_SPAN_ID: Final = 16
_NO_TRACE: Final = "0" * _TRACE_ID
_NO_SPAN: Final = "0" * _SPAN_ID
_REMOTE_PARENT: Final = 0x300
"""W3C flags of a span: it is known whether its parent is remote, and it is."""
_SCOPE: Final = 256
"""Characters of a scope's name that tell whose it is."""
_PENDING: Final = "pending_span"


@lru_cache(maxsize=1024)
def emitter(scope: str) -> Emitter:
    """Whose spans those of ``scope`` are."""

    def fits(beginning: str) -> bool:
        rest = scope[len(beginning) :]
        return scope.startswith(beginning) and (not beginning[-1:].isalnum() or not rest[:1].isalnum())

    return next(one for one in EMITTERS if not one.scope or fits(one.scope))


class _Told(NamedTuple):
    span: Span
    told: Sorted
    judged: Judged
    teller: Teller


def _flaw(span: Span) -> tuple[str, str, str] | None:
    """Why the span cannot be told from others: which field, what is wrong, and its value."""
    if len(span.trace_id) != _TRACE_ID or span.trace_id == _NO_TRACE:
        return "trace_id", "must be 16 bytes, not all of them zero", span.trace_id[:40]
    if len(span.span_id) != _SPAN_ID or span.span_id == _NO_SPAN:
        return "span_id", "must be 8 bytes, not all of them zero", span.span_id[:40]
    if span.parent_span_id and len(span.parent_span_id) != _SPAN_ID:
        return "parent_span_id", "must be 8 bytes, or none", span.parent_span_id[:40]
    return None


class Reader:
    """Reads the requests of one source. ``steps`` lets a long one be read a piece at a time."""

    def __init__(self, source: Source, traces: Traces, now: Callable[[], int]) -> None:
        self._source = source
        self._traces = traces
        self._now = now

    def read(self, groups: Iterable[Group[Span]]) -> Export:
        """All of a request at once."""
        export = Export()
        for _ in self.steps(groups, export):
            pass
        return export

    def steps(self, groups: Iterable[Group[Span]], export: Export) -> Iterator[None]:
        """Reads a request into ``export``; yields after each span, so that others get their turn."""
        read: dict[str, list[_Told]] = {}
        now = self._now()
        for group in groups:
            about = sort(group.resource)
            teller = Teller(whose(self._source, about.fields, about.extra), group.scope, emitter(group.scope[:_SCOPE]).cache, now)
            for number, span in enumerate(group.items):
                yield
                if (flaw := _flaw(span)) is not None:
                    export.reject(f"{group.place}.spans[{number}].{flaw[0]}", flaw[1], flaw[2])
                    continue
                if span.parent_span_id == _NO_SPAN:
                    span = span._replace(parent_span_id="")  # noqa: PLW2901
                told = sort(span.attributes)
                if told.fields.get("span_type") == _PENDING:
                    # Logfire announces a span before it ends, under another id.
                    continue
                export.accepted += 1
                read.setdefault(span.trace_id, []).append(_Told(span, told, judge(span.kind, span.name, told), teller))
        for trace_id, several in read.items():
            verdicts = self._traces.judge(
                trace_id,
                {one.span.span_id: one.span.parent_span_id for one in several},
                [one.span.span_id for one in several if one.judged.nature == "model_call" and counted(one.told.fields)],
                several[0].span.span_id,
            )
            for one in several:
                yield
                self._tell(one, verdicts, export)

    @staticmethod
    def _tell(one: _Told, verdicts: Verdicts, export: Export) -> None:
        span, told, judged, teller = one
        agent = teller.agent(told)
        root = not span.parent_span_id
        if root or span.span_id == verdicts.teller:
            export.add(agent, teller.run_started(span, told))
        nature = judged.nature
        if nature == "model_call":
            if span.span_id in verdicts.wrappers:
                export.add(agent, teller.step(span, told, judged, not_billed="around calls that are billed"))
            elif span.span_id in verdicts.inner:
                export.add(agent, teller.step(span, told, judged, not_billed="inside a call that is billed"))
            else:
                export.add(agent, teller.model_call(span, told, judged))
        elif nature == "tool_call":
            export.add(agent, teller.tool_call(span, told))
        elif not root:
            export.add(agent, teller.step(span, told, judged))
        if span.events:
            for event in teller.evaluations(span, told):
                export.add(agent, event)
        if root or (span.flags & _REMOTE_PARENT == _REMOTE_PARENT and span.kind in {SERVER, CONSUMER}):
            export.add(agent, teller.run_ended(span, told))
