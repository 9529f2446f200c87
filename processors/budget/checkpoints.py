"""Checkpoints: each book with what it still has to tell under ``budget.<tenant>.<budget>``, then, under ``budget``, how far LEDGER was read.

A book is written only over the revision that was read: of two instances at work by mistake one is refused, so that no
threshold is told by both. What is to be told stands in the checkpoint before it is published, and is published from there
again after a crash, byte for byte.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import structlog
from nats.aio.client import Client

from processors.budget.books import Book
from processors.budget.enforcing import Telling
from schemas.budgets import BudgetFlag
from schemas.model import Count, Instant, Lenient, Name
from streams import topology
from streams.covering import FencedError
from streams.kv import ChangedMeanwhileError, TypedBucket

log = structlog.get_logger(__name__)

PREFIX: Final = "budget"
_TOGETHER: Final = 32


class Saved(Lenient):
    """One book as it was last written."""

    book: Book
    outbox: tuple[Telling, ...] = ()
    writer: Name


class ReadUpTo(Lenient):
    """How far every book contains LEDGER, at least."""

    sequence: Count
    at: Instant


@dataclass(slots=True)
class Kept:
    """A book at work."""

    key: str
    book: Book
    revision: int = 0
    """Of its checkpoint."""
    outbox: list[Telling] = field(default_factory=list)
    unsaved: bool = True
    """It changed since it was written."""
    to_save: bool = False
    """Something is to be told that no checkpoint has yet."""
    flag: BudgetFlag | None = None
    """As it stands in the bucket."""


class Checkpoints:
    """The budget processor's part of bucket ``checkpoints``."""

    def __init__(self, books: TypedBucket[Saved], position: TypedBucket[ReadUpTo], writer: str) -> None:
        self._books = books
        self._position = position
        self._writer = writer

    @classmethod
    async def open(cls, client: Client, writer: str) -> "Checkpoints":
        """Opens the bucket; raises BucketMissingError when the topology lacks it."""
        return cls(
            await TypedBucket.open(client, topology.CHECKPOINTS, Saved),
            await TypedBucket.open(client, topology.CHECKPOINTS, ReadUpTo),
            writer,
        )

    async def load(self) -> tuple[ReadUpTo | None, dict[str, Kept]]:
        """What was last written, by ``<tenant>.<budget>``."""
        found = await self._position.get(PREFIX)
        books = {}
        async for entry in self._books.watch(f"{PREFIX}.>", once=True):
            if entry.value is not None:
                key = entry.key.removeprefix(f"{PREFIX}.")
                books[key] = Kept(key, entry.value.book, entry.revision, list(entry.value.outbox), unsaved=False)
        return (found.value if found else None), books

    async def save(self, kept: Kept) -> None:
        """Writes one book. Raises FencedError when another instance wrote it, else what NATS raises."""
        key = f"{PREFIX}.{kept.key}"
        value = Saved(book=kept.book, outbox=tuple(kept.outbox), writer=self._writer)
        try:
            kept.revision = await self._books.update(key, value, kept.revision)
        except ChangedMeanwhileError:
            present = await self._books.get(key)
            if present is not None and (present.value is None or present.value.writer != self._writer):
                raise FencedError(f"the book of budget {kept.key} was written by another instance") from None
            # Our own write whose answer was lost, or a checkpoint removed by hand.
            kept.revision = await self._books.update(key, value, present.revision if present is not None else 0)
        kept.unsaved = kept.to_save = False

    async def save_all(self, books: Sequence[Kept], position: ReadUpTo) -> None:
        """Writes books, then the position they reach."""
        for start in range(0, len(books), _TOGETHER):
            await asyncio.gather(*(self.save(kept) for kept in books[start : start + _TOGETHER]))
        await self._position.put(PREFIX, position)

    async def forget(self, key: str) -> None:
        """Removes the book of a budget that is no more."""
        await self._books.delete(f"{PREFIX}.{key}")
