"""The agent's output, from which its file is written, as ``log.emitted`` events too: from a level on, so many a second."""

import asyncio
import secrets
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

import structlog
from pydantic import JsonValue

from schemas.events import Event
from schemas.ids import uuid7
from schemas.sections import Log, Run, Trace
from service.instruments import AGENT_LOG_LINES
from sidecar.log_lines import LEVELS, Entry, Lines, read
from sidecar.log_rate import Bucket
from sidecar.reports import Identity

log = structlog.get_logger(__name__)

_PATIENCE_S: Final = 0.2
"""How long an entry waits for lines that may belong to it."""
_TELL_S: Final = 10.0
"""How often it is told how many lines were suppressed."""
SUPPRESSED: Final = "agentops.suppressed"
"""An attribute of the event that tells of suppressed lines: how many, by level."""


class LogCapture:
    """``hear`` takes output as it comes. Nothing it meets there is an error: what is no log line is a message."""

    def __init__(self, identity: Identity, report: Callable[[Event], None], *, level: str, per_s: float, burst: int) -> None:
        self._identity = identity
        self._report = report
        self._least = LEVELS.index(level) if level in LEVELS else len(LEVELS)
        self._per_s = per_s
        self._lines = Lines()
        self._bucket = Bucket(per_s, burst, time.monotonic())
        self._patience: asyncio.TimerHandle | None = None
        self._telling: asyncio.TimerHandle | None = None
        self._closed = False

    def hear(self, data: bytes) -> None:
        """Takes output."""
        if self._least == len(LEVELS):
            return
        try:
            for text in self._lines.feed(data):
                self._entry(text)
        except Exception:
            log.exception("agent_log.not_captured")
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None
        if self._closed:
            # Last words may come while everything is being closed: nobody waits for more of them.
            self._flush()
        elif self._lines.pending:
            self._patience = asyncio.get_running_loop().call_later(_PATIENCE_S, self._flush)

    def close(self) -> None:
        """Everything heard is reported, and what was suppressed is told; what is heard from now on is reported at once."""
        self._closed = True
        self._flush()
        self._tell()
        for timer in (self._patience, self._telling):
            if timer is not None:
                timer.cancel()

    def _flush(self) -> None:
        try:
            for text in self._lines.flush():
                self._entry(text)
        except Exception:
            log.exception("agent_log.not_captured")

    def _entry(self, text: str) -> None:
        entry = read(text)
        if LEVELS.index(entry.level) < self._least:
            AGENT_LOG_LINES.labels("below_level").inc()
        elif self._bucket.lets(entry.level, time.monotonic()):
            AGENT_LOG_LINES.labels("reported").inc()
            self._emit(entry)
        else:
            AGENT_LOG_LINES.labels("suppressed").inc()
            if self._telling is None and not self._closed:
                self._telling = asyncio.get_running_loop().call_later(_TELL_S, self._tell)

    def _tell(self) -> None:
        self._telling = None
        if suppressed := self._bucket.take():
            by_level: dict[str, JsonValue] = {**suppressed}
            lines = sum(suppressed.values())
            message = f"{lines} line(s) left out: more than {self._per_s:g} a second; the agent's log file has them"
            self._emit(Entry("warning", message, "agentops.sidecar"), {SUPPRESSED: by_level})

    def _emit(self, entry: Entry, attributes: dict[str, JsonValue] | None = None) -> None:
        self._report(
            Event(
                event_version="v1",
                event_id=uuid7(time.time_ns() // 1_000_000, secrets.randbits(74)),
                event_type="log.emitted",
                occurred_at=datetime.now(UTC),
                tenant=self._identity.tenant,
                run=Run(agent_id=self._identity.agent_id, run_id=entry.run_id),
                trace=None if entry.trace_id is None else Trace(trace_id=entry.trace_id, span_id=entry.span_id),
                log=Log(level=entry.level, message=entry.message, logger=entry.logger),
                attributes=attributes or {},
            )
        )
