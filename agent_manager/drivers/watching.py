"""Noticing at once that a process has ended, child of ours or not."""

import asyncio
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from agent_manager.drivers import groups
from agent_manager.drivers.driver import Exit


def describe(status: int | None, at: datetime) -> Exit:
    """What a wait status (None: not our child, so unknown) says."""
    if status is None:
        return Exit(at, "its process is gone (it was started by an earlier manager, which alone could know how)")
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        try:
            name = signal.Signals(number).name
        except ValueError:
            name = f"signal {number}"
        return Exit(at, f"killed by {name}", signal=name)
    code = os.waitstatus_to_exitcode(status)
    return Exit(at, f"exited with code {code}", code=code)


@dataclass(slots=True)
class Watch:
    """One process, watched until it ends. On Linux its end is an event; elsewhere ``poll`` finds it."""

    pid: int
    created_at: float
    ours: bool
    """Our child: its exit status is ours to collect."""
    notice: Callable[[], None]
    exit: Exit | None = None
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    _descriptor: int | None = None

    def begin(self) -> None:
        """Starts watching."""
        try:
            self._descriptor = os.pidfd_open(self.pid)
        except (AttributeError, OSError):
            self.poll()
            return
        asyncio.get_running_loop().add_reader(self._descriptor, self.poll)
        if not self.ours:
            # Since it was found its id may have passed to another, which the descriptor now holds.
            self.poll()

    def poll(self) -> Exit | None:
        """How it ended, or None while it lives."""
        if self.exit is not None:
            return self.exit
        now = datetime.now(UTC)
        if self.ours:
            try:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
            except ChildProcessError:
                self._found(describe(None, now))
            else:
                if pid:
                    self._found(describe(status, now))
            return self.exit
        created = groups.created_at(self.pid)
        if created is None or abs(created - self.created_at) > 2:
            self._found(describe(None, now))
        return self.exit

    def _found(self, exit_: Exit) -> None:
        self.exit = exit_
        self.ended.set()
        self.close()
        self.notice()

    def send(self, number: signal.Signals) -> None:
        """Sends a signal to this very process, never to a later one with the same id."""
        if self.poll() is not None:
            return
        try:
            if self._descriptor is not None:
                signal.pidfd_send_signal(self._descriptor, number)
            else:
                os.kill(self.pid, number)
        except ProcessLookupError:
            self.poll()

    def close(self) -> None:
        """Stops watching; the process runs on."""
        if self._descriptor is not None:
            asyncio.get_running_loop().remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._descriptor = None
