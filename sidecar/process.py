"""The agent's process: begun in the sidecar's process group, waited for, signalled with all it started."""

import asyncio
import ctypes
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import psutil
import structlog

from sidecar.agent_log import AgentLog

log = structlog.get_logger(__name__)

_PR_SET_PDEATHSIG: Final = 1
_LAST_WORDS_S: Final = 0.5
"""For the end of the output: a stray process of another group may hold it open."""
# Loaded before any fork: between fork and exec nothing may be imported.
_LIBC: Final = ctypes.CDLL(None) if sys.platform == "linux" else None


@dataclass(frozen=True, slots=True)
class Ended:
    """How the agent's process ended."""

    exit_code: int | None
    signal: str | None
    at: datetime
    error: str | None = None
    """Why it could not even start."""

    @property
    def clean(self) -> bool:
        """Whether it ended as a program that has nothing more to do."""
        return self.exit_code == 0

    @property
    def how(self) -> str:
        """In words."""
        return self.error or (f"killed by {self.signal}" if self.signal else f"exit code {self.exit_code}")


def ended(returncode: int, at: datetime) -> Ended:
    """What a return code (negative: the signal) says."""
    if returncode >= 0:
        return Ended(returncode, None, at)
    try:
        name = signal.Signals(-returncode).name
    except ValueError:
        name = f"signal {-returncode}"
    return Ended(None, name, at)


def tree(pid: int) -> list[psutil.Process]:
    """The process and everything it started that still descends from it."""
    try:
        root = psutil.Process(pid)
        return [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return []


def signal_all(processes: Sequence[psutil.Process], number: signal.Signals) -> int:
    """Signals each process that still is the one it was; returns how many got it."""
    reached = 0
    for process in processes:
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            process.send_signal(number)
            reached += 1
    return reached


def state(pid: int) -> str | None:
    """Why the process cannot work (``zombie``, ``stopped``, ``no process``); None when it can."""
    try:
        status = psutil.Process(pid).status()
    except psutil.NoSuchProcess:
        return "no process"
    if status in {psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD}:
        return "zombie"
    if status in {psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP}:
        return "stopped"
    return None


def _strays() -> list[psutil.Process]:
    """What is left in the process group this process leads: descendants whose parent has gone."""
    own, parent = os.getpid(), os.getppid()
    if os.getpgrp() != own:
        return []
    found = []
    for pid in psutil.pids():
        with suppress(ProcessLookupError, PermissionError, psutil.NoSuchProcess):
            if pid != own and os.getpgid(pid) == own:
                process = psutil.Process(pid)
                # A shell puts a whole pipeline into our group: ``agentops sidecar … | tee log``. Orphans go to process 1.
                if parent == 1 or process.ppid() != parent:
                    found.append(process)
    return found


class _Output(asyncio.Protocol):
    def __init__(self, log_file: AgentLog, at_end: asyncio.Event, hear: Callable[[bytes], None]) -> None:
        self._log = log_file
        self._at_end = at_end
        self._hear = hear

    def data_received(self, data: bytes) -> None:
        self._log.write(data)
        self._hear(data)

    def eof_received(self) -> None:
        self._at_end.set()


class AgentProcess:
    """One run of the agent's command. ``start`` never raises: a command that cannot begin has ended with 126 or 127."""

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        directory: Path | None,
        log_path: Path,
        hear: Callable[[bytes], None] = lambda _: None,
    ) -> None:
        self._command = command
        self._environment = environment
        self._directory = directory
        self._log_path = log_path
        self._hear = hear
        self._process: asyncio.subprocess.Process | None = None
        self._output: asyncio.ReadTransport | None = None
        self._log: AgentLog | None = None
        self._silent = asyncio.Event()
        self.pid: int | None = None
        self.started_at: datetime | None = None
        self.ended: Ended | None = None

    async def start(self) -> None:
        """The command runs (``pid``) or has ``ended``."""
        self._log = AgentLog(self._log_path)
        reading, writing = os.pipe()
        parent = os.getpid()

        def die_with_sidecar() -> None:
            # An agent nobody watches must not go on serving.
            if _LIBC is not None:
                _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
                if os.getppid() != parent:
                    os._exit(1)

        try:
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=writing,
                stderr=writing,
                cwd=self._directory,
                env=dict(self._environment),
                preexec_fn=die_with_sidecar,
            )
        except (OSError, ValueError) as error:
            code = 126 if isinstance(error, PermissionError) else 127
            self.ended = Ended(code, None, datetime.now(UTC), f"cannot start: {error}")
            log.error("agent.cannot_start", command=list(self._command), error=str(error))
            os.close(reading)
            return
        finally:
            os.close(writing)
        self.pid = self._process.pid
        self.started_at = datetime.now(UTC)
        written, hear = self._log, self._hear
        self._output, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: _Output(written, self._silent, hear), os.fdopen(reading, "rb", buffering=0)
        )

    async def wait(self) -> Ended:
        """Returns when the process has ended, with how."""
        if self.ended is None:
            assert self._process is not None, "start() first"
            returncode = await self._process.wait()
            if self.ended is None:
                self.ended = ended(returncode, datetime.now(UTC))
        return self.ended

    async def stop(self, grace_s: float) -> Ended:
        """CONT and TERM to the process and all below it, KILL to what is left after ``grace_s``; returns how it ended."""
        if self.pid is None:
            return await self.wait()
        below = tree(self.pid) if self.ended is None else []
        signal_all(below, signal.SIGCONT)
        signal_all(below, signal.SIGTERM)
        try:
            async with asyncio.timeout(grace_s):
                last = await self.wait()
        except TimeoutError:
            log.warning("agent.killed", pid=self.pid, after_s=grace_s)
            signal_all([*below, *tree(self.pid)], signal.SIGKILL)
            last = await self.wait()
        signal_all([*below, *_strays()], signal.SIGKILL)
        with suppress(TimeoutError):
            async with asyncio.timeout(_LAST_WORDS_S):
                await self._silent.wait()
        return last

    def close(self) -> None:
        """Closes the output."""
        if self._output is not None:
            self._output.close()
        if self._log is not None:
            self._log.close()
            self._log = None
