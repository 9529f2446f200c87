"""LEDGER as far as it concerns budgets: read in order, of the tenants that have budgets, and of no others."""

from nats.aio.client import Client

from streams import subjects, topology
from streams.reader import OrderedReader, Source


class Following:
    """A reader whose tenants may change: another set of them begins where the first of its books does."""

    def __init__(self, client: Client, position: int) -> None:
        self.position = position
        """Message of LEDGER up to which everything was taken."""
        self.tenants: frozenset[str] = frozenset()
        """Whose ledger is read."""
        self._client = client
        self._reader: OrderedReader | None = None
        self._begin_at: int | None = None

    @property
    def caught_up(self) -> bool:
        """Whether nothing is known to be unread."""
        return self._reader is None or self._reader.caught_up

    @property
    def pending(self) -> int:
        """Messages not read yet."""
        return self._reader.pending if self._reader is not None else 0

    def join(self, tenant: str, after: int) -> None:
        """A book was opened that counts the messages after this one."""
        if tenant not in self.tenants:
            self._begin_at = after if self._begin_at is None else min(after, self._begin_at)
            if not self.tenants:
                self.position = max(self.position, after)

    async def reader(self, tenants: frozenset[str]) -> OrderedReader | None:
        """The reader for these tenants; None where there are none."""
        if tenants != self.tenants:
            if self._reader is not None:
                await self._reader.close()
            # A new tenant's entries begin where its book begins, which the others may have passed by now.
            start = self.position if self._begin_at is None else min(self.position, self._begin_at)
            filters = tuple(subject for tenant in sorted(tenants) for subject in subjects.ledger_of(tenant))
            self._reader = OrderedReader(self._client, Source(topology.LEDGER, filters), start) if filters else None
            self.tenants, self._begin_at = tenants, None
        return self._reader

    async def close(self) -> None:
        """Reads no more."""
        if self._reader is not None:
            await self._reader.close()
