"""Leases: which of several instances works on a partition.

They are for speed and peace. Another instance takes over within seconds, and two do not fight over one partition.
Safety is not theirs but the fence's: whoever writes without a right to is refused whole.
"""

import asyncio
import contextlib
import os
import socket
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import nats.errors
import structlog
from nats.aio.client import Client

from processors.leasing import RENEWED_S, SURE_S, Place, Seen, Taken, judge
from schemas.leases import Lease
from service.instruments import LEASES_HELD, LOOP_ERRORS
from service.running import end
from streams import topology
from streams.kv import ChangedMeanwhileError, TypedBucket

log = structlog.get_logger(__name__)

_INSTANCE: Final = "instance"
_AGAIN_S: Final = 0.2
_REQUEST_S: Final = 1.0


def here() -> Place:
    """Where we run. The same host name in another container, or before a reboot, is another place."""
    parts = [socket.gethostname()]
    with contextlib.suppress(OSError):
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text().strip())
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    return Place("/".join(parts), os.getpid())


def since_boot_s() -> float:
    """Seconds that also pass while the machine sleeps, where the system tells them: others go on meanwhile."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if sys.platform == "linux" else time.monotonic()


def is_alive(pid: int) -> bool:
    """Whether a process of this place has that id."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


class Leases:
    """One instance's view of a processor's leases, and those it holds. ``stop`` gives them back."""

    def __init__(self, client: Client, processor: str, instance: str) -> None:
        self._client = client
        self._processor = processor
        self._instance = instance
        self._me = here()
        self._seen: dict[str, Seen] = {}
        self._held: dict[str, tuple[Lease, int]] = {}
        self._renewed_at: dict[str, float] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self._connects = -1
        self._changed = asyncio.Event()

    async def start(self) -> None:
        """Opens the bucket and begins to listen and to renew. Raises BucketMissingError, and what NATS raises."""
        self._bucket = await TypedBucket.open(self._client, topology.LEASES, Lease)
        self._tasks = [
            asyncio.create_task(self._listen(), name=f"{self._processor}-leases"),
            asyncio.create_task(self._renew(), name=f"{self._processor}-renewing"),
        ]

    async def stop(self) -> None:
        """Gives back what it holds, so that another instance need not wait."""
        # A renewal under way may lose a cancellation inside nats-py, and go on for ever.
        await end(self._tasks, 3.0)
        self._tasks = []
        try:
            async with asyncio.timeout(_REQUEST_S):
                for key in list(self._held):
                    await self._give_back(key)
        except (nats.errors.Error, TimeoutError, OSError) as error:
            log.info("lease.not_given_back", processor=self._processor, error=repr(error))
        self._forget_held()

    def holds(self, partition: int) -> bool:
        """Whether this instance has the partition, as far as it knows."""
        return str(partition) in self._held

    def sure(self, partition: int) -> bool:
        """Whether it has the partition beyond doubt: also a process that hung knows at once when it wakes up."""
        key = str(partition)
        return key in self._held and since_boot_s() - self._renewed_at[key] < SURE_S

    def held(self) -> set[int]:
        """The partitions of this instance."""
        return {int(key) for key in self._held if key.isdigit()}

    def holder(self, partition: int) -> str:
        """Who is at work on it, for people."""
        seen = self._seen.get(str(partition))
        return seen.lease.instance if seen is not None else "nobody"

    def instances(self) -> int:
        """How many instances show themselves, this one included."""
        now = time.monotonic()
        others = sum(
            key.startswith(_INSTANCE) and key not in self._held and isinstance(judge(seen, now, self._me, is_alive), Taken)
            for key, seen in self._seen.items()
        )
        return others + 1

    async def show(self) -> None:
        """From now on other instances count this one."""
        await self._take(f"{_INSTANCE}-{self._me.pid}-{id(self):x}")

    async def take(self, partition: int) -> bool:
        """Takes the partition if it is free; whether this instance has it now. Raises what NATS raises."""
        return await self._take(str(partition))

    async def give_back(self, partition: int) -> None:
        """Lets another instance have it. Raises what NATS raises; then it is free two seconds later."""
        await self._give_back(str(partition))
        self._count()

    async def changed(self, within_s: float) -> None:
        """Returns when something was heard of the leases, or ``within_s``."""
        self._changed.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._changed.wait()

    async def _take(self, key: str) -> bool:
        if key in self._held:
            return True
        if key not in self._seen:
            await self._look(key)
        answer = judge(self._seen.get(key), time.monotonic(), self._me, is_alive)
        if isinstance(answer, Taken):
            return False
        lease = Lease(instance=self._instance, since=datetime.now(UTC), host=self._me.host, pid=self._me.pid)
        asked_at = since_boot_s()
        try:
            async with asyncio.timeout(_REQUEST_S):
                revision = await self._bucket.update(self._key(key), lease, answer.revision)
        except ChangedMeanwhileError:
            return False
        self._renewed_at[key] = asked_at
        self._held[key] = lease, revision
        self._count()
        log.info("lease.taken", processor=self._processor, partition=key, because=answer.reason)
        return True

    async def _look(self, key: str) -> None:
        """Asks what stands there, rather than wait to hear of it."""
        async with asyncio.timeout(_REQUEST_S):
            found = await self._bucket.get(self._key(key))
        if found is not None and found.value is not None and key not in self._seen:
            self._seen[key] = Seen(found.value, found.revision, time.monotonic())

    async def _give_back(self, key: str) -> None:
        lease, revision = self._held.pop(key)
        self._seen.pop(key, None)
        log.info("lease.given_back", processor=self._processor, partition=key, since=lease.since.isoformat())
        with contextlib.suppress(ChangedMeanwhileError):
            await self._bucket.delete(self._key(key), revision)

    def _key(self, key: str) -> str:
        return f"{self._processor}.{key}"

    def _count(self) -> None:
        LEASES_HELD.labels(self._processor).set(len(self.held()))

    def _forget_held(self) -> None:
        self._held.clear()
        self._count()

    async def _listen(self) -> None:
        """Hears of every claim, for ever."""
        prefix = f"{self._processor}."
        while True:
            try:
                async for entry in self._bucket.watch(f"{prefix}>"):
                    key = entry.key.removeprefix(prefix)
                    if entry.value is None:
                        self._seen.pop(key, None)
                    else:
                        self._seen[key] = Seen(entry.value, entry.revision, time.monotonic())
                    self._changed.set()
            except Exception:
                LOOP_ERRORS.labels(f"{self._processor}.leases").inc()
                log.exception("leases.listen_again", processor=self._processor)
                await asyncio.sleep(_AGAIN_S)

    async def _renew(self) -> None:
        while True:
            connects = self._client.stats["reconnects"]
            if connects != self._connects:
                # While we were away nobody could be heard: their silence begins now.
                self._connects, now = connects, time.monotonic()
                self._seen = {key: Seen(seen.lease, seen.revision, now) for key, seen in self._seen.items()}
            pause = RENEWED_S
            for key in list(self._held):
                if not await self._renewed(key):
                    pause = _AGAIN_S
            await asyncio.sleep(pause)

    async def _renewed(self, key: str) -> bool:
        lease, revision = self._held[key]
        asked_at = since_boot_s()
        try:
            async with asyncio.timeout(_REQUEST_S):
                self._held[key] = lease, await self._bucket.update(self._key(key), lease, revision)
            self._renewed_at[key] = asked_at
        except ChangedMeanwhileError:
            if await self._is_mine(key, lease):
                return True
            self._held.pop(key, None)
            self._count()
            self._changed.set()
            log.warning(
                "lease.lost", processor=self._processor, partition=key, to=self.holder(int(key)) if key.isdigit() else None
            )
        except (nats.errors.Error, TimeoutError, OSError) as error:
            log.debug("lease.renew_again", processor=self._processor, partition=key, error=repr(error))
            return False
        return True

    async def _is_mine(self, key: str, lease: Lease) -> bool:
        """Whether what stands there is our own renewal, whose answer was lost."""
        try:
            async with asyncio.timeout(_REQUEST_S):
                found = await self._bucket.get(self._key(key))
        except (nats.errors.Error, TimeoutError, OSError):
            return True
        if found is None or found.value != lease:
            return False
        self._held[key] = lease, found.revision
        return True
