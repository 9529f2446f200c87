"""The aggregate at work: reads EVENTS, LEDGER and ALERTS, stores them in DuckDB, answers ``query.<name>``."""

import asyncio
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Final, TypeVar

import nats.errors
import structlog
from faststream.nats import NatsBroker
from nats.aio.client import Client

from processors.aggregate.batches import STREAMS, Batch, compose, table_of
from processors.aggregate.ceiling import Ceiling, Exceeded
from processors.aggregate.columns import DEAD
from processors.aggregate.gathering import Gatherer, pause_s
from processors.aggregate.lines import Unreadable
from processors.aggregate.service import QueryService
from processors.aggregate.settings import AggregateSettings
from processors.aggregate.snapshot_door import SnapshotDoor
from processors.aggregate.standing import Wiped, judge
from processors.aggregate.warehouse import Offset, Resources, Warehouse, WarehouseUnusableError
from processors.runner import HaltedError, ProcessorContext
from schemas.errors import FieldError
from schemas.ids import derived_id
from service.instruments import (
    BATCH_EVENTS,
    BATCH_SECONDS,
    DEAD_LETTERS,
    END_TO_END_SECONDS,
    LAG_MESSAGES,
    READER_RESETS,
    WAREHOUSE_ROWS,
)
from streams import topology
from streams.dead_letters import bury
from streams.messages import Received
from streams.publish import publish_until_stored
from streams.reader import OrderedReader, Source

log = structlog.get_logger(__name__)

NAME: Final = "aggregate"
_LOOK_S: Final = 5.0
_SAMPLED: Final = 50
"""End-to-end times observed of one transaction: enough for a histogram, cheap at any rate."""

_SOURCES: Final = {
    topology.EVENTS: Source(topology.EVENTS, buffer_bytes=8 * 1024 * 1024),
    topology.LEDGER: Source(topology.LEDGER, buffer_bytes=4 * 1024 * 1024),
    topology.ALERTS: Source(topology.ALERTS, buffer_messages=500, buffer_bytes=1024 * 1024),
}
"""Whole streams: events, dead letters and coverage records; entries and coverage records; alert changes."""

_FINISH_S: Final = 3.0
"""How long stopping waits for what is being stored."""

Answer = TypeVar("Answer")


async def _end(tasks: set[asyncio.Task[None]]) -> None:
    """Cancels until all have ended: nats-py may swallow a cancellation."""
    left = {task for task in tasks if not task.done()}
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=0.2)
    await asyncio.gather(*tasks, return_exceptions=True)


class Aggregate:
    """The processor. One thread does all of DuckDB's writing, so the event loop stays free."""

    name = NAME

    def __init__(self, context: ProcessorContext, settings: AggregateSettings) -> None:
        self._context = context
        self._settings = settings
        self._path = context.data_directory / "warehouse" / "agentops.duckdb"
        self._trouble: dict[str, str] = {"warehouse": "not open yet"}
        self._client: Client | None = None
        self._warehouse: Warehouse | None = None
        self._service: QueryService | None = None
        self._snapshots: SnapshotDoor | None = None
        self._worker: ThreadPoolExecutor | None = None
        self._folder: ThreadPoolExecutor | None = None
        self._created: dict[str, datetime] = {}
        self._offsets: dict[str, Offset] = {}
        self._gatherer: Gatherer | None = None
        self._ceiling = Ceiling(settings.dead_letters, settings.dead_letters_window_s)
        self._facts = 0
        self._folded_s = 0.0
        self._stopping = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()

    def waiting_for(self) -> dict[str, str]:
        return dict(self._trouble)

    async def start(self) -> None:
        """Opens the warehouse, checks the streams against it, and answers queries. Raises HaltedError where a person must look."""
        self._stopping.clear()
        # A transaction is dozens of short calls; after each the thread waits for the interpreter, 5 ms at a time by default.
        sys.setswitchinterval(0.0005)
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="warehouse")
        self._folder = ThreadPoolExecutor(1, thread_name_prefix="folder")
        resources = Resources(self._settings.threads, self._settings.memory, self._settings.wal)
        try:
            self._warehouse = await self._in_thread(lambda: Warehouse.open(self._path, datetime.now(UTC), resources))
        except WarehouseUnusableError as error:
            raise HaltedError(str(error)) from error
        warehouse = self._warehouse
        self._client = await self._context.connect(NAME)
        self._offsets = await self._in_thread(warehouse.offsets)
        await self._check_streams()
        await self._in_thread(warehouse.fold)
        self._facts, self._folded_s = 0, time.monotonic()
        readers = {
            stream: OrderedReader(
                self._client, _SOURCES[stream], self._offsets[stream].applied_sequence if stream in self._offsets else 0
            )
            for stream in STREAMS
        }
        self._gatherer = Gatherer(readers, self._settings.batch_events, self._settings.batch_bytes)
        self._service = QueryService(self._client, warehouse, self._settings)
        await self._service.start()
        self._snapshots = SnapshotDoor(self._client, warehouse, self._context.data_directory / "snapshots")
        await self._snapshots.start()
        self._trouble = {}
        log.info(
            "aggregate.started",
            file=str(self._path),
            offsets={name: each.applied_sequence for name, each in self._offsets.items()},
        )

    async def run(self) -> None:
        """Stores what comes until ``stop``. Any failure to store raises: the runner begins anew from what is stored."""
        assert self._gatherer is not None
        self._idle.clear()
        stopping = asyncio.create_task(self._stopped(), name="aggregate-stopping")
        tasks = [
            *(asyncio.create_task(self._gatherer.pull(stream), name=f"aggregate-{stream}") for stream in STREAMS),
            asyncio.create_task(self._watch(), name="aggregate-watch"),
        ]
        storing = asyncio.create_task(self._store_all(), name="aggregate-store")
        try:
            done, _ = await asyncio.wait({stopping, storing, *tasks}, return_when=asyncio.FIRST_COMPLETED)
            for task in done - {stopping}:
                task.result()
        finally:
            self._stopping.set()
            # What is being stored is finished first: a transaction cannot be cancelled in its thread.
            await asyncio.wait({storing}, timeout=_FINISH_S)
            await _end({storing, stopping, *tasks})
            self._idle.set()

    async def stop(self) -> None:
        """Stops reading, finishes the transaction at hand, folds the log into the file, closes."""
        self._stopping.set()
        await self._idle.wait()
        service, self._service = self._service, None
        if service is not None:
            await service.stop()
        snapshots, self._snapshots = self._snapshots, None
        if snapshots is not None:
            await snapshots.stop()
        gatherer, self._gatherer = self._gatherer, None
        if gatherer is not None:
            for reader in gatherer.readers.values():
                await reader.close()
        client, self._client = self._client, None
        if client is not None and not client.is_closed:
            await client.close()
        worker, self._worker = self._worker, None
        folder, self._folder = self._folder, None
        if folder is not None:
            await asyncio.to_thread(folder.shutdown)
        if worker is None:
            return
        warehouse, self._warehouse = self._warehouse, None
        if warehouse is not None:
            await asyncio.get_running_loop().run_in_executor(worker, warehouse.close)
        worker.shutdown(wait=False)
        self._trouble.setdefault("warehouse", "closed")

    async def _stopped(self) -> None:
        await self._stopping.wait()

    async def _in_thread(self, work: Callable[[], Answer]) -> Answer:
        assert self._worker is not None
        return await asyncio.get_running_loop().run_in_executor(self._worker, work)

    async def _store_all(self) -> None:
        assert self._gatherer is not None
        settings, took, events = self._settings, 0.0, 0
        while not self._stopping.is_set():
            waited = time.monotonic()
            something = asyncio.create_task(self._gatherer.wait(), name="aggregate-something")
            stopping = asyncio.create_task(self._stopped(), name="aggregate-stop")
            try:
                await asyncio.wait({something, stopping}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                something.cancel()
                stopping.cancel()
            if self._stopping.is_set():
                return
            quiet = time.monotonic() - waited
            pause = pause_s(took, events, settings.share, settings.shortest_pause_s, settings.longest_pause_s)
            await self._gatherer.linger(max(settings.shortest_pause_s, pause - quiet), settings.busy_events)
            began, events = time.monotonic(), self._gatherer.events
            await self._store(self._gatherer.take())
            took = time.monotonic() - began

    async def _store(self, messages: dict[str, list[Received]]) -> None:
        assert self._warehouse is not None
        warehouse, began = self._warehouse, time.monotonic()
        batch = await self._in_thread(lambda: compose(messages))
        if batch.unreadable:
            await self._bury(batch.unreadable)
        at = datetime.now(UTC)
        await self._in_thread(lambda: warehouse.apply(batch, self._created, at))
        self._offsets = {
            **self._offsets,
            **{
                stream: Offset(stream, self._created[stream], several[-1].sequence, at, 0, 0, 0)
                for stream, several in messages.items()
            },
        }
        self._observe(batch, time.monotonic() - began, datetime.now(UTC))

    def _observe(self, batch: Batch, took_s: float, now: datetime) -> None:
        BATCH_EVENTS.labels(NAME).observe(sum(message.events for message in batch.applied))
        BATCH_SECONDS.labels(NAME).observe(took_s)
        for table, frame in batch.frames.items():
            WAREHOUSE_ROWS.labels(table).inc(frame.num_rows)
            if "flags" not in frame.column_names:
                continue
            self._facts += frame.num_rows
            arrived = frame.column("received_at")
            for row in range(0, frame.num_rows, max(1, frame.num_rows // _SAMPLED)):
                waited = now - arrived[row].as_py().replace(tzinfo=UTC)
                END_TO_END_SECONDS.observe(max(0.0, waited.total_seconds()))

    async def _fold(self, now_s: float) -> None:
        settings = self._settings
        if self._facts >= settings.fold_facts or (self._facts and now_s - self._folded_s >= settings.fold_every_s):
            assert self._warehouse is not None
            # Beside the transactions that store, in a thread and with a connection of its own: rows do not wait for it.
            folded = await asyncio.get_running_loop().run_in_executor(self._folder, self._warehouse.fold)
            log.debug("rollups.folded", facts=folded)
            self._facts, self._folded_s = max(0, self._facts - folded), time.monotonic()

    async def _bury(self, unreadable: Sequence[tuple[str, Unreadable]]) -> None:
        """Parks lines that will never be rows before what came with them is stored; afterwards, a crash would lose them."""
        assert self._client is not None
        verdict = self._ceiling.count(len(unreadable), time.monotonic())
        if isinstance(verdict, Exceeded):
            reason = f"{verdict.reason}; the first: {unreadable[0][1].reason}"
            self._trouble["dead letters"] = reason
            raise HaltedError(reason)
        for stream, each in unreadable:
            sequence = each.message.sequence
            DEAD_LETTERS.labels(NAME, "unreadable").inc()
            log.error("line.unreadable", stream=stream, sequence=sequence, position=each.position, reason=each.reason)
            if table_of(each.message.subject) is DEAD:
                # It lies among the dead letters already.
                continue
            parts = [*each.message.subject.split("."), "", ""]
            letter = bury(
                each.message, stream, each.raw, processor=NAME, reason="unreadable",
                errors=(FieldError(loc="$", msg=each.reason),), tenant=parts[1], kind=parts[2] or parts[0], position=each.position,
            )  # fmt: skip
            message_id = str(derived_id("dead", NAME, stream, str(sequence), str(each.position)))
            await publish_until_stored(self._client, letter.subject, letter.data, message_id=message_id, headers=letter.headers)

    async def _watch(self) -> None:
        """Every few seconds: are the streams still the same, how far behind are we, is there something to fold."""
        resets = 0
        while True:
            await asyncio.sleep(_LOOK_S)
            assert self._gatherer is not None
            try:
                await self._check_streams()
                self._trouble.pop("nats", None)
            except (nats.errors.Error, TimeoutError, OSError) as error:
                self._trouble["nats"] = f"no answer: {type(error).__name__}"
            now = sum(reader.resets for reader in self._gatherer.readers.values())
            READER_RESETS.labels(NAME).inc(now - resets)
            resets = now
            await self._fold(time.monotonic())

    async def _check_streams(self) -> None:
        assert self._client is not None
        behind = 0
        for stream in STREAMS:
            info = await self._client.jsm().stream_info(stream)
            assert info.created is not None
            verdict = judge(stream, self._offsets.get(stream), info.created, info.state.last_seq)
            if isinstance(verdict, Wiped):
                self._trouble["streams"] = verdict.reason
                raise HaltedError(verdict.reason)
            behind += verdict.behind
            self._created[stream] = info.created
        LAG_MESSAGES.labels(NAME).set(behind)


def attach(_: NatsBroker, context: ProcessorContext) -> Aggregate:
    """The aggregate of this process. It reads ordered streams and answers a micro service, so it needs no broker."""
    return Aggregate(context, AggregateSettings())
