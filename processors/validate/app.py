"""Validate: reads TELEMETRY in order, judges, and covers what it judged in EVENTS."""

import asyncio
import random
import sqlite3
import time
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Final
from uuid import uuid4

import nats.errors
import structlog
from faststream.nats import NatsBroker
from nats.aio.client import Client
from pydantic_settings import BaseSettings, SettingsConfigDict

from processors.runner import HaltedError, Processor, ProcessorContext
from processors.validate.catching_up import catch_up
from processors.validate.index import DuplicateIndex, IndexUnusableError
from processors.validate.judging import Limits, judge, take_apart
from processors.validate.packing import Batch, pack
from processors.validate.quota import DeadQuota
from schemas.coverage import Coverage
from service.instruments import (
    BATCH_EVENTS,
    BATCH_SECONDS,
    DEAD_LETTERS,
    DEAD_ORIGINALS_OMITTED,
    EVENTS_DUPLICATE,
    EVENTS_FLAGGED,
    EVENTS_RECEIVED,
    EVENTS_VALID,
    FENCED,
    LAG_MESSAGES,
    LOOP_ERRORS,
    READER_RESETS,
)
from streams import topology
from streams.covering import CoveredWriter, FencedError
from streams.messages import Received
from streams.reader import OrderedReader, Source

log = structlog.get_logger(__name__)

NAME: Final = "validate"
_PARTITION: Final = 0
_DAY_NS: Final = 86_400 * 10**9
_SWEPT_ROWS: Final = 500
_TOLD_EVERY_S: Final = 10.0


class ValidateSettings(BaseSettings):
    """Every field is the environment variable ``AGENTOPS_VALIDATE_<FIELD>``."""

    model_config = SettingsConfigDict(env_prefix="AGENTOPS_VALIDATE_", frozen=True, use_attribute_docstrings=True, extra="ignore")

    late_after_s: float = 3600.0
    """An event older than this on arrival is flagged ``late``."""
    future_tolerance_s: float = 300.0
    """An event further ahead than this is flagged ``from_the_future``: clocks differ by less."""
    dead_bytes_per_tenant_hour: int = 64 * 1024**2
    """Original bytes of rejected events kept for each tenant in an hour; beyond it their hash alone."""
    pace_s: float = 0.02
    """Batches follow each other at least so far apart: after a quiet spell an event leaves at once, a steady trickle shares
    batches. Each costs the server about as much as a hundred events do."""
    fetch_messages: int = 1000
    """Most messages judged for one batch."""
    batch_bytes: int = 2 * 1024**2
    """Most input bytes judged for one batch (at least one message): what keeps the loop responsive."""


def slices(messages: Sequence[Received], most_bytes: int) -> list[list[Received]]:
    """``messages`` cut into contiguous runs of at most ``most_bytes``, each of at least one."""
    runs: list[list[Received]] = []
    size = 0
    for message in messages:
        if not runs or size + len(message.data) > most_bytes:
            runs.append([])
            size = 0
        runs[-1].append(message)
        size += len(message.data)
    return runs


class Validate:
    """The processor. One instance per partition is active; another is fenced off and only costs effort."""

    name = NAME

    def __init__(self, context: ProcessorContext, settings: ValidateSettings) -> None:
        self._context = context
        self._settings = settings
        self._limits = Limits(
            late_after=timedelta(seconds=settings.late_after_s), future_tolerance=timedelta(seconds=settings.future_tolerance_s),
            duplicate_horizon=topology.EVENTS_AGE,
        )  # fmt: skip
        self._quota = DeadQuota(settings.dead_bytes_per_tenant_hour)
        self._index = DuplicateIndex(context.data_directory / "index" / f"{NAME}-{_PARTITION}.sqlite")
        self._waiting: dict[str, str] = {}
        self._client: Client | None = None
        self._doubted: set[tuple[int, int]] = set()
        self._resets = 0
        self._rejected: Counter[str] = Counter()
        self._told_at = 0.0
        self._paced = 0.0
        self._newest_ns = 0
        self._prepare()

    def _prepare(self) -> None:
        self._stopping = asyncio.Event()
        self._fetching: asyncio.Task[list[Received]] | None = None
        self._ended = asyncio.Event()
        self._ended.set()

    def waiting_for(self) -> dict[str, str]:
        """What keeps it from its work."""
        found = dict(self._waiting)
        if self._client is None or not self._client.is_connected:
            found["nats"] = "not connected"
        return found

    async def start(self) -> None:
        """Connects."""
        self._prepare()
        self._waiting = {"index": "not opened yet"}
        client = self._client = await self._context.connect(NAME)
        self._quota.fit(client.max_payload)
        self._writer = CoveredWriter(client, topology.EVENTS, NAME, _PARTITION)
        self._reader = OrderedReader(client, Source(topology.TELEMETRY, consumer=f"{NAME}-{_PARTITION}"))

    async def stop(self) -> None:
        """Finishes the batch at hand, acknowledges, closes."""
        self._stopping.set()
        if self._fetching is not None:
            self._fetching.cancel()
        await self._ended.wait()
        client, self._client = self._client, None
        if client is not None and not client.is_closed:
            await self._reader.close()
            # Closing flushes the acknowledgements.
            await client.close()
        self._index.close()

    async def run(self) -> None:
        """Judges until stopped."""
        self._ended.clear()
        try:
            await self._resume()
            while not self._stopping.is_set():
                try:
                    await self._once()
                except FencedError as error:
                    FENCED.labels(NAME).inc()
                    log.warning("validate.fenced", reason=str(error))
                    await self._rest(random.uniform(1.0, 3.0))
                    await self._resume()
                except sqlite3.Error as error:
                    LOOP_ERRORS.labels("validate.index").inc()
                    log.error("index.unusable", error=repr(error), path=str(self._index.path))
                    self._index.destroy()
                    await self._resume()
        finally:
            self._ended.set()

    async def _rest(self, pause_s: float) -> None:
        try:
            async with asyncio.timeout(pause_s):
                await self._stopping.wait()
        except TimeoutError:
            return

    async def _resume(self) -> None:
        """Goes back to what is stored: the newest record says where, EVENTS what is known."""
        attempt = 0
        while not self._stopping.is_set():
            try:
                async with asyncio.timeout(30):
                    position = await self._writer.resume()
                    replaced = await self._writer.replaced(topology.TELEMETRY)
                if replaced is not None:
                    raise HaltedError(f"{replaced}. What arrives would be acknowledged unread")
                await self._open_index()
            except (nats.errors.Error, TimeoutError, OSError) as error:
                self._waiting["nats"] = f"{type(error).__name__}: {error}"
                log.log(30 if attempt == 0 else 10, "validate.resume_again", error=repr(error))
                attempt += 1
                await self._rest(min(5.0, 0.2 * 2.0 ** min(attempt, 6)))
                continue
            await self._reader.reset("resume", position.covered)
            self._doubted.clear()
            self._waiting = {}
            log.info("validate.resumed", after=position.covered, record=position.record_sequence)
            return

    async def _open_index(self) -> None:
        client = self._client
        assert client is not None
        info = await client.jsm().stream_info(topology.EVENTS)
        identity = str(info.created)
        for attempt in (1, 2):
            try:
                if attempt == 2 or self._index.applied > info.state.last_seq:
                    self._index.destroy()
                self._index.close()
                self._index.open(identity)
                if self._index.applied > info.state.last_seq:
                    raise IndexUnusableError(f"{self._index.path}: ahead of EVENTS")
                break
            except IndexUnusableError as error:
                if attempt == 2:
                    raise
                log.warning("index.rebuilding", reason=str(error))

        def tell(text: str) -> None:
            self._waiting["index"] = text

        await catch_up(client, self._index, tell)

    async def _fetch(self) -> list[Received]:
        """What there is to read; nothing when asked to stop meanwhile."""
        self._fetching = asyncio.create_task(self._reader.fetch(self._settings.fetch_messages, 1.0), name=f"{NAME}-fetch")
        try:
            return await self._fetching
        except asyncio.CancelledError:
            if self._stopping.is_set() and self._fetching.cancelled():
                return []
            self._fetching.cancel()
            raise

    async def _once(self) -> None:
        if (left := self._paced - time.monotonic()) > 0:
            await self._rest(left)
        messages = await self._fetch()
        if self._reader.resets > self._resets:
            READER_RESETS.labels(NAME).inc(self._reader.resets - self._resets)
            self._resets = self._reader.resets
        if not messages:
            LAG_MESSAGES.labels(NAME).set(0)
            self._index.flush()
            # By the stream's time: this machine's clock may jump, and what is swept is forgotten for good.
            self._index.sweep(self._newest_ns // _DAY_NS - topology.EVENTS_AGE.days - 1, _SWEPT_ROWS)
            return
        LAG_MESSAGES.labels(NAME).set(self._reader.pending)
        self._newest_ns = messages[-1].stored_ns
        if not await self._whole(messages):
            return
        self._paced = time.monotonic() + self._settings.pace_s
        for run in slices(messages, self._settings.batch_bytes):
            await self._cover(run)

    async def _whole(self, messages: Sequence[Received]) -> bool:
        """Whether the messages follow what is covered without a hole, or every hole was found twice and is therefore real."""
        before = [self._writer.position.covered, *(message.sequence for message in messages)]
        holes = {(last + 1, found) for last, found in pairwise(before) if found > last + 1}
        doubted = holes - self._doubted
        if not doubted:
            self._doubted.clear()
            return True
        self._doubted |= doubted
        first = min(found for _, found in doubted)
        await self._reader.reset(f"hole before {first}", self._writer.position.covered)
        return False

    async def _cover(self, messages: Sequence[Received]) -> None:
        """Judges ``messages`` and stores everything that follows from them; returns when they are acknowledged."""
        began = time.perf_counter()
        opened = [take_apart(message, self._limits) for message in messages]
        known = self._index.known([candidate.key for one in opened for candidate in one.candidates])
        for batch in pack(judge(opened, known), self._quota):
            first = self._writer.position.covered + 1
            last = batch.messages[-1].sequence
            coverage = Coverage(
                batch_id=uuid4().hex, processor=NAME, partition=_PARTITION, instance=self._context.instance,
                input_stream=topology.TELEMETRY, first_sequence=first, last_sequence=last, messages=len(batch.messages),
                missing=last - first + 1 - len(batch.messages), received=batch.received, valid=batch.valid, dead=batch.dead,
                duplicates=batch.duplicates, valid_by_kind=dict(batch.valid_by_kind), at=datetime.now(UTC),
            )  # fmt: skip
            assert coverage.received == coverage.valid + coverage.dead + coverage.duplicates, coverage
            if coverage.missing:
                log.warning("telemetry.missing", first=first, last=last, missing=coverage.missing)
            position = await self._writer.commit(batch.outputs, coverage)
            self._index.add(batch.rows, position.record_sequence, batch.messages[-1].stored_ns // _DAY_NS)
            await self._reader.acknowledge(batch.messages)
            self._count(batch, time.perf_counter() - began)
            began = time.perf_counter()
        self._index.sweep(self._newest_ns // _DAY_NS - topology.EVENTS_AGE.days - 1, _SWEPT_ROWS)

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


def attach(broker: NatsBroker, context: ProcessorContext) -> Processor:
    """The processor with its settings from the environment. It reads in batches and in order, which the broker does not."""
    del broker
    return Validate(context, ValidateSettings())
