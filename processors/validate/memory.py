"""What an instance knows of the past: its duplicate index, kept up with EVENTS, whoever wrote there."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

import nats.errors
import structlog
from nats.aio.client import Client

from processors.covered_loop import StartOverError
from processors.duplicates.index import DuplicateIndex, IndexUnavailableError, IndexUnusableError
from processors.duplicates.opening import given_up, open_index
from processors.validate.catching_up import catch_up, rows_of
from streams import subjects, topology
from streams.messages import Received
from streams.reader import OrderedReader, Source

log = structlog.get_logger(__name__)

_DAY_NS: Final = 86_400 * 10**9
_SWEPT_ROWS: Final = 500
_OWN: Final = 10_000
"""Own batches remembered until they come back from EVENTS; one that is forgotten is only read again."""
_AT_ONCE: Final = 200


class Memory:
    """One for all partitions of an instance: an event is known whichever partition, and whichever instance, has stored it.

    Alone on TELEMETRY an instance adds what it stores itself. With several partitions it also reads what others store.
    """

    def __init__(self, index: DuplicateIndex) -> None:
        self._index = index
        self._client: Client | None = None
        self._reader: OrderedReader | None = None
        self._identity: str | None = None
        self._own: deque[tuple[int, int]] = deque(maxlen=_OWN)
        self._newest_ns = 0
        self.judging = asyncio.Lock()
        """Held from asking what is known until what follows from it is added: partitions of one instance take turns."""

    def start(self, client: Client) -> None:
        """From now on ``client`` reads EVENTS."""
        self._client, self._reader, self._identity = client, None, None

    async def stop(self) -> None:
        """Closes the index."""
        await self._leave_off()
        self._index.close()
        self._identity = None

    async def catch_up(self, tell: Callable[[str], None]) -> None:
        """Knows everything that is in EVENTS now. Raises what NATS raises, and StartOverError."""
        client = self._client
        assert client is not None
        await self._leave_off()
        try:
            await self._open(client)
            await catch_up(client, self._index, tell)
        except (IndexUnavailableError, IndexUnusableError) as error:
            raise self._failed(error) from error

    async def keep_up(self) -> None:
        """Knows what has arrived from EVENTS by now. Raises what NATS raises, and StartOverError."""
        client = self._client
        assert client is not None
        try:
            if self._identity is None:
                await self._open(client)
            if self._reader is None:
                self._reader = OrderedReader(client, Source(topology.EVENTS, (subjects.ALL_EVENTS,)), self._index.applied)
            while messages := await self._reader.fetch(_AT_ONCE, 0.0):
                self._apply(messages)
        except (IndexUnavailableError, IndexUnusableError) as error:
            raise self._failed(error) from error

    def known(self, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """The payload hashes of those ``keys`` that are known. Raises StartOverError."""
        try:
            return self._index.known(keys)
        except (IndexUnavailableError, IndexUnusableError) as error:
            raise self._failed(error) from error

    def add(self, rows: Sequence[tuple[bytes, bytes]], stored: tuple[int, int], alone: bool, stored_ns: int) -> None:
        """Adds what this instance has stored in EVENTS between the sequences ``stored``. Raises StartOverError.

        Where others store too, what they stored before has still to be read: the position stays.
        """
        self._newest_ns = max(self._newest_ns, stored_ns)
        if not alone:
            self._own.append(stored)
        try:
            self._index.add(rows, stored[1] if alone else self._index.applied, stored_ns // _DAY_NS)
            self.sweep()
        except (IndexUnavailableError, IndexUnusableError) as error:
            raise self._failed(error) from error

    def sweep(self) -> None:
        """Forgets a little of what is older than EVENTS. Raises StartOverError."""
        if self._newest_ns == 0 or self._identity is None:
            return
        try:
            # By the stream's time: this machine's clock may jump, and what is swept is forgotten for good.
            self._index.sweep(self._newest_ns // _DAY_NS - topology.EVENTS_AGE.days - 1, _SWEPT_ROWS)
        except (IndexUnavailableError, IndexUnusableError) as error:
            raise self._failed(error) from error

    def _apply(self, messages: Sequence[Received]) -> None:
        rows: list[tuple[bytes, bytes]] = []
        for message in messages:
            while self._own and self._own[0][1] < message.sequence:
                self._own.popleft()
            if self._own and self._own[0][0] <= message.sequence:
                continue
            try:
                rows += rows_of(message)
            except (ValueError, KeyError, TypeError, IndexError) as error:
                log.warning("index.unreadable_event", sequence=message.sequence, error=repr(error))
        self._index.add(rows, messages[-1].sequence, messages[-1].stored_ns // _DAY_NS)

    async def _open(self, client: Client) -> None:
        info = await client.jsm().stream_info(topology.EVENTS)
        identity = str(info.created)
        if self._identity == identity and self._index.applied <= info.state.last_seq:
            return
        self._identity = None
        self._own.clear()
        open_index(self._index, info)
        self._identity = identity

    async def _leave_off(self) -> None:
        reader, self._reader = self._reader, None
        if reader is not None and self._client is not None and not self._client.is_closed:
            try:
                await reader.close()
            except nats.errors.Error as error:
                log.debug("index.reader_close", error=repr(error))

    def _failed(self, error: IndexUnavailableError | IndexUnusableError) -> StartOverError:
        self._identity, self._reader = None, None
        return given_up(self._index, error, "validate")
