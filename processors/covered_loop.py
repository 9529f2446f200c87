"""The loop of a processor whose output and progress are stored together: hold the lease, resume, fetch, cover, again.

One loop works on one partition. What it covers is the ``Work``'s business; when, from where and by whom is the loop's.
"""

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Protocol

import nats.errors
import structlog
from nats.aio.client import Client

from processors.leases import Leases
from processors.runner import HaltedError
from service.instruments import FENCED, READER_RESETS
from streams.covering import CoveredWriter, FencedError
from streams.messages import Received
from streams.reader import OrderedReader, Source

log = structlog.get_logger(__name__)

_LONGEST_FETCH_S: Final = 1.0
_LOOK_S: Final = 0.25
"""How often a standby looks whether a silent lease has become free."""
_KEEP_S: Final = 0.5
"""How often a standby brings up to date what it keeps."""
_RESUME_S: Final = 30.0
_AGAIN: Final = (nats.errors.Error, TimeoutError, OSError)


class StartOverError(Exception):
    """What is known of the past cannot be relied on. Trying again helps: the loop begins anew from what is stored."""


@dataclass(frozen=True, slots=True)
class Hop:
    """From where to where, and whose part of it."""

    processor: str
    partition: int
    source: Source
    """What is read."""
    into: str
    """The stream that outputs and records go to."""
    if_made_anew: str
    """What would happen to an input that was made anew, in words: the reason to halt."""
    contiguous: bool = False
    """Whether every message of the input stream is read, so that a hole in the sequences means something."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How much at once, how often."""

    pace_s: float
    fetch_messages: int
    batch_bytes: int


class Work(Protocol):
    """What a processor does with what the loop reads."""

    def may_take(self) -> bool:
        """Whether this instance should take the partition, were it free."""

    async def stand_by(self) -> None:
        """Called now and then while another instance is at work: keeps what ``open`` would take long for."""

    async def open(self) -> None:
        """Makes ready to cover from the writer's position on. Raises HaltedError where going on would do harm."""

    async def cover(self, messages: Sequence[Received]) -> None:
        """Stores everything that follows from ``messages``, which follow the writer's position, with the record of it."""

    async def idle(self) -> None:
        """Nothing was there to read for a moment."""


def slices(messages: Sequence[Received], most_bytes: int) -> list[list[Received]]:
    """``messages`` cut into contiguous runs of at most ``most_bytes``, each of at least one."""
    cut: list[list[Received]] = []
    size = 0
    for message in messages:
        if not cut or size + len(message.data) > most_bytes:
            cut.append([])
            size = 0
        cut[-1].append(message)
        size += len(message.data)
    return cut


def runs(messages: Sequence[Received], most_bytes: int, torn_until: int) -> list[list[Received]]:
    """``slices``, but what a torn batch was to cover, up to ``torn_until``, is covered by one again, whatever its size."""
    first = [message for message in messages if message.sequence <= torn_until]
    rest = slices(messages[len(first) :], most_bytes)
    return [first, *rest] if first else rest


class CoveredLoop:
    """Works while it holds the partition's lease, stands by while another instance does. ``stop`` finishes the batch at hand."""

    def __init__(self, client: Client, hop: Hop, pace: Pace, leases: Leases, work: Work) -> None:
        self._client = client
        self._hop = hop
        self._pace = pace
        self._leases = leases
        self._work = work
        self.writer = CoveredWriter(client, hop.into, hop.processor, hop.partition)
        self._reader = OrderedReader(client, hop.source)
        self._stopping = asyncio.Event()
        self._ended = asyncio.Event()
        self._ended.set()
        self._fetching: asyncio.Task[list[Received]] | None = None
        self._doubted: set[tuple[int, int]] = set()
        self._resets = 0
        self._paced = 0.0
        self._kept_at = 0.0
        self._yielding = False
        self.waiting: dict[str, str] = {"record": "not read yet"}
        """What keeps it from its work, by part."""
        self.active = False
        """Whether it is at work; else it stands by, or has not begun."""
        self.lag = 0
        """Messages not read yet."""

    def standing(self) -> str:
        """Active or standby, in words."""
        return "active" if self.active else f"standby: {self._leases.holder(self._hop.partition)} is at work"

    async def stop(self) -> None:
        """Finishes the batch at hand."""
        self._stopping.set()
        if self._fetching is not None:
            self._fetching.cancel()
        await self._ended.wait()
        await self._reader.close()

    async def run(self) -> None:
        """Covers until stopped. Raises what ``Work`` raises, HaltedError above all."""
        self._ended.clear()
        try:
            while await self._hold():
                await self._lead()
                if self._yielding:
                    self._yielding = False
                    await self._let_go()
        finally:
            self.active = False
            self._ended.set()

    def give_back(self) -> None:
        """Finishes the batch at hand and lets another instance have the partition."""
        self._yielding = True
        if self._fetching is not None:
            self._fetching.cancel()

    async def _let_go(self) -> None:
        if self._leases.holds(self._hop.partition):
            try:
                await self._leases.give_back(self._hop.partition)
            except _AGAIN as error:
                log.info("lease.not_given_back", processor=self._hop.processor, error=repr(error))

    async def rest(self, pause_s: float) -> None:
        """Pauses, shorter when asked to stop."""
        try:
            async with asyncio.timeout(pause_s):
                await self._stopping.wait()
        except TimeoutError:
            return

    async def _hold(self) -> bool:
        """Stands by until the lease is held; False when asked to stop first."""
        partition, told = self._hop.partition, False
        while not self._stopping.is_set():
            try:
                if self._work.may_take() and await self._leases.take(partition):
                    return True
            except _AGAIN as error:
                self.waiting = {"lease": f"{type(error).__name__}: {error}"}
                await self.rest(_LOOK_S)
                continue
            # A standby is ready: ready to take over.
            self.waiting = {}
            if not told:
                told = True
                log.info(
                    "partition.standby", processor=self._hop.processor, partition=partition, behind=self._leases.holder(partition)
                )
            if time.monotonic() >= self._kept_at + _KEEP_S:
                await self._keep_up()
            await self._leases.changed(_LOOK_S)
        return False

    async def _keep_up(self) -> None:
        try:
            await self._work.stand_by()
        except (StartOverError, *_AGAIN) as error:
            log.info("partition.stand_by_again", processor=self._hop.processor, partition=self._hop.partition, error=repr(error))
        self._kept_at = time.monotonic()

    async def _lead(self) -> None:
        """Works as long as the lease is held."""
        name, partition = self._hop.processor, self._hop.partition
        try:
            await self._resume()
            while not self._stopping.is_set() and not self._yielding and self._leases.holds(partition):
                self.active = True
                try:
                    await self._once()
                except FencedError as error:
                    FENCED.labels(name).inc()
                    log.warning("partition.fenced", processor=name, partition=partition, reason=str(error))
                    if self._leases.holds(partition):
                        # Perhaps the last act of an instance that has lost the lease; if it has not, not in step with it.
                        await self.rest(random.uniform(0.05, 0.5))
                        await self._resume()
                except (StartOverError, *_AGAIN) as error:
                    log.warning("partition.start_over", processor=name, partition=partition, reason=repr(error))
                    await self._resume()
        finally:
            self.active = False
            await self._reader.reset("stepped back")

    async def _resume(self) -> None:
        """Goes back to what is stored: the newest record says where."""
        attempt = 0
        while not self._stopping.is_set():
            try:
                async with asyncio.timeout(_RESUME_S):
                    position = await self.writer.resume()
                    replaced = await self.writer.replaced(self._hop.source.stream)
                if replaced is not None:
                    raise HaltedError(f"{replaced}. {self._hop.if_made_anew}")
                await self._work.open()
            except (StartOverError, *_AGAIN) as error:
                self.waiting = {"record": f"{type(error).__name__}: {error}"}
                log.log(30 if attempt == 0 else 10, "partition.resume_again", processor=self._hop.processor, error=repr(error))
                attempt += 1
                await self.rest(min(5.0, 0.2 * 2.0 ** min(attempt, 6)))
                continue
            await self._reader.reset("resume", position.covered)
            self._doubted.clear()
            self.waiting = {}
            log.info(
                "partition.resumed", processor=self._hop.processor, partition=self._hop.partition, after=position.covered,
                record=position.record_sequence,
            )  # fmt: skip
            return

    async def _once(self) -> None:
        if (left := self._paced - time.monotonic()) > 0:
            await self.rest(left)
        until = self.writer.torn_until
        messages = await (self._fetch() if until <= self.writer.position.covered else self._fetch_up_to(until))
        if self._reader.resets > self._resets:
            READER_RESETS.labels(self._hop.processor).inc(self._reader.resets - self._resets)
            self._resets = self._reader.resets
        self.lag = self._reader.pending if messages else 0
        if not messages:
            await self._work.idle()
            return
        if self._hop.contiguous and not await self._whole(messages):
            return
        self._paced = time.monotonic() + self._pace.pace_s
        for run in runs(messages, self._pace.batch_bytes, until):
            await self._work.cover(run)

    async def _fetch_up_to(self, until: int) -> list[Received]:
        """All there is up to ``until``, and perhaps more; nothing when asked to stop meanwhile, or the lease is lost."""
        taken: list[Received] = []
        while not taken or taken[-1].sequence < until:
            found = await self._fetch()
            if self._stopping.is_set() or self._yielding or not self._leases.holds(self._hop.partition):
                return []
            taken += found
            if not found and self._reader.caught_up:
                break
        return taken

    async def _fetch(self) -> list[Received]:
        """What there is to read; nothing when asked to stop meanwhile."""
        self._fetching = asyncio.create_task(
            self._reader.fetch(self._pace.fetch_messages, _LONGEST_FETCH_S), name=f"{self._hop.processor}-fetch"
        )
        try:
            return await self._fetching
        except asyncio.CancelledError:
            if (self._stopping.is_set() or self._yielding) and self._fetching.cancelled():
                return []
            self._fetching.cancel()
            raise

    async def _whole(self, messages: Sequence[Received]) -> bool:
        """Whether the messages follow what is covered without a hole, or every hole was found twice and is therefore real."""
        before = [self.writer.position.covered, *(message.sequence for message in messages)]
        holes = {(last + 1, found) for last, found in pairwise(before) if found > last + 1}
        doubted = holes - self._doubted
        if not doubted:
            self._doubted.clear()
            return True
        self._doubted |= doubted
        first = min(found for _, found in doubted)
        await self._reader.reset(f"hole before {first}", self.writer.position.covered)
        return False
