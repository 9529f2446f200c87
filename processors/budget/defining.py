"""From definitions to books: a budget is set, changed, or deleted."""

from datetime import UTC, datetime
from typing import Final

import structlog
from nats.aio.client import Client

from processors.budget.acting import Acting
from processors.budget.checkpoints import Checkpoints, Kept
from processors.budget.crossings import told_already
from processors.budget.following import Following
from processors.budget.judging import end, redefine
from processors.budget.settings import BudgetSettings
from processors.budget.shelf import Shelf, opened, word
from schemas.budgets import BudgetDefinition, BudgetFlag, budget_key
from streams import topology
from streams.kv import Entry, TypedBucket

log = structlog.get_logger(__name__)

LOST: Final = -1
"""``applied`` of a book whose ledger is another now."""


def _now() -> datetime:
    return datetime.now(UTC)


class Defining:
    """Keeps the shelf as the bucket ``budgets`` says."""

    def __init__(
        self, client: Client, settings: BudgetSettings, checkpoints: Checkpoints, shelf: Shelf, ledger: Following, acting: Acting,
        definitions: TypedBucket[BudgetDefinition], flags: TypedBucket[BudgetFlag],
    ) -> None:  # fmt: skip
        self._client = client
        self._settings = settings
        self._checkpoints = checkpoints
        self._shelf = shelf
        self._ledger = ledger
        self._acting = acting
        self._definitions = definitions
        self._flags = flags
        self._seen: dict[str, int] = {}
        self._suspected: set[str] = set()
        self._leaving: dict[str, Kept] = {}
        """Deleted, and not told so yet."""

    async def restore(self, saved: dict[str, Kept], last: int) -> None:
        """Goes on with the books that were saved; budgets without one are summed up anew. ``last``: where LEDGER ends."""
        lost = set()
        async for entry in self._definitions.watch(once=True):
            definition = entry.value
            if definition is None or not self._fits(entry.key, definition):
                continue
            self._seen[entry.key] = entry.revision
            kept = saved.pop(entry.key, None)
            if kept is None or kept.book.applied == LOST or not redefine(kept.book, definition, entry.revision):
                fresh = self._opened(definition, entry.revision, last)
                if kept is not None and kept.book.applied == LOST:
                    # The same thresholds are found again, and what was told of them still holds.
                    fresh.revision = kept.revision
                elif kept is not None:
                    _succeed(fresh, kept)
                kept = fresh
                lost.add(definition.tenant_id)
            kept.unsaved = True
            self._shelf.put(kept)
        for key, kept in saved.items():
            self._give_up(key, kept)
        for tenant in lost:
            self._shelf.told |= await told_already(self._client, tenant)
        for key, present in (await self._flags.all()).items():
            if (found := self._shelf.books.get(key)) is not None:
                found.flag = present
            else:
                await self._flags.delete(key)

    def _opened(self, definition: BudgetDefinition, revision: int, last: int) -> Kept:
        return opened(definition, revision, last, _now(), self._settings.future_tolerance_s)

    def _fits(self, key: str, definition: BudgetDefinition) -> bool:
        if key != budget_key(definition.tenant_id, definition.budget_id):
            log.error("budget.left_aside", key=key, reason="its key is not <tenant>.<budget_id>")
            return False
        if key not in self._shelf.books and len(self._shelf.books) >= self._settings.max_budgets:
            log.error("budget.left_aside", key=key, reason=f"{self._settings.max_budgets} budgets are watched already")
            return False
        return True

    async def take(self, entry: Entry[BudgetDefinition]) -> None:
        """A definition as it is now."""
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
        if kept is None or not redefine(kept.book, definition, entry.revision):
            last = (await self._client.jsm().stream_info(topology.LEDGER)).state.last_seq
            fresh = self._opened(definition, entry.revision, last)
            if (before := kept or self._leaving.pop(entry.key, None)) is not None:
                _succeed(fresh, before)
            kept = fresh
            self._ledger.join(definition.tenant_id, last)
            self._shelf.put(kept)
        kept.unsaved = True
        log.info("budget.defined", budget=entry.key, limit_usd=str(definition.limit_usd), enforcement=definition.enforcement)
        await self._acting.follow_up(kept)

    async def compare(self, present: set[str]) -> None:
        """Gives up the budgets that are not among those ``present`` for the second time in a row."""
        missing = {key for key in self._shelf.books if key not in present}
        # Twice: one may have been set while the others were listed.
        for key in missing & self._suspected:
            await self._undefine(key)
        self._suspected = missing

    async def _undefine(self, key: str) -> None:
        kept = self._shelf.remove(key)
        if kept is not None:
            self._give_up(key, kept)
            await self.take_leave()

    def _give_up(self, key: str, kept: Kept) -> None:
        end(kept.book, "it was deleted")
        self._leaving[key] = kept
        log.info("budget.deleted", budget=key)

    async def take_leave(self) -> None:
        """Tells what is still to be told of budgets that are no more."""
        for key, kept in list(self._leaving.items()):
            if await self._acting.take_leave(kept):
                del self._leaving[key]


def _succeed(fresh: Kept, before: Kept) -> None:
    """``fresh`` takes the place of a book that counted something else, and what that had to tell."""
    end(before.book, "it counts something else now")
    word(before)
    fresh.revision, fresh.flag, fresh.outbox = before.revision, before.flag, before.outbox
    fresh.to_save = bool(fresh.outbox)
