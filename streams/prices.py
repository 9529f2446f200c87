"""The bucket ``prices``, read: every book and revision by its version, and the newest revision. Cost alone writes there."""

import asyncio
from collections.abc import AsyncIterator

from nats.aio.client import Client

from schemas.prices.book import Book, StoredBook, book_key
from schemas.prices.finding import PriceBook
from schemas.prices.overrides import Revision, parts, revision_key
from streams import topology
from streams.kv import TypedBucket

_BOOKS = 8
"""Books kept at hand; others are read again when asked for."""


class UnknownVersionError(LookupError):
    """The bucket has no such book or revision. Trying again does not help."""


class PriceShelf:
    """Price books by their versions; versions never change, so what was read once stays right."""

    def __init__(self, stored: TypedBucket[StoredBook], revisions: TypedBucket[Revision]) -> None:
        self.stored = stored
        self.revisions = revisions
        self._books: dict[str, Book] = {}
        self._made: dict[str, PriceBook] = {}

    @classmethod
    async def open(cls, client: Client) -> "PriceShelf":
        """The shelf; raises streams.kv.BucketMissingError where the topology lacks the bucket."""
        return cls(
            await TypedBucket.open(client, topology.PRICES, StoredBook), await TypedBucket.open(client, topology.PRICES, Revision)
        )

    async def every_revision(self) -> list[Revision]:
        """All there are, the oldest first."""
        found = [entry.value async for entry in self.revisions.watch("revision.*", once=True) if entry.value is not None]
        return sorted(found, key=lambda one: one.number)

    async def newest(self) -> Revision | None:
        """What is in force; None before cost ran for the first time."""
        every = await self.every_revision()
        return every[-1] if every else None

    async def following(self) -> AsyncIterator[Revision]:
        """Every revision there is, then each new one, for ever."""
        async for entry in self.revisions.watch("revision.*"):
            if entry.value is not None:
                yield entry.value

    async def every_book(self) -> list[StoredBook]:
        """All there are, the oldest first."""
        # `>` and not `*`: versions have dots, which part subjects.
        found = [entry.value async for entry in self.stored.watch("book.>", once=True) if entry.value is not None]
        return sorted(found, key=lambda one: one.at)

    def keep(self, book: Book) -> None:
        """Puts a book at hand that need not be read."""
        while len(self._books) >= _BOOKS:
            dropped = next(iter(self._books))
            self._books.pop(dropped)
            self._made = {name: made for name, made in self._made.items() if made.book.version != dropped}
        self._books[book.version] = book

    async def book(self, version: str) -> Book:
        """The book of that version alone. Raises UnknownVersionError."""
        if version not in self._books:
            stored = await self.stored.get(book_key(version))
            if stored is None or stored.value is None:
                raise UnknownVersionError(f"there is no price book {version!r}")
            self.keep(await asyncio.to_thread(stored.value.book))
        return self._books[version]

    async def enforced(self, revision: Revision) -> PriceBook:
        """The prices as a revision has them in force."""
        return PriceBook.of(await self.book(revision.book), revision)

    async def version(self, version: str) -> PriceBook:
        """The prices that ledger entries name so. Raises UnknownVersionError."""
        made = self._made.get(version)
        if made is None:
            name, number = parts(version)
            if number is None:
                made = PriceBook.of(await self.book(name))
            else:
                stored = await self.revisions.get(revision_key(number))
                if stored is None or stored.value is None or stored.value.version != version:
                    raise UnknownVersionError(f"there is no revision {number} of the price book {name!r}")
                made = await self.enforced(stored.value)
            self._made[version] = made
        return made
