"""What an instance knows of the calls in LEDGER: its index, kept up with every record of cost, whoever wrote it."""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from typing import Final

import nats.js.errors
import orjson
import structlog
from nats.aio.client import Client

from processors.cost import calls
from processors.cost.recognising import Recognition
from processors.cost.sightings import Sighting, sighting
from processors.covered_loop import StartOverError
from processors.duplicates.catching_up import catch_up
from processors.duplicates.index import DuplicateIndex, IndexUnavailableError, IndexUnusableError
from processors.duplicates.opening import given_up, open_index
from streams import subjects, topology
from streams.messages import Received
from streams.micro_batches import lines
from streams.reader import Source, position_at

log = structlog.get_logger(__name__)

HORIZON: Final = topology.EVENTS_AGE
"""So long after it was last seen a call is recognised."""
_DAY_NS: Final = 86_400 * 10**9
_SWEPT_ROWS: Final = 500
_KEPT_UP_S: Final = 2.0
_PIECE: Final = 2000
"""Entries applied at once, and those up to the next record."""


class Memory:
    """Calls by response id and by span. It holds what records account for, and no more: what a torn batch left is judged again."""

    def __init__(self, index: DuplicateIndex) -> None:
        self._index = index
        self._client: Client | None = None
        self._identity: str | None = None
        self._held: list[Received] = []
        self._newest_ns = 0
        self._kept_at = 0.0
        self._record = subjects.covered("cost", 0)

    @property
    def applied(self) -> int:
        """Everything up to this record in LEDGER is known."""
        return self._index.applied

    def start(self, client: Client) -> None:
        """From now on ``client`` reads LEDGER."""
        self._client, self._identity = client, None

    def stop(self) -> None:
        """Closes the index."""
        self._index.close()
        self._identity = None

    async def keep_up(self) -> None:
        """Knows most of what others have stored by now: what ``catch_up`` would take long for."""
        if time.monotonic() - self._kept_at >= _KEPT_UP_S:
            await self.catch_up(lambda _: None)
            self._kept_at = time.monotonic()

    async def catch_up(self, tell: Callable[[str], None]) -> None:
        """Knows everything up to cost's newest record. Raises what NATS raises, and StartOverError."""
        client = self._client
        assert client is not None
        self._held.clear()
        try:
            await self._open(client)
            source = Source(topology.LEDGER, (subjects.all_charges(), self._record))
            await catch_up(client, source, self, self._newest, tell)
        except (IndexUnavailableError, IndexUnusableError) as error:
            raise self._failed(error) from error

    async def _newest(self) -> int:
        assert self._client is not None
        try:
            # Asked of the leader: a replica may lag behind, and a call that is not known yet would be charged again.
            message = await self._client.jetstream().get_last_msg(topology.LEDGER, self._record)
        except nats.js.errors.NotFoundError:
            return 0
        return message.seq or 0

    async def _open(self, client: Client) -> None:
        info = await client.jsm().stream_info(topology.LEDGER)
        identity = str(info.created)
        if self._identity == identity and self._index.applied <= info.state.last_seq:
            return
        self._identity = None
        open_index(self._index, info)
        if self._index.applied == 0 and info.state.last_seq:
            # LEDGER is for ever; what is older than the horizon is not looked for. By the stream's own time.
            last = await client.jetstream().get_msg(topology.LEDGER, info.state.last_seq, direct=True)
            if last.time is not None:
                start = await position_at(client, topology.LEDGER, last.time - HORIZON - timedelta(days=1))
                self._index.add([], min(start, info.state.last_seq), 0)
        self._identity = identity

    async def apply(self, messages: list[Received]) -> int:
        """Takes in ``messages`` of LEDGER as far as records account for them; returns how many entries that were."""
        last = max((n for n, message in enumerate(messages) if message.subject == self._record), default=-1)
        taken, self._held = self._held + messages[: last + 1], ([] if last >= 0 else self._held) + messages[last + 1 :]
        if last < 0:
            return 0
        entries, read = 0, []
        for message in taken:
            if message.subject != self._record:
                read += _charges(message)
            elif len(read) >= _PIECE or message is taken[-1]:
                recognition = Recognition(self.known(one[0] for one in read))
                for seen, duplicate_of, differs, place in read:
                    recognition.remember(seen, duplicate_of, place, differs=differs)
                self.add(recognition.rows({}), message.sequence, message.stored_ns)
                entries, read = entries + len(read), []
                # What was fetched is here already: nothing else would let the connection have its turn.
                await asyncio.sleep(0)
        return entries

    def known(self, sightings: Iterable[Sighting]) -> Mapping[bytes, bytes]:
        """The rows of all calls that ``sightings`` may be of. Raises StartOverError."""
        wanted = {key for seen in sightings for key in (seen.by_id, seen.own_span, seen.other_span) if key is not None}
        found: dict[bytes, bytes] = {}
        try:
            while wanted:
                rows = self._index.known(list(wanted))
                found |= rows
                wanted = {target for row in rows.values() if (target := calls.points_to(row)) is not None} - found.keys()
        except (IndexUnavailableError, IndexUnusableError) as error:
            raise self._failed(error) from error
        return found

    def add(self, rows: list[tuple[bytes, bytes]], record: int, stored_ns: int) -> None:
        """Adds what a batch led to whose record stands at ``record``. Raises StartOverError."""
        self._newest_ns = max(self._newest_ns, stored_ns)
        try:
            self._index.add(rows, record, stored_ns // _DAY_NS)
            self._index.sweep(self._newest_ns // _DAY_NS - HORIZON.days - 1, _SWEPT_ROWS)
        except (IndexUnavailableError, IndexUnusableError) as error:
            raise self._failed(error) from error

    def _failed(self, error: IndexUnavailableError | IndexUnusableError) -> StartOverError:
        self._identity = None
        return given_up(self._index, error, "cost")


def _charges(message: Received) -> list[tuple[Sighting, bytes | None, bool, int]]:
    """What each charge of a message tells of its call, the entry that stands for it where another does, and its place."""
    found = []
    for line in lines(message.data):
        try:
            entry = orjson.loads(line)
            seen = sighting(entry)
            of = entry.get("duplicate_of")
            stands = None if of is None else bytes.fromhex(of.replace("-", ""))
        except (ValueError, KeyError, TypeError, AttributeError, ArithmeticError) as error:
            log.warning("index.unreadable_entry", sequence=message.sequence, error=repr(error))
            continue
        if seen is not None:
            found.append((seen, stands, bool(entry.get("differs")), message.sequence))
    return found
