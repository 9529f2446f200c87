"""Carrying the schedule out: signals, second instances, disks, streams, clocks."""

import asyncio
import contextlib
import os
import random
import signal
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import nats.errors
import structlog

from agent_manager.cli.up.supervision import dying_with
from chaos import disks
from chaos.disks import Disk
from chaos.producer import clock_file
from chaos.schedule import SERVER, Action
from chaos.system import System
from streams import topology

log = structlog.get_logger(__name__)

_ON_DISK: Final = {"nats": SERVER, "index": "validate", "warehouse": "aggregate"}
_TOP_UP_S: Final = 0.3
_LIFT_S: Final = 120.0
_WRITERS: Final = {topology.EVENTS: "validate", topology.LEDGER: "cost"}
"""Who writes atomic batches into a stream."""
_QUIET_S: Final = 0.4


@dataclass(slots=True)
class Troubles:
    """Makes each action happen, and undoes what lasts."""

    system: System
    disks: Sequence[Disk]
    """Empty where this machine allows none."""
    counts: Counter[str] = field(default_factory=Counter)
    """By kind, and by ``kind target``."""
    _full: Counter[str] = field(default_factory=Counter)
    _held: Counter[int] = field(default_factory=Counter)
    """How many faults want a process stopped at this moment."""
    _seconds: dict[str, set[int]] = field(default_factory=dict)
    """Process ids of further instances."""

    async def happen(self, action: Action) -> bool:
        """Returns when it is over; whether it could be done."""
        match action.kind:
            case "kill":
                done = self.system.signal(action.target, signal.SIGKILL) is not None
            case "stop":
                done = await self._stopped(action.target, action.for_s)
            case "second":
                done = await self._second(action)
            case "zombie":
                done = await self._zombie(action)
            case "disk_full":
                done = await self._disk_full(action)
            case "disk_slow":
                done = await self._disk_slow(action)
            case "stream_full":
                done = await self._stream_full(action)
            case "clock":
                done = await self._clock(action)
        if done:
            self.counts[action.kind] += 1
            self.counts[f"{action.kind} {action.target}"] += 1
        return done

    def _hold(self, pid: int) -> None:
        self._held[pid] += 1
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)

    def _release(self, pid: int) -> None:
        self._held[pid] -= 1
        if not self._held[pid]:
            # Killed meanwhile, it has no need to be told.
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    async def _stopped(self, name: str, seconds: float) -> bool:
        pid = self.system.pid(name)
        if pid is None:
            return False
        self._hold(pid)
        try:
            await asyncio.sleep(seconds)
        finally:
            self._release(pid)
        return True

    async def _second(self, action: Action) -> bool:
        """Another instance beside the first, killed at the end."""
        data = self.system.data if action.amount else self.system.data / "second"
        data.mkdir(exist_ok=True)
        with (self.system.data / "logs" / f"second-{action.target}.log").open("ab") as output:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "processors", action.target, env=self.system.environment(data),
                stdin=asyncio.subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
                preexec_fn=dying_with(os.getpid()),
            )  # fmt: skip
        running = self._seconds.setdefault(action.target, set())
        running.add(process.pid)
        try:
            await asyncio.sleep(action.for_s)
        finally:
            running.discard(process.pid)
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
        return True

    async def _zombie(self, action: Action) -> bool:
        """The active instance stops; another takes its place; the first wakes up and believes it is still the one."""
        together = action.for_s * 0.3
        stopped = asyncio.create_task(self._stopped(action.target, action.for_s - together), name="zombie")
        await self._second(action)
        return await stopped

    def _disk(self, name: str) -> Disk | None:
        return next((disk for disk in self.disks if disk.path.name == name), None)

    async def _disk_full(self, action: Action) -> bool:
        disk = self._disk(action.target)
        if disk is None:
            return False
        self._full[action.target] += 1
        try:
            until = asyncio.get_running_loop().time() + action.for_s
            while asyncio.get_running_loop().time() < until:
                # What is freed under a full disk is gone at once: it stays full.
                await asyncio.to_thread(disk.fill)
                await asyncio.sleep(_TOP_UP_S)
        finally:
            self._full[action.target] -= 1
            if not self._full[action.target]:
                await asyncio.to_thread(disk.empty)
        return True

    async def _disk_slow(self, action: Action) -> bool:
        disk = self._disk(action.target)
        seed = int(action.at_s * 1000)
        if disk is not None and disk.kind == "ext4":
            await disks.slow(disk, action.for_s, seed)
            return True
        # No disk to slow down: its writer stands still most of the time instead, which includes its reading.
        chance = random.Random(seed)
        loop = asyncio.get_running_loop()
        until = loop.time() + action.for_s
        while loop.time() < until:
            await self._stopped(_ON_DISK[action.target], chance.uniform(0.05, 0.4))
            await asyncio.sleep(chance.uniform(0.01, 0.05))
        return True

    async def _limit(self, stream: str, max_bytes: int | None) -> bool:
        """Gives ``stream`` this limit; None: the one of the topology."""
        config = next(config for config in topology.streams() if config.name == stream)
        config.max_bytes = config.max_bytes if max_bytes is None else max_bytes
        try:
            await self.system.client.jsm().update_stream(config)
        except (nats.errors.Error, TimeoutError, OSError) as error:
            log.debug("stream.not_limited", stream=stream, error=repr(error))
            return False
        return True

    async def _at_its_limit(self, stream: str) -> bool:
        """Lowers the limit to what the stream holds.

        Its writer is held until nothing of it is under way: a limit that falls while an atomic batch is being committed
        tears the batch, as no stream does that fills up by itself.
        """
        name = _WRITERS.get(stream)
        if name is None:
            return await self._limit(stream, 1)
        first = self.system.pid(name)
        pids = [pid for pid in (first, *self._seconds.get(name, ())) if pid is not None]
        for pid in pids:
            self._hold(pid)
        try:
            before = await self._ends_at(stream)
            await asyncio.sleep(_QUIET_S)
            if before is None or before != await self._ends_at(stream) or self.system.pid(name) != first:
                return False
            return await self._limit(stream, 1)
        finally:
            for pid in pids:
                self._release(pid)

    async def _ends_at(self, stream: str) -> int | None:
        try:
            return (await self.system.client.jsm().stream_info(stream)).state.last_seq
        except (nats.errors.Error, TimeoutError, OSError):
            return None

    async def _stream_full(self, action: Action) -> bool:
        """The stream is full and refuses, until it has more room."""
        loop = asyncio.get_running_loop()
        until = loop.time() + action.for_s
        done = False
        while not done and loop.time() < until:
            done = await self._at_its_limit(action.target)
            await asyncio.sleep(0.1)
        try:
            await asyncio.sleep(max(0.0, until - loop.time()))
        finally:
            # A reply may be lost while the limit is set, so it is lifted whatever was heard.
            async with asyncio.timeout(_LIFT_S):
                while not await self._limit(action.target, None):  # noqa: ASYNC110 - the server is away, or halted
                    await asyncio.sleep(0.2)
        return done

    async def _clock(self, action: Action) -> bool:
        file = clock_file(self.system.journals, action.target)
        file.write_text(str(action.amount))
        try:
            await asyncio.sleep(action.for_s)
        finally:
            file.write_text("0")
        return True
