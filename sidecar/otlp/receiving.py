"""What becomes of a request that was read, whichever door it came through.

Fullness: requests in work hold at most ``most_bytes`` together; one that would hold more is refused with *busy* while it is read.
What an intake has no room for is *busy*, too: nothing is queued here, exporters keep what was refused.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Final

import structlog

from service.instruments import OTLP_ITEMS, OTLP_TRACES_FORGOTTEN
from sidecar.intake import Intake
from sidecar.otlp.arrivals import Arrival, Arrivals
from sidecar.otlp.exports import Export, Group
from sidecar.otlp.log_records import LogReader
from sidecar.otlp.measurements import MetricReader
from sidecar.otlp.reading import LogLine, Point, Span
from sidecar.otlp.sources import Refused, Source
from sidecar.otlp.traces import Reader
from sidecar.otlp.wrapping import MOST_SPANS, Traces
from sidecar.spool import Full

log = structlog.get_logger(__name__)

MOST_BYTES_IN_WORK: Final = 64 * 1024 * 1024
RETRY_S: Final = 1
_PIECE: Final = 200
"""Items after which others get their turn: a few milliseconds."""
_TURN_S: Final = 0.05
"""Or so long, where items need a closer look."""
_MOST_TENANTS: Final = 10_000


@dataclass(frozen=True, slots=True)
class Taken:
    """Everything that can be an event is kept; of the others, how many and why."""

    rejected: int
    message: str


@dataclass(frozen=True, slots=True)
class Busy:
    """Nothing of it is promised: send all of it again after ``retry_after_s``."""

    reason: str
    retry_after_s: float = RETRY_S
    status: int = 503
    """429 where it is the sender's doing."""


Admission = Callable[[Source, int], Refused | None]
"""Whether so many items of a request may be kept; else when to send it again."""


def _unlimited(_: Source, __: int) -> None:
    return None


class NoRoomError(Exception):
    """Other requests hold all the memory requests may. Sending it again later helps."""


class Room:
    """The memory of one request."""

    def __init__(self, receiver: "Receiver") -> None:
        self._receiver = receiver
        self.size = 0

    def grow(self, size: int) -> None:
        """Takes ``size`` bytes more; raises NoRoomError."""
        if not self._receiver.fits(size):
            raise NoRoomError(f"requests of {self._receiver.bytes_in_work:,} bytes are in work")
        self._receiver.bytes_in_work += size
        self.size += size


class Receiver:
    """Takes what doors have read, for all of their sources."""

    def __init__(
        self,
        intake: Intake,
        *,
        now: Callable[[], int] = time.time_ns,
        most_bytes: int = MOST_BYTES_IN_WORK,
        most_spans: int = MOST_SPANS,
        admit: Admission = _unlimited,
    ) -> None:
        self._intake = intake
        self._admit = admit
        self._now = now
        self._most_bytes = most_bytes
        self._most_spans = most_spans
        self._traces: dict[str, Traces] = {}
        self._arrivals = Arrivals()
        self.bytes_in_work = 0

    @contextmanager
    def room(self) -> Iterator["Room"]:
        """Room for one request, which grows with what is read of it and is free again afterwards."""
        room = Room(self)
        try:
            yield room
        finally:
            self.bytes_in_work -= room.size

    def arrival(self, source: Source, signal: str, body: bytes) -> AbstractContextManager[Arrival]:
        """When ``body`` came, or came first, where it was not answered then."""
        return self._arrivals.one(source.tenant, signal, body, self._now())

    def fits(self, size: int) -> bool:
        """Whether there is room for ``size`` bytes more."""
        return self.bytes_in_work + size <= self._most_bytes

    def _known(self, tenant: str) -> Traces:
        if tenant not in self._traces and len(self._traces) >= _MOST_TENANTS:
            del self._traces[next(iter(self._traces))]
        return self._traces.setdefault(tenant, Traces(self._most_spans))

    async def traces(self, source: Source, groups: Iterable[Group[Span]], at: int | None = None) -> Taken | Busy:
        """The spans of one request."""
        traces, export = self._known(source.tenant), Export()
        forgotten = traces.forgotten
        await self._walk(Reader(source, traces, self._as_of(at)).steps(groups, export))
        if traces.forgotten != forgotten:
            OTLP_TRACES_FORGOTTEN.inc(traces.forgotten - forgotten)
        return await self._keep("traces", source, export)

    async def logs(self, source: Source, groups: Iterable[Group[LogLine]], at: int | None = None) -> Taken | Busy:
        """The log records of one request."""
        export = Export()
        await self._walk(LogReader(source, self._as_of(at)).steps(groups, export))
        return await self._keep("logs", source, export)

    async def metrics(self, source: Source, groups: Iterable[Group[Point]], at: int | None = None) -> Taken | Busy:
        """The data points of one request."""
        export = Export()
        await self._walk(MetricReader(source, self._as_of(at)).steps(groups, export))
        return await self._keep("metrics", source, export)

    def _as_of(self, at: int | None) -> Callable[[], int]:
        return self._now if at is None else lambda: at

    @staticmethod
    async def _walk(steps: Iterable[None]) -> None:
        turn = time.monotonic()
        for number, _ in enumerate(steps):
            if number % _PIECE == _PIECE - 1 or time.monotonic() - turn > _TURN_S:
                await asyncio.sleep(0)
                turn = time.monotonic()

    async def _keep(self, signal: str, source: Source, export: Export) -> Taken | Busy:
        items = export.accepted + export.rejected
        if (refused := self._admit(source, items)) is not None:
            OTLP_ITEMS.labels(signal, "limited").inc(items)
            return Busy(refused.reason, refused.retry_after_s or RETRY_S, refused.status)
        for agent, records in export.records.items():
            outcome = await self._intake.take(source.tenant, agent, records)
            if isinstance(outcome, Full):
                OTLP_ITEMS.labels(signal, "full").inc(export.accepted)
                log.warning("otlp.full", signal=signal, items=export.accepted, reason=outcome.reason)
                return Busy(f"{outcome.reason}; NATS is away or slow")
        OTLP_ITEMS.labels(signal, "accepted").inc(export.accepted)
        if export.rejected:
            OTLP_ITEMS.labels(signal, "rejected").inc(export.rejected)
            # Only where: what was wrong is told with the sender's own words, which are the sender's alone.
            log.info("otlp.rejected", signal=signal, items=export.rejected, loc=export.errors[0].loc)
        return Taken(export.rejected, export.message())
