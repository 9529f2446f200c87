"""One life of the budget processor: books restored, LEDGER read in order, crossings told, flags and commands sent.

Whatever touches a book holds the lock until what follows from it is written. Nothing here waits for the warehouse: what was
spent before a budget was set is summed up beside, while new spending is counted already.
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Final
from uuid import uuid4

import structlog
from nats.aio.client import Client

from processors.budget.acting import TRANSIENT, Acting
from processors.budget.answering import BudgetService
from processors.budget.checkpoints import Checkpoints, Kept, ReadUpTo
from processors.budget.defining import LOST, Defining
from processors.budget.following import Following
from processors.budget.gaps import fill, gaps
from processors.budget.recounting import recount
from processors.budget.settings import BudgetSettings
from processors.budget.shelf import Shelf
from processors.budget.spending import spends
from processors.budget.standing import standing
from processors.budget.tallies import Gap
from processors.standby import Turn
from schemas.budgets import BudgetDefinition, BudgetFlag, BudgetsPage, BudgetsParams
from schemas.state import AgentRecord
from service.instruments import LAG_MESSAGES, LOOP_ERRORS
from streams import subjects, topology
from streams.changing import RecordChanges
from streams.covering import FencedError
from streams.kv import TypedBucket
from streams.messages import Received

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


def _now() -> datetime:
    return datetime.now(UTC)


class Keeping:
    """Begin it, run it; it ends when ``stopping`` is set."""

    def __init__(
        self, client: Client, settings: BudgetSettings, checkpoints: Checkpoints, shelf: Shelf, ledger: Following,
        acting: Acting, defining: Defining, definitions: TypedBucket[BudgetDefinition], registry: TypedBucket[AgentRecord],
        turn: Turn, stopping: asyncio.Event,
    ) -> None:  # fmt: skip
        self.listening = False
        """Whether everything stored has been read once."""
        self.ledger = ledger
        """What is read."""
        self._client = client
        self._settings = settings
        self._checkpoints = checkpoints
        self._shelf = shelf
        self._acting = acting
        self._defining = defining
        self._definitions = definitions
        self._registry = registry
        self._turn = turn
        self._stopping = stopping
        self._lock = asyncio.Lock()
        self._service = BudgetService(client, self.page)
        self._changes = RecordChanges(client, subjects.BUDGETS, topology.BUDGETS, BudgetDefinition, "budget_id")
        self._saved_position = -1
        self._save_after = 0.0

    @classmethod
    async def begin(cls, client: Client, settings: BudgetSettings, turn: Turn, stopping: asyncio.Event) -> "Keeping":
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
                kept.book.applied = LOST
        start = position.sequence if position else min((kept.book.applied for kept in saved.values()), default=last)
        shelf, ledger = Shelf(), Following(client, max(0, start))
        acting = Acting(client, checkpoints, flags, shelf, turn)
        defining = Defining(client, settings, checkpoints, shelf, ledger, acting, definitions, flags)
        life = cls(client, settings, checkpoints, shelf, ledger, acting, defining, definitions, registry, turn, stopping)
        life._saved_position = position.sequence if position else -1
        await defining.restore(saved, last)
        log.info("budget.restored", budgets=len(shelf.books), position=ledger.position, ledger=last)
        return life

    async def run(self) -> None:
        """Keeps the books until asked to stop, then writes a last checkpoint. Raises FencedError."""
        await self._service.start()
        await self._changes.start()
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
                    except TRANSIENT as error:
                        log.warning("budget.not_saved", error=repr(error))
                    for loop in loops:
                        loop.cancel()
        except BaseExceptionGroup as errors:
            fenced = errors.subgroup(FencedError)
            if fenced is None:
                raise
            raise FencedError("another instance keeps the books") from errors
        finally:
            await self._changes.stop()
            await self._service.stop()
            await self.ledger.close()

    async def _again(self, work: Callable[[], Awaitable[None]]) -> None:
        """Waits transient trouble out."""
        while not self._stopping.is_set():
            try:
                await work()
            except TRANSIENT as error:
                LOOP_ERRORS.labels(NAME).inc()
                log.warning("budget.again", work=work.__name__.strip("_"), error=repr(error))
            except FencedError:
                # The other loops see it by themselves, even one that a cancellation does not reach.
                self._stopping.set()
                raise
            await self._pause(_TICK_S)

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            return

    async def _follow_ledger(self) -> None:
        while not self._stopping.is_set():
            async with self._lock:
                reader = await self.ledger.reader(self._shelf.tenants)
            if reader is None:
                self.listening = True
                await self._pause(_TICK_S)
                continue
            for message in await reader.fetch(_FETCH_MESSAGES, _FETCH_S):
                async with self._lock:
                    await self._take(message)
            self.listening = self.listening or reader.caught_up

    async def _take(self, message: Received) -> None:
        tenant = message.subject.split(".", 2)[1]
        spent, wrong = spends(message.data, self._settings.tolerance, self._shelf.tenant(tenant).wanted)
        if wrong:
            LOOP_ERRORS.labels(NAME).inc()
            log.error("ledger.unreadable", sequence=message.sequence, lines=len(wrong), error=wrong[0][:300])
        for kept in list(self._shelf.take(tenant, message.sequence, spent, message.stored_at)):
            await self._acting.follow_up(kept, message.stored_at)
        self.ledger.position = max(self.ledger.position, message.sequence)

    async def _follow_definitions(self) -> None:
        async for entry in self._definitions.watch():
            async with self._lock:
                await self._defining.take(entry)

    async def _refresh(self) -> None:
        while not self._stopping.is_set():
            await self._pause(_REFRESH_S)
            present = set(await self._definitions.keys())
            async with self._lock:
                await self._defining.compare(present)

    async def _follow_registry(self) -> None:
        async for entry in self._registry.watch():
            if entry.value is None:
                self._acting.registry.pop(entry.key, None)
            else:
                self._acting.registry[entry.key] = entry.value

    async def _tick(self) -> None:
        while not self._stopping.is_set():
            await self._pause(_TICK_S)
            LAG_MESSAGES.labels(NAME).set(self.ledger.pending)
            async with self._lock:
                self._advance(_now())
                for kept in list(self._shelf.books.values()):
                    await self._acting.follow_up(kept)
                await self._defining.take_leave()
                if asyncio.get_running_loop().time() >= self._save_after:
                    await self._checkpoint()

    def _advance(self, now: datetime) -> None:
        # While entries wait to be read, their time is the books' time.
        if self.ledger.caught_up:
            for kept in self._shelf.books.values():
                kept.book.advance(now)

    async def _recount(self) -> None:
        """Sums up what is missing, one after the other; those that are watched go on meanwhile."""
        while not self._stopping.is_set():
            for key in list(self._shelf.incomplete):
                kept = self._shelf.books.get(key)
                missing = [] if kept is None else gaps(kept.book)
                if kept is None or not missing:
                    self._shelf.incomplete.discard(key)
                    continue
                for gap in missing:
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
            fill(kept.book, gap, parts)
            kept.unsaved = True
            log.info(
                "budget.counted", budget=kept.key, period=gap.span.start.isoformat() if gap.key is not None else "last hour",
                entries=sum(part.entries for part in parts), up_to=gap.up_to,
            )  # fmt: skip
            await self._acting.follow_up(kept)

    async def _checkpoint(self) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        waiting = [kept for kept in self._shelf.books.values() if kept.unsaved]
        if waiting or self.ledger.position != self._saved_position:
            await self._turn.mine()
            await self._checkpoints.save_all(waiting, ReadUpTo(sequence=self.ledger.position, at=_now()))
            self._saved_position = self.ledger.position
        self._save_after = loop.time() + max(self._settings.checkpoint_s, _SPARING * (loop.time() - began))

    def page(self, params: BudgetsParams) -> BudgetsPage:
        """How budgets stand now."""
        now = _now()
        self._advance(now)
        chosen = [
            kept.book
            for _, kept in sorted(self._shelf.books.items())
            if params.tenant in {None, kept.book.definition.tenant_id} and params.budget in {None, kept.book.definition.budget_id}
        ]
        return BudgetsPage(budgets=tuple(map(standing, chosen)), as_of=now, ledger_sequence=self.ledger.position)
