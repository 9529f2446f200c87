"""The prices in force: followed live, and changed by nobody else."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Final

import nats.errors
import structlog
from nats.aio.client import Client

from processors.cost import snapshot
from processors.cost.changing import Change, Refused, change, moved_along
from schemas.prices.book import StoredBook, book_key
from schemas.prices.finding import PriceBook
from schemas.prices.overrides import PriceChange, PriceChanged, Revision, revision_key
from service.instruments import LOOP_ERRORS
from streams.kv import ChangedMeanwhileError
from streams.prices import PriceShelf, UnknownVersionError

log = structlog.get_logger(__name__)

_BY: Final = "cost"
_AGAIN_S: Final = 1.0
_LARGEST: Final = 950_000
"""Bytes one value of the bucket may have, its envelope aside."""


class Prices:
    """What is in force, and every version there was. ``open`` first; then ``follow`` keeps it current."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._default = ""
        self.revision: Revision | None = None
        self.book: PriceBook | None = None

    async def open(self) -> None:
        """Puts the default book and the first revision into the bucket where it lacks them, and enforces the newest.

        Raises streams.kv.BucketMissingError where the topology lacks the bucket.
        """
        default = await asyncio.to_thread(snapshot.default)
        self._default = default.version
        self._shelf = await PriceShelf.open(self._client)
        self._shelf.keep(default)
        await self._store(StoredBook.pack(default, at=datetime.now(UTC), by=_BY, reason="the default that comes with cost"))
        while True:
            newest = await self._shelf.newest()
            following = moved_along(newest, default.version, datetime.now(UTC), _BY)
            if following is None:
                assert newest is not None
                await self._enforce(newest)
                return
            try:
                await self._shelf.revisions.update(revision_key(following.number), following, 0)
            except ChangedMeanwhileError:
                continue
            log.info("prices.moved", book=following.book, revision=following.number)

    async def version(self, version: str) -> PriceBook:
        """The prices that ledger entries name so. Raises streams.prices.UnknownVersionError."""
        return await self._shelf.version(version)

    async def _store(self, stored: StoredBook) -> None:
        """Stores a book once; raises ValueError where the same version already says something else."""
        try:
            await self._shelf.stored.update(book_key(stored.version), stored, 0)
        except ChangedMeanwhileError:
            there = await self._shelf.stored.get(book_key(stored.version))
            if there is None or there.value is None or there.value.digest != stored.digest:
                raise ValueError(f"there is already another book {stored.version}: versions never change") from None

    async def _enforce(self, revision: Revision) -> None:
        book = await self._shelf.enforced(revision)
        self.revision, self.book = revision, book
        log.info("price_book.opened", version=book.version, revision=revision.number, overrides=len(revision.overrides))

    async def follow(self) -> None:
        """Enforces every newer revision as soon as it is there, until cancelled."""
        while True:
            try:
                async for revision in self._shelf.following():
                    if self.revision is None or revision.number > self.revision.number:
                        await self._enforce(revision)
            except (nats.errors.Error, TimeoutError, OSError, LookupError, ValueError) as error:
                LOOP_ERRORS.labels("prices").inc()
                log.warning("prices.again", error=repr(error))
            await asyncio.sleep(_AGAIN_S)

    async def make(
        self, wanted: PriceChange, by: str, now: datetime, told: Callable[[PriceChanged], Awaitable[None]]
    ) -> PriceChanged | Refused:
        """Makes a change, once; ``told`` is awaited before the answer is given."""
        newest = await self._shelf.newest()
        assert newest is not None
        if newest.change_id == wanted.change_id:
            return await _answered(newest, wanted, newest.change, told)
        refused = await self._unusable(wanted)
        if refused is not None:
            return refused
        made = change(newest, wanted, by, now, self._default)
        if isinstance(made, Refused):
            return made
        if isinstance(made, Change):
            if len(made.revision.model_dump_json()) > _LARGEST:
                return Refused("$.override", f"{len(made.revision.overrides):,} agreements are more than one revision can hold")
            try:
                await self._shelf.revisions.update(revision_key(made.revision.number), made.revision, 0)
            except ChangedMeanwhileError:
                return Refused("$.revision", "another change was made meanwhile: look again, then decide again")
            newest = made.revision
            await self._enforce(newest)
        return await _answered(newest, wanted, made.what, told)

    async def _unusable(self, wanted: PriceChange) -> Refused | None:
        """Stores a book that is brought along; tells what keeps the change from being made at all."""
        if wanted.book is not None:
            if len(wanted.book.packed) > _LARGEST:
                return Refused(
                    "$.book", f"{len(wanted.book.packed):,} bytes packed are more than one value of the bucket can hold"
                )
            try:
                book = await asyncio.to_thread(wanted.book.book)
                if book.version != wanted.book.version:
                    return Refused("$.book.version", f"says {wanted.book.version!r}, the book inside says {book.version!r}")
                await self._store(wanted.book)
            except ValueError as error:
                return Refused("$.book", str(error)[:500])
        if wanted.version is not None:
            try:
                await self._shelf.book(wanted.version)
            except UnknownVersionError as error:
                return Refused("$.version", f"{error}: `agentops prices history` lists them")
        return None


async def _answered(
    newest: Revision, wanted: PriceChange, what: str, told: Callable[[PriceChanged], Awaitable[None]]
) -> PriceChanged:
    answer = PriceChanged(change_id=wanted.change_id, revision=newest.number, version=newest.version, change=what)
    await told(answer)
    return answer
