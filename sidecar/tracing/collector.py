"""What becomes of spans: sampling decides, lanes carry them to every exporter."""

import atexit
import logging
import os
import sys
import time
import weakref
from collections.abc import Sequence
from typing import Final, NamedTuple

from sidecar.tracing import ids
from sidecar.tracing.events import begun
from sidecar.tracing.exporters.exporter import Exporter
from sidecar.tracing.lanes import BATCH, EVERY_S, Lane
from sidecar.tracing.outbox import CAPACITY
from sidecar.tracing.sampling import MOST_HELD, Sampling
from sidecar.tracing.spans import Here, Span, Step, Trace
from sidecar.tracing.whose import Whose

logger: Final = logging.getLogger("agentops.tracer")

CLOSE_S: Final = 5.0
"""Enough for what is loaded at first use (genai-prices) on a busy machine; an idle door takes milliseconds."""
_MOST_TROUBLES_TOLD: Final = 5
DROPPED: Final = "telemetry_dropped"
"""An attribute of a run's end: how many events this process has lost so far."""


class Counts(NamedTuple):
    """What became of everything so far."""

    delivered: int
    waiting: int
    dropped: int
    """For want of room, or of time at the end."""
    dropped_billable: int
    refused: int
    """Never will be taken by the other side."""
    sampled_out: int
    barred: int
    """Times an exporter was answered 401 or 403: what it had waits, and is offered again, at last every half minute."""


class TelemetryCollector:
    """Brings spans to ``exporters``, each by a lane of its own, so that a slow one delays no other.

    Works from its making on; a lane's thread begins with the first span. While paused, steps and tool calls are left out; model
    calls and runs are not: the ledger has no holes.
    """

    def __init__(
        self,
        exporters: Sequence[Exporter],
        who: Whose,
        *,
        sampling: Sampling | None = None,
        error_messages: bool = True,
        capture_content: bool = False,
        capacity: int = CAPACITY,
        batch: int = BATCH,
        every_s: float = EVERY_S,
        close_s: float = CLOSE_S,
    ) -> None:
        self.who = who
        self.error_messages = error_messages
        self.capture_content = capture_content
        self.sampled_out = 0
        self._sampling = sampling or Sampling()
        self._everything = self._sampling.everything
        self._holds = self._sampling.tail < 1
        self._close_s = close_s
        self._all = [Lane(exporter, who, capacity=capacity, batch=batch, every_s=every_s) for exporter in exporters]
        self._lanes = tuple(self._all)
        self._paused = False
        self._troubles = 0
        _living.add(self)

    def trace(self, root: Span, caller: ids.Caller | None) -> Trace:
        """A trace begins, or goes on from another service."""
        trace_id = ids.trace_id() if caller is None else caller.trace_id
        if self._everything:
            return Trace(trace_id, sampled=True, held=None, root=root)
        sampled = self._sampling.at_head(trace_id, None if caller is None else caller.sampled)
        return Trace(trace_id, sampled=sampled, held=[] if sampled and self._holds else None, root=root)

    def run_begun(self, span: Step) -> None:
        """A run began."""
        item = begun(span, time.time_ns())
        for lane in self._lanes:
            lane.put(item)

    def ended(self, span: Span) -> None:
        """A span is over."""
        if not span.vital:
            if self._paused and span.error is None:
                self._left_out(span)
                return
            if not self._everything and self._thinned(span):
                return
        elif isinstance(span, Step) and (lost := self.dropped):
            span.set(DROPPED, lost)
        for lane in self._lanes:
            lane.put(span)
        if span.trace.held is not None and span.trace.root is span:
            self._decide(span)

    def _thinned(self, span: Span) -> bool:
        """Whether a step or a tool call goes no further, or not yet."""
        trace = span.trace
        if span.error is not None:
            return False
        if not trace.sampled:
            self._left_out(span)
            return True
        held = trace.held
        if held is None or len(held) >= MOST_HELD or trace.root.home != Here.forks:
            return False
        held.append(span)
        if trace.root is span:
            self._decide(span)
        return True

    def _decide(self, root: Span) -> None:
        trace = root.trace
        held, trace.held = trace.held or [], None
        if self._sampling.at_tail(trace.trace_id, root.latency_ms, trouble=trace.trouble):
            for span in held:
                for lane in self._lanes:
                    lane.put(span)
        else:
            for span in held:
                self._left_out(span)
            # What still runs of this trace is decided like it.
            trace.sampled = False

    def _left_out(self, span: Span) -> None:
        """Goes only where everything is counted."""
        self.sampled_out += 1
        for lane in self._lanes:
            if lane.everything:
                lane.put(span)

    def trouble(self, where: str, error: BaseException) -> None:
        """Tracing itself failed: told a few times, then only counted."""
        self._troubles += 1
        if self._troubles <= _MOST_TROUBLES_TOLD:
            logger.warning("agentops: tracing failed at %s: %s: %s", where, type(error).__name__, error)

    def start(self) -> None:
        """Collects, if it was paused or stopped."""
        self._paused = False
        if not self._lanes and self._all:
            for lane in self._all:
                lane.reopen()
            self._lanes = tuple(self._all)

    def pause(self) -> None:
        """Steps and tool calls that succeed are left out until ``start()``."""
        self._paused = True

    def flush(self, within_s: float = CLOSE_S) -> bool:
        """Waits until everything so far has left; whether it did."""
        deadline = time.monotonic() + within_s
        flushed = [lane.flush(max(0.0, deadline - time.monotonic())) for lane in self._lanes]
        return all(flushed)

    def stop(self, within_s: float | None = None) -> None:
        """What waits leaves, within ``within_s`` in all; the rest is lost and told. Nothing is collected afterwards."""
        lanes, self._lanes = self._lanes, ()
        deadline = time.monotonic() + (self._close_s if within_s is None else within_s)
        for lane in lanes:
            lane.closing()
        for lane in lanes:
            lane.close(max(0.0, deadline - time.monotonic()))

    @property
    def dropped(self) -> int:
        """Items lost so far."""
        lost = 0
        for lane in self._all:
            lost += lane.dropped
        return lost

    def counts(self) -> Counts:
        """What became of everything so far, over all exporters."""
        return Counts(
            delivered=sum(lane.delivered for lane in self._all),
            waiting=sum(lane.waiting for lane in self._all),
            dropped=self.dropped,
            dropped_billable=sum(lane.outbox.dropped_billable for lane in self._all),
            refused=sum(lane.refused for lane in self._all),
            sampled_out=self.sampled_out,
            barred=sum(lane.barred for lane in self._all),
        )

    def forked(self) -> None:
        """A child process begins: what waits is the parent's, threads are none."""
        for lane in self._all:
            lane.forked()
        self.sampled_out = 0
        if (util := sys.modules.get("multiprocessing.util")) is not None:
            # Its children end without ``atexit``; what they run instead is registered after this.
            util.register_after_fork(self, _stop_with_multiprocessing)


def _stop_with_multiprocessing(collector: TelemetryCollector) -> None:
    sys.modules["multiprocessing.util"].Finalize(None, collector.stop, exitpriority=0)


_living: Final[weakref.WeakSet[TelemetryCollector]] = weakref.WeakSet()


@atexit.register
def _stop_all() -> None:
    for collector in list(_living):
        collector.stop()


def _forked() -> None:
    for collector in list(_living):
        collector.forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
