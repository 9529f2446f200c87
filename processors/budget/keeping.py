"""One life of the budget processor: books restored, LEDGER read in order, crossings told, flags and commands sent.

Whatever touches a book holds the lock until what follows from it is written. Nothing here waits for the warehouse: what was
spent before a budget was set is summed up beside, while new spending is counted already.
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Final
from uuid import uuid4

import nats.errors
import structlog
from nats.aio.client import Client

from processors.budget.answering import BudgetService
from processors.budget.books import Gap
from processors.budget.checkpoints import Checkpoints, Kept, ReadUpTo
from processors.budget.crossings import told_already
from processors.budget.enforcing import flag, stands
from processors.budget.recounting import recount
from processors.budget.settings import BudgetSettings
from processors.budget.shelf import Shelf, opened
from processors.budget.spending import spends
from processors.budget.standing import standing
from schemas.budgets import BudgetDefinition, BudgetFlag, BudgetsPage, BudgetsParams, budget_key
from schemas.state import AgentRecord
from service.instruments import BUDGET_CROSSINGS, BUDGET_DETECTION_SECONDS, LAG_MESSAGES, LOOP_ERRORS
from streams import subjects, topology
from streams.covering import FencedError
from streams.kv import Entry, TypedBucket
from streams.messages import CONTENT_TYPE, JSON, Received
from streams.publish import NotStoredError, publish
from streams.reader import OrderedReader, Source

log = structlog.get_logger(__name__)

NAME: Final = "budget"
_TICK_S: Final = 0.25
_FETCH_S: Final = 0.25
_FETCH_MESSAGES: Final = 100
"""Taken in one go; then others have their turn."""
_REFRESH_S: Final = 10.0
"""A change of a definition that the watch missed is found after this long."""
_SPARING: Final = 20.0
"""Checkpoints take at most this fraction of the time."""
_TTL: Final = "Nats-TTL"
_TRANSIENT: Final = (nats.errors.Error, TimeoutError, OSError)


def _now() -> datetime:
    return datetime.now(UTC)


class Keeping:
    """Begin it, run it; it ends when ``stopping`` is set."""

    def __init__(
        self, client: Client, settings: BudgetSettings, checkpoints: Checkpoints, shelf: Shelf, position: int,
        definitions: TypedBucket[BudgetDefinition], flags: TypedBucket[BudgetFlag], registry: TypedBucket[AgentRecord],
        stopping: asyncio.Event,
    ) -> None:  # fmt: skip
        self.listening = False
        """Whether everything stored has been read once."""
        self._client = client
        self._settings = settings
        self._checkpoints = checkpoints
        self._shelf = shelf
        self._position = position
        self._saved_position = -1
        self._definitions = definitions
        self._flags = flags
        self._registry_bucket = registry
        self._registry: dict[str, AgentRecord] = {}
        self._seen: dict[str, int] = {}
        self._stopping = stopping
        self._lock = asyncio.Lock()
        self._reader: OrderedReader | None = None
        self._reading: frozenset[str] = frozenset()
        self._begin_at: int | None = None
        self._service = BudgetService(client, self.page)
        self._save_after = 0.0

    @classmethod
    async def begin(cls, client: Client, settings: BudgetSettings, stopping: asyncio.Event) -> "Keeping":
        """Goes on from the last checkpoints; budgets without one are summed up anew."""
        checkpoints = await Checkpoints.open(client, uuid4().hex)
        definitions = await TypedBucket.open(client, topology.BUDGETS, BudgetDefinition)
        flags = await TypedBucket.open(client, topology.BUDGET_FLAGS, BudgetFlag)
        registry = await TypedBucket.open(client, topology.REGISTRY, AgentRecord)
        last = (await client.jsm().stream_info(topology.LEDGER)).state.last_seq
        position, saved = await checkpoints.load()
        if position is not None and position.sequence > last:
            log.warning("budget.stream_replaced", saved=position.sequence, last=last)
            position, saved = None, {key: Kept(key, kept.book, kept.revision) for key, kept in saved.items()}
            for kept in saved.values():
                kept.book.applied = -1
        shelf = Shelf()
        start = position.sequence if position else min((kept.book.applied for kept in saved.values()), default=last)
        life = cls(client, settings, checkpoints, shelf, max(0, start), definitions, flags, registry, stopping)
        life._saved_position = position.sequence if position else -1
        await life._restore(saved, last)
        for key, present in (await flags.all()).items():
            if (found := shelf.books.get(key)) is not None:
                found.flag = present
            else:
                await flags.delete(key)
        log.info("budget.restored", budgets=len(shelf.books), position=life._position, ledger=last)
        return life

    async def _restore(self, saved: dict[str, Kept], last: int) -> None:
        lost = set()
        async for entry in self._definitions.watch(once=True):
            definition = entry.value
            if definition is None or not self._fits(entry.key, definition):
                continue
            self._seen[entry.key] = entry.revision
            kept = saved.pop(entry.key, None)
            if kept is None or kept.book.applied < 0 or not kept.book.redefine(definition, entry.revision):
                fresh = opened(definition, entry.revision, last, _now(), self._settings.future_tolerance_s)
                fresh.revision = kept.revision if kept is not None else 0
                kept = fresh
                lost.add(definition.tenant_id)
            kept.unsaved = True
            self._shelf.put(kept)
        for key in saved:
            await self._checkpoints.forget(key)
        for tenant in lost:
            self._shelf.told |= await told_already(self._client, tenant)

    def _fits(self, key: str, definition: BudgetDefinition) -> bool:
        if key != budget_key(definition.tenant_id, definition.budget_id):
            log.error("budget.left_aside", key=key, reason="its key is not <tenant>.<budget_id>")
            return False
        if key not in self._shelf.books and len(self._shelf.books) >= self._settings.max_budgets:
            log.error("budget.left_aside", key=key, reason=f"{self._settings.max_budgets} budgets are watched already")
            return False
        return True

    async def run(self) -> None:
        """Keeps the books until asked to stop, then writes a last checkpoint. Raises FencedError."""
        await self._service.start()
        try:
            async with asyncio.TaskGroup() as group:
                loops = [
                    group.create_task(self._again(work), name=f"{NAME}-{work.__name__.strip('_')}")
                    for work in (
                        self._follow_ledger, self._follow_definitions, self._refresh, self._follow_registry, self._tick,
                        self._recount,
                    )
                ]  # fmt: skip
                await self._stopping.wait()
                async with self._lock:
                    try:
                        await self._checkpoint()
                    except _TRANSIENT as error:
                        log.warning("budget.not_saved", error=repr(error))
                    for loop in loops:
                        loop.cancel()
        except BaseExceptionGroup as errors:
            fenced = errors.subgroup(FencedError)
            if fenced is None:
                raise
            raise FencedError("another instance keeps the books") from errors
        finally:
            await self._service.stop()
            if self._reader is not None:
                await self._reader.close()

    async def _again(self, work: Callable[[], Awaitable[None]]) -> None:
        """Waits transient trouble out."""
        while not self._stopping.is_set():
            try:
                await work()
            except _TRANSIENT as error:
                LOOP_ERRORS.labels(NAME).inc()
                log.warning("budget.again", work=work.__name__.strip("_"), error=repr(error))
            await self._pause(_TICK_S)

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            return

    async def _follow_ledger(self) -> None:
        while not self._stopping.is_set():
            reader = await self._current_reader()
            if reader is None:
                self.listening = True
                await self._pause(_TICK_S)
                continue
            for message in await reader.fetch(_FETCH_MESSAGES, _FETCH_S):
                async with self._lock:
                    await self._take(message)
            self.listening = self.listening or reader.caught_up

    async def _current_reader(self) -> OrderedReader | None:
        """Reads the tenants that have budgets, and no others."""
        async with self._lock:
            tenants = self._shelf.tenants
            if tenants != self._reading:
                if self._reader is not None:
                    await self._reader.close()
                # A new tenant's entries begin where its book begins, which the others may have passed by now.
                start = self._position if self._begin_at is None else min(self._position, self._begin_at)
                filters = tuple(subject for tenant in sorted(tenants) for subject in subjects.ledger_of(tenant))
                self._reader = OrderedReader(self._client, Source(topology.LEDGER, filters), start) if filters else None
                self._reading, self._begin_at = tenants, None
            return self._reader

    async def _take(self, message: Received) -> None:
        tenant = message.subject.split(".", 2)[1]
        spent, wrong = spends(message.data, self._settings.tolerance, self._shelf.tenant(tenant).wanted)
        if wrong:
            LOOP_ERRORS.labels(NAME).inc()
            log.error("ledger.unreadable", sequence=message.sequence, lines=len(wrong), error=wrong[0][:300])
        for kept in list(self._shelf.take(tenant, message.sequence, spent, message.stored_at)):
            await self._follow_up(kept, message.stored_at)
        self._position = max(self._position, message.sequence)

    async def _follow_up(self, kept: Kept, since: datetime | None = None) -> None:
        """Flags first, because they stop spending; then what is told, from the checkpoint on."""
        hits = self._shelf.judge(kept, self._registry, _now())
        if kept.book.definition.enforcement == "deny" or kept.flag is not None:
            await self._show_flag(kept)
        if kept.to_save:
            await self._save(kept)
        if hits:
            latency = None if since is None else (_now() - since).total_seconds()
            if latency is not None:
                BUDGET_DETECTION_SECONDS.observe(max(0.0, latency))
            BUDGET_CROSSINGS.labels(kept.book.definition.enforcement).inc(hits)
            log.warning("budget.threshold_hit", budget=kept.key, thresholds=hits, detected_s=latency)
        await self._deliver(kept)

    async def _show_flag(self, kept: Kept) -> None:
        if stands(kept.flag, kept.book):
            return
        wanted = flag(kept.book)
        try:
            await (self._flags.delete(kept.key) if wanted is None else self._flags.put(kept.key, wanted))
        except _TRANSIENT as error:
            log.warning("budget.flag_not_written", budget=kept.key, error=repr(error))
            return
        kept.flag = wanted
        if wanted is None:
            log.info("budget.flag_cleared", budget=kept.key)
        else:
            log.warning("budget.flag_set", budget=kept.key, until=wanted.until.isoformat(), reason=wanted.reason)

    async def _save(self, kept: Kept) -> None:
        try:
            await self._checkpoints.save(kept)
        except _TRANSIENT as error:
            # The next tick tries again; until it is written nothing is told.
            log.warning("budget.not_saved", budget=kept.key, error=repr(error))

    async def _deliver(self, kept: Kept) -> None:
        while kept.outbox and not kept.to_save:
            item = kept.outbox[0]
            headers = {CONTENT_TYPE: JSON} | ({_TTL: f"{item.ttl_s}s"} if item.ttl_s else {})
            try:
                await publish(self._client, item.subject, item.data.encode(), message_id=item.message_id, headers=headers)
            except NotStoredError as error:
                log.warning("budget.not_told", budget=kept.key, subject=item.subject, error=str(error))
                return
            del kept.outbox[0]
            kept.unsaved = True

    async def _follow_definitions(self) -> None:
        async for entry in self._definitions.watch():
            async with self._lock:
                await self._define(entry)

    async def _refresh(self) -> None:
        suspected: set[str] = set()
        while not self._stopping.is_set():
            await self._pause(_REFRESH_S)
            present = await self._definitions.keys()
            async with self._lock:
                missing = {key for key in self._shelf.books if key not in present}
                # Twice: one may have been set while the others were listed.
                for key in missing & suspected:
                    await self._undefine(key)
                suspected = missing

    async def _define(self, entry: Entry[BudgetDefinition]) -> None:
        if entry.revision <= self._seen.get(entry.key, 0):
            return
        self._seen[entry.key] = entry.revision
        if entry.value is None:
            await self._undefine(entry.key)
            return
        definition = entry.value
        if not self._fits(entry.key, definition):
            return
        kept = self._shelf.books.get(entry.key)
        if kept is None or not kept.book.redefine(definition, entry.revision):
            last = (await self._client.jsm().stream_info(topology.LEDGER)).state.last_seq
            fresh = opened(definition, entry.revision, last, _now(), self._settings.future_tolerance_s)
            if kept is not None:
                fresh.revision, fresh.flag, fresh.outbox = kept.revision, kept.flag, kept.outbox
            kept = fresh
            if definition.tenant_id not in self._reading:
                self._begin_at = last if self._begin_at is None else min(last, self._begin_at)
                if not self._reading:
                    self._position = max(self._position, last)
            self._shelf.put(kept)
        kept.unsaved = True
        log.info("budget.defined", budget=entry.key, limit_usd=str(definition.limit_usd), enforcement=definition.enforcement)
        await self._follow_up(kept)

    async def _undefine(self, key: str) -> None:
        kept = self._shelf.remove(key)
        if kept is None:
            return
        await self._checkpoints.forget(key)
        if kept.flag is not None:
            await self._flags.delete(key)
        log.info("budget.deleted", budget=key)

    async def _follow_registry(self) -> None:
        async for entry in self._registry_bucket.watch():
            if entry.value is None:
                self._registry.pop(entry.key, None)
            else:
                self._registry[entry.key] = entry.value

    async def _tick(self) -> None:
        while not self._stopping.is_set():
            await self._pause(_TICK_S)
            reader = self._reader
            LAG_MESSAGES.labels(NAME).set(reader.pending if reader is not None else 0)
            async with self._lock:
                # While entries wait to be read, their time is the books' time.
                if reader is None or reader.caught_up:
                    now = _now()
                    for kept in self._shelf.books.values():
                        kept.book.advance(now)
                for kept in list(self._shelf.books.values()):
                    await self._follow_up(kept)
                if asyncio.get_running_loop().time() >= self._save_after:
                    await self._checkpoint()

    async def _recount(self) -> None:
        """Sums up what is missing, one after the other; those that are watched go on meanwhile."""
        while not self._stopping.is_set():
            for key in list(self._shelf.incomplete):
                kept = self._shelf.books.get(key)
                gaps = [] if kept is None else kept.book.gaps()
                if kept is None or not gaps:
                    self._shelf.incomplete.discard(key)
                    continue
                for gap in gaps:
                    await self._fill(kept, gap)
            await self._pause(_TICK_S / 5)

    async def _fill(self, kept: Kept, gap: Gap) -> None:
        definition = kept.book.definition
        parts = await recount(
            self._client, definition, gap, tolerance_s=self._settings.future_tolerance_s,
            patience_s=self._settings.warehouse_patience_s,
        )  # fmt: skip
        async with self._lock:
            if self._shelf.books.get(kept.key) is not kept:
                return
            kept.book.fill(gap, parts)
            kept.unsaved = True
            log.info(
                "budget.counted", budget=kept.key, period=gap.span.start.isoformat() if gap.key is not None else "last hour",
                entries=sum(part.entries for part in parts), up_to=gap.up_to,
            )  # fmt: skip
            await self._follow_up(kept)

    async def _checkpoint(self) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        waiting = [kept for kept in self._shelf.books.values() if kept.unsaved]
        if waiting or self._position != self._saved_position:
            await self._checkpoints.save_all(waiting, ReadUpTo(sequence=self._position, at=_now()))
            self._saved_position = self._position
        self._save_after = loop.time() + max(self._settings.checkpoint_s, _SPARING * (loop.time() - began))

    def page(self, params: BudgetsParams) -> BudgetsPage:
        """How budgets stand now."""
        now = _now()
        if self._reader is None or self._reader.caught_up:
            for kept in self._shelf.books.values():
                kept.book.advance(now)
        chosen = [
            kept.book
            for _, kept in sorted(self._shelf.books.items())
            if params.tenant in {None, kept.book.definition.tenant_id} and params.budget in {None, kept.book.definition.budget_id}
        ]
        return BudgetsPage(budgets=tuple(map(standing, chosen)), as_of=now, ledger_sequence=self._position)
