"""Faults in force: begun, ended at their deadline by this process's own clock, and reported."""

import asyncio
import signal
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Final

import structlog

from schemas.events import Event
from schemas.sections import Fault, FaultKind
from service.instruments import LOOP_ERRORS
from sidecar.fault_memory import FaultMemory
from sidecar.faults import Active, Change, asked, due, passed, without
from sidecar.pressure import Pressure
from sidecar.process import signal_all, tree
from sidecar.reports import Identity

log = structlog.get_logger(__name__)

_NEEDS_PROCESS: Final = frozenset({"crash", "hang"})


class Enforcer:
    """Holds the faults in force. It needs nobody to end them: neither NATS nor the manager."""

    def __init__(
        self,
        identity: Identity,
        memory: FaultMemory,
        agent_pid: Callable[[], int | None],
        report: Callable[[Event], None],
        changed: Callable[[], None],
    ) -> None:
        self._identity = identity
        self._memory = memory
        self._agent_pid = agent_pid
        self._report = report
        self._changed = changed
        self._active: tuple[Active, ...] = ()
        self._pressure = Pressure()
        self._wanted: tuple[Fault, ...] = ()
        self._begins: dict[str, float] = {}
        """When those begin that are asked for later, in monotonic seconds."""
        self._frozen = False
        self._moved = asyncio.Event()

    @property
    def active(self) -> tuple[Active, ...]:
        """The faults in force at this instant."""
        now = time.monotonic()
        return tuple(item for item in self._active if item.deadline > now)

    def kinds(self) -> tuple[FaultKind, ...]:
        """Their kinds."""
        return tuple(item.fault.kind for item in self.active)

    def resume(self) -> None:
        """Reports the end of faults that ended while no sidecar ran, and thaws what a killed sidecar left frozen."""
        now = datetime.now(UTC)
        if self._agent_pid() is not None and any(met.fault.kind == "hang" and not met.done for met in self._memory.met()):
            # A process that is not ours outlives its sidecar. Should the hang still be asked for, it begins anew.
            self._frozen = True
            self._freeze_or_thaw()
        for met in self._memory.met():
            if not met.done and met.fault.until <= now:
                self._report(self._identity.fault_cleared(met.fault, "deadline", met.fault.until))
                self._memory.forget(met.fault.fault_id, now)

    def ask(self, wanted: Sequence[Fault]) -> None:
        """``wanted`` is now the whole set of faults asked of this agent."""
        now = datetime.now(UTC)
        # What an earlier sidecar had begun and nobody asks for any more ends here.
        asked_ids = {fault.fault_id for fault in wanted}
        here = {item.fault.fault_id for item in self._active}
        for met in self._memory.met():
            if not met.done and met.fault.fault_id not in asked_ids | here:
                self._report(self._identity.fault_cleared(met.fault, "cleared", now))
                self._memory.forget(met.fault.fault_id, now)
        self._wanted = tuple(wanted)
        self._begin()

    def _begin(self) -> None:
        wall, monotonic = datetime.now(UTC), time.monotonic()
        wanted, self._begins = due(self._wanted, self._begins, wall=wall, monotonic=monotonic)
        self._apply(asked(self._active, wanted, self._memory.spent(), wall=wall, monotonic=monotonic))

    async def run(self) -> None:
        """Ends each fault at its deadline; until cancelled."""
        while True:
            self._moved.clear()
            now = time.monotonic()
            waits = min((at - now for at in (*(item.deadline for item in self._active), *self._begins.values())), default=None)
            try:
                async with asyncio.timeout(None if waits is None else max(0.0, waits)):
                    await self._moved.wait()
            except TimeoutError:
                try:
                    self._apply(passed(self._active, time.monotonic()))
                    if self._begins:
                        self._begin()
                except Exception:
                    LOOP_ERRORS.labels("faults").inc()
                    log.exception("faults.enforcement_failed")
                    await asyncio.sleep(0.1)

    def _apply(self, change: Change) -> None:
        self._active = change.active
        # First of all: whatever fails below, the deadlines are known to those who enforce them.
        self._moved.set()
        self._freeze_or_thaw()
        self._pressure.become(self._active)
        now = datetime.now(UTC)
        for item in change.begun:
            fault = item.fault
            if fault.kind in _NEEDS_PROCESS and self._agent_pid() is None:
                log.warning("fault.impossible", fault_id=fault.fault_id, kind=fault.kind, reason="no process known")
                self._active = without(self._active, fault.fault_id).active
                continue
            log.warning("fault.injected", fault_id=fault.fault_id, kind=fault.kind, until=fault.until.isoformat())
            self._report(self._identity.fault_injected(fault, self._memory.injected_at(fault, now)))
        for item, ending in change.ended:
            log.warning("fault.cleared", fault_id=item.fault.fault_id, kind=item.fault.kind, because=ending)
            self._report(self._identity.fault_cleared(item.fault, ending, now))
            self._memory.forget(item.fault.fault_id, now)
        if not change.is_nothing:
            self._changed()
        for item in change.begun:
            if item.fault.kind == "crash" and item in self._active:
                self._crash(item)

    def _crash(self, item: Active) -> None:
        pid = self._agent_pid()
        self._memory.spend(item.fault.fault_id)
        if pid is not None:
            signal_all(tree(pid), signal.SIGKILL)
        self._apply(without(self._active, item.fault.fault_id))

    def _freeze_or_thaw(self) -> None:
        pid = self._agent_pid()
        wanted = any(item.fault.kind == "hang" for item in self._active)
        if pid is not None and wanted != self._frozen:
            signal_all(tree(pid), signal.SIGSTOP if wanted else signal.SIGCONT)
            self._frozen = wanted

    def release(self) -> None:
        """Lets go of every fault without a report: this sidecar ends, and the next one takes them up again."""
        self._active, self._wanted, self._begins = (), (), {}
        self._freeze_or_thaw()
        self._pressure.become(())
        self._moved.set()

    async def while_active(self, item: Active, at_most_s: float | None = None) -> None:
        """Returns when the fault has ended, or after ``at_most_s``."""
        end = item.deadline if at_most_s is None else min(item.deadline, time.monotonic() + at_most_s)
        while item in self._active and (left := end - time.monotonic()) > 0:
            moved = self._moved
            try:
                async with asyncio.timeout(left):
                    await moved.wait()
            except TimeoutError:
                return
            await asyncio.sleep(0)
