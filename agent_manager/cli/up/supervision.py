"""Children kept running: started, watched, started again after a rest, stopped with everything they started."""

import asyncio
import ctypes
import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from agent_manager.cli.up.backoff import counted, pause_s
from agent_manager.cli.up.plan import Child
from agent_manager.cli.up.processes import kill_group
from service.leaving import UNUSABLE

LOG_LIMIT: Final = 20 * 1024 * 1024
"""A log larger than this when its process starts becomes ``<name>.log.1``."""

_PR_SET_PDEATHSIG: Final = 1


def dying_with(parent: int) -> Callable[[], None]:
    """What a child does before its program begins: ask for SIGTERM at the death of ``parent``, even by SIGKILL."""
    if sys.platform != "linux":
        return lambda: None
    libc = ctypes.CDLL(None)

    def ask() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os._exit(1)

    return ask


def ending(code: int) -> str:
    """How a process ended, in words."""
    if code < 0:
        try:
            return f"was killed by {signal.Signals(-code).name}"
        except ValueError:
            return f"was killed by signal {-code}"
    return f"ended with exit code {code}"


def telling(line: str) -> str:
    """What a line of a log says to a person: nothing where it is a record of less than a warning."""
    try:
        record = json.loads(line)
    except ValueError:
        return line
    if not isinstance(record, dict) or record.get("level") not in {"warning", "error", "critical"}:
        return ""
    event = str(record.get("event", "")).replace(".", " ").replace("_", " ")
    return ": ".join(filter(None, (event, str(record.get("error") or record.get("reason") or ""))))


def last_words(log: Path, limit: int = 200) -> str:
    """The last line of a log, in words, if it tells of something."""
    try:
        with log.open("rb") as file:
            # A record with a traceback is long, and told only whole.
            file.seek(max(0, file.seek(0, 2) - 65_536))
            lines = file.read().decode(errors="replace").strip().splitlines()
    except OSError:
        return ""
    return telling(lines[-1])[:limit] if lines else ""


def worth_saying(failures: int) -> bool:
    """Whether this failure in a row is told: the first, then ever more rarely."""
    return failures in {1, 5} or failures % 10 == 0


@dataclass(slots=True)
class Supervised:
    """One child. ``keep`` runs until ``stop``."""

    child: Child
    logs: Path
    say: Callable[[str], None]
    """Tells a person what happened."""
    changed: Callable[[], None]
    """The process id is another now."""
    process: asyncio.subprocess.Process | None = None
    failures: int = 0
    restarts: int = 0
    refusal: str | None = None
    """Why it ended by itself for good when it was last started; it is started again all the same, more and more rarely."""
    _stopping: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def log(self) -> Path:
        """Where its output goes."""
        return self.logs / f"{self.child.name}.log"

    def pid(self) -> int | None:
        """Its process id while it runs."""
        return self.process.pid if self.process is not None and self.process.returncode is None else None

    async def _start(self) -> asyncio.subprocess.Process:
        if self.log.exists() and self.log.stat().st_size > LOG_LIMIT:
            self.log.replace(self.log.with_suffix(".log.1"))
        with self.log.open("ab") as output:
            # A session of its own: Ctrl-C reaches `up` alone, which stops its children in order.
            self.process = await asyncio.create_subprocess_exec(
                sys.executable, *self.child.arguments, env=dict(self.child.environment), stdin=asyncio.subprocess.DEVNULL,
                stdout=output, stderr=output, start_new_session=True, preexec_fn=dying_with(os.getpid()),
            )  # fmt: skip
        return self.process

    async def keep(self) -> None:
        """Starts it, again and again, until ``stop``."""
        while not self._stopping.is_set():
            began, code = time.monotonic(), None
            try:
                process = await self._start()
            except OSError as error:
                how = f"could not be started ({error})"
            else:
                if self._stopping.is_set():
                    # ``stop`` came while it was being started, and found nothing to stop.
                    kill_group(process.pid)
                self.changed()
                code = await process.wait()
                kill_group(process.pid)
                how = ending(code)
            if self._stopping.is_set():
                return
            self.failures = counted(self.failures, time.monotonic() - began)
            rest = pause_s(self.failures, random.random())
            words = last_words(self.log)
            self.refusal = last_words(self.log, 2000) or how if code == UNUSABLE else None
            if worth_saying(self.failures):
                again = f" for the {self.failures}th time in a row" if self.failures > 3 else ""
                self.say(
                    f"{self.child.name} {how}{again}{f': {words}' if words else ''}. Started again in {rest:.1f} s; see {self.log}"
                )
            self.restarts += 1
            try:
                async with asyncio.timeout(rest):
                    await self._stopping.wait()
            except TimeoutError:
                continue

    async def stop(self, within_s: float) -> bool:
        """TERM, then KILL for its whole group after ``within_s``; returns whether it ended by itself."""
        self._stopping.set()
        process = self.process
        if process is None or process.returncode is not None:
            return True
        try:
            process.terminate()
            async with asyncio.timeout(within_s):
                await process.wait()
        except ProcessLookupError:
            return True
        except TimeoutError:
            kill_group(process.pid)
            await process.wait()
            return False
        kill_group(process.pid)
        return True
