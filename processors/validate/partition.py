"""One partition's work: judging what was read of TELEMETRY, and storing what follows from it with the record of it."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Final
from uuid import uuid4

import structlog
from nats.aio.client import Client

from processors.validate import large_content
from processors.validate.judging import Limits, Opened, judge, take_apart
from processors.validate.memory import Memory
from processors.validate.packing import Batch, pack
from processors.validate.purging import Purger
from processors.validate.quota import DeadQuota
from schemas.coverage import Coverage
from service.instruments import (
    BATCH_EVENTS,
    BATCH_SECONDS,
    CONTENT_BYTES_DROPPED,
    DEAD_LETTERS,
    DEAD_ORIGINALS_OMITTED,
    EVENTS_DUPLICATE,
    EVENTS_FLAGGED,
    EVENTS_RECEIVED,
    EVENTS_VALID,
    FINDINGS_REDACTED,
    VALUES_TRUNCATED,
)
from streams import progress, subjects, topology
from streams.content import Policies
from streams.covering import CoveredWriter
from streams.messages import Received

log = structlog.get_logger(__name__)

NAME: Final = "validate"
_TOLD_EVERY_S: Final = 10.0
_ADVANCED_EVERY_S: Final = 1.0
_LARGE_BYTES: Final = 65_536
_TURN_S: Final = 0.1


class RepartitionedError(Exception):
    """TELEMETRY is cut into more partitions than it was. Trying again helps, after looking into how many."""


@dataclass(slots=True)
class Judgement:
    """What all partitions of an instance judge by."""

    instance: str
    limits: Limits
    quota: DeadQuota
    memory: Memory
    purger: Purger
    policies: Policies


class PartitionWork:
    """What the loop of one of ``partitions`` partitions does."""

    def __init__(
        self, client: Client, number: int, partitions: int, shared: Judgement, may_take: Callable[[], bool],
        tell: Callable[[str], None],
    ) -> None:  # fmt: skip
        self._client = client
        self._number = number
        self._partitions = partitions
        self._shared = shared
        self._may_take = may_take
        self._tell = tell
        self._rejected: Counter[str] = Counter()
        self._told_at = 0.0
        self._advanced_at = 0.0
        self.writer: CoveredWriter | None = None
        """The loop's."""

    @property
    def _alone(self) -> bool:
        return self._partitions == 1

    def may_take(self) -> bool:
        """Whether this instance has not yet its share of the partitions."""
        return self._may_take()

    async def stand_by(self) -> None:
        """Follows what the others store."""
        async with self._shared.memory.judging:
            await self._shared.memory.keep_up()

    async def open(self) -> None:
        """Knows what is stored by now."""
        async with self._shared.memory.judging:
            await self._shared.memory.catch_up(self._tell)
        self._shared.purger.covered(self._writer().position.covered)

    async def idle(self) -> None:
        """Forgets a little, keeps up with the others, and moves on past what is none of this partition's business."""
        if self._alone:
            self._shared.memory.sweep()
            return
        async with self._shared.memory.judging:
            await self._shared.memory.keep_up()
        if time.monotonic() - self._advanced_at >= _ADVANCED_EVERY_S:
            self._advanced_at = time.monotonic()
            await self._advance()

    async def _opened(self, messages: Sequence[Received]) -> list[Opened]:
        """What they hold. A hostile megabyte takes seconds to be looked through: then others get their turn, and NATS its answers."""
        limits, rules_of = self._shared.limits, self._shared.policies.rules
        opened: list[Opened] = []
        turn = time.monotonic()
        for message in messages:
            if len(message.data) > _LARGE_BYTES:
                opened.append(await asyncio.to_thread(take_apart, message, limits, rules_of))
            else:
                opened.append(take_apart(message, limits, rules_of))
                if time.monotonic() - turn < _TURN_S:
                    continue
                await asyncio.sleep(0)
            turn = time.monotonic()
        return opened

    def _writer(self) -> CoveredWriter:
        assert self.writer is not None
        return self.writer

    async def _advance(self) -> None:
        """Covers what of TELEMETRY belongs to other partitions, so that it can be purged."""
        position = self._writer().position.covered
        last = (await self._client.jsm().stream_info(topology.TELEMETRY)).state.last_seq
        if last <= position or await progress.first_after(self._client, self._number, self._partitions, position) is not None:
            return
        await self._writer().commit([], self._coverage(Batch(), position + 1, last))
        self._shared.purger.covered(last)

    def _coverage(self, batch: Batch, first: int, last: int) -> Coverage:
        """The record of a batch. With several partitions the sequences between belong to others, not to nobody."""
        return Coverage(
            batch_id=uuid4().hex, processor=NAME, partition=self._number, instance=self._shared.instance,
            input_stream=topology.TELEMETRY, first_sequence=first, last_sequence=last, messages=len(batch.messages),
            missing=last - first + 1 - len(batch.messages) if self._alone else 0, received=batch.received, valid=batch.valid,
            dead=batch.dead, duplicates=batch.duplicates, valid_by_kind=dict(batch.valid_by_kind), at=datetime.now(UTC),
        )  # fmt: skip

    def _own(self, messages: Sequence[Received]) -> Sequence[Received]:
        """The messages as they were published; raises RepartitionedError where one belongs to another partition."""
        if self._alone:
            if any(subjects.is_partitioned(message.subject) for message in messages):
                raise RepartitionedError
            return messages
        return [replace(message, subject=subjects.without_partition(message.subject)[0]) for message in messages]

    async def cover(self, messages: Sequence[Received]) -> None:
        """Judges ``messages`` and stores everything that follows from them."""
        messages = self._own(messages)
        memory = self._shared.memory
        async with memory.judging:
            if not self._alone:
                await memory.keep_up()
            began = time.perf_counter()
            opened = await self._opened(messages)
            known = memory.known([candidate.key for one in opened for candidate in one.candidates])
            judged = judge(opened, known)
            await large_content.keep(self._client, judged)
            self._count_private(opened)
            for batch in pack(judged, self._shared.quota, rules_of=self._shared.policies.rules):
                first = self._writer().position.covered + 1
                coverage = self._coverage(batch, first, batch.messages[-1].sequence)
                assert coverage.received == coverage.valid + coverage.dead + coverage.duplicates, coverage
                if coverage.missing:
                    log.warning("telemetry.missing", first=first, last=coverage.last_sequence, missing=coverage.missing)
                position = await self._writer().commit(batch.outputs, coverage)
                stored = position.first_sequence, position.record_sequence
                memory.add(batch.rows, stored, self._alone, batch.messages[-1].stored_ns)
                self._shared.purger.covered(position.covered)
                self._count(batch, time.perf_counter() - began)
                began = time.perf_counter()

    @staticmethod
    def _count_private(opened: Sequence[Opened]) -> None:
        for one in opened:
            if one.spared is None:
                continue
            CONTENT_BYTES_DROPPED.labels(NAME).inc(one.spared.dropped_bytes)
            VALUES_TRUNCATED.labels(NAME).inc(one.spared.truncated)
            for kind, count in one.spared.found.items():
                FINDINGS_REDACTED.labels(NAME, kind).inc(count)

    def _count(self, batch: Batch, seconds: float) -> None:
        EVENTS_RECEIVED.labels(NAME).inc(batch.received)
        EVENTS_DUPLICATE.inc(batch.duplicates)
        BATCH_EVENTS.labels(NAME).observe(batch.received)
        BATCH_SECONDS.labels(NAME).observe(seconds)
        for kind, count in batch.valid_by_kind.items():
            EVENTS_VALID.labels(kind).inc(count)
        for reason, count in batch.dead_by_reason.items():
            DEAD_LETTERS.labels(NAME, reason).inc(count)
        for flag, count in batch.flagged.items():
            EVENTS_FLAGGED.labels(flag).inc(count)
        if batch.omitted:
            DEAD_ORIGINALS_OMITTED.labels(NAME).inc(batch.omitted)
        log.debug("batch.covered", messages=len(batch.messages), received=batch.received, dead=batch.dead, seconds=seconds)
        if batch.dead:
            self._rejected.update(batch.dead_by_reason)
            now = time.monotonic()
            if now - self._told_at > _TOLD_EVERY_S:
                log.warning("events.rejected", reasons=dict(self._rejected), last_sequence=batch.messages[-1].sequence)
                self._rejected.clear()
                self._told_at = now
