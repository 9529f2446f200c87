"""Cost: reads model calls from EVENTS in order, prices them, and covers what it priced in LEDGER."""

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Final
from uuid import uuid4

import nats.errors
import structlog
from faststream.nats import NatsBroker
from nats.aio.client import Client
from pydantic_settings import BaseSettings, SettingsConfigDict

from processors.cost import genai_book
from processors.cost.ceiling import Ceiling
from processors.cost.entries import Charge, NotBillable, PoisonError, entry
from processors.cost.price_book import PriceBook
from processors.runner import HaltedError, Processor, ProcessorContext
from schemas.coverage import Coverage
from schemas.dead_letters import DeadLetter
from schemas.errors import FieldError
from service.instruments import (
    BATCH_EVENTS,
    BATCH_SECONDS,
    DEAD_LETTERS,
    FENCED,
    LAG_MESSAGES,
    LEDGER_ENTRIES,
    LEDGER_USD,
    READER_RESETS,
)
from streams import subjects, topology
from streams.covering import CoveredWriter, FencedError, Outgoing
from streams.dead_letters import bury
from streams.messages import CONTENT_TYPE, EVENT_COUNT, NDJSON, Received
from streams.micro_batches import lines, split
from streams.publish import publish_until_stored
from streams.reader import OrderedReader, Source

log = structlog.get_logger(__name__)

NAME: Final = "cost"
KIND: Final = "model_call"
_PARTITION: Final = 0


class CostSettings(BaseSettings):
    """Every field is the environment variable ``AGENTOPS_COST_<FIELD>``."""

    model_config = SettingsConfigDict(env_prefix="AGENTOPS_COST_", frozen=True, use_attribute_docstrings=True, extra="ignore")

    pace_s: float = 0.02
    """Batches follow each other at least so far apart, as validate's do."""
    fetch_messages: int = 400
    """Most messages priced for one batch; each belongs to one tenant, so outputs always fit."""
    batch_bytes: int = 2 * 1024**2
    """Most input bytes priced for one batch: what keeps the loop responsive."""
    future_tolerance_s: float = 300.0
    """A call from further in the future than this is priced as of its arrival plus this."""
    dead_letters: int = 100
    """Unreadable events in ``dead_letters_window_s`` past which it halts: behind validate they mean a bad deploy."""
    dead_letters_window_s: float = 600.0


@dataclass(slots=True)
class Priced:
    """What one run of messages came to."""

    lines: dict[str, list[bytes]] = field(default_factory=dict)
    """Ledger entries by tenant, in order."""
    letters: list[Outgoing] = field(default_factory=list)
    skipped: int = 0
    unpriced: dict[tuple[str, str], str] = field(default_factory=dict)
    unpriced_entries: int = 0
    cost: Decimal = Decimal(0)

    @property
    def entries(self) -> int:
        """How many ledger entries."""
        return sum(map(len, self.lines.values()))


def price(messages: Sequence[Received], book: PriceBook, tolerance: timedelta) -> Priced:
    """Prices every model call in ``messages``; what cannot be read becomes a dead letter."""
    found = Priced()
    for message in messages:
        tenant = message.subject.split(".")[1]
        made: list[bytes] = []
        for position, raw in enumerate(lines(message.data)):
            try:
                answer = entry(raw, tenant, book, tolerance)
            except PoisonError as error:
                found.letters.append(_letter(message, raw, position, tenant, str(error)))
                continue
            if isinstance(answer, NotBillable):
                found.skipped += 1
                continue
            made.append(answer.line)
            _tally(found, answer)
        if made:
            found.lines.setdefault(tenant, []).extend(made)
    return found


def _letter(message: Received, raw: bytes, position: int, tenant: str, why: str) -> Outgoing:
    wrong = FieldError(loc="$", msg=why[:500])
    return bury(
        message, topology.EVENTS, raw, processor=NAME, reason="unreadable_event", errors=(wrong,), tenant=tenant, kind=KIND,
        position=position,
    )  # fmt: skip


def _tally(found: Priced, charge: Charge) -> None:
    found.cost += charge.cost
    if charge.unpriced is not None:
        found.unpriced_entries += 1
        found.unpriced[charge.provider, charge.model] = charge.unpriced


class Cost:
    """The processor. One instance is active; another is fenced off and only costs effort."""

    name = NAME

    def __init__(self, context: ProcessorContext, settings: CostSettings) -> None:
        self._context = context
        self._settings = settings
        self._tolerance = timedelta(seconds=settings.future_tolerance_s)
        self._ceiling = Ceiling(settings.dead_letters, settings.dead_letters_window_s)
        self._book: PriceBook | None = None
        self._client: Client | None = None
        self._waiting: dict[str, str] = {}
        self._told: set[tuple[str, str]] = set()
        self._paced = 0.0
        self._resets = 0
        self._prepare()

    def _prepare(self) -> None:
        self._stopping = asyncio.Event()
        self._fetching: asyncio.Task[list[Received]] | None = None
        self._ended = asyncio.Event()
        self._ended.set()

    def waiting_for(self) -> dict[str, str]:
        """What keeps it from its work."""
        found = dict(self._waiting)
        if self._client is None or not self._client.is_connected:
            found["nats"] = "not connected"
        return found

    async def start(self) -> None:
        """Connects and opens the price book."""
        self._prepare()
        self._waiting = {"record": "not read yet"}
        client = self._client = await self._context.connect(NAME)
        book = await asyncio.to_thread(genai_book.build) if self._book is None else self._book
        self._writer = CoveredWriter(client, topology.LEDGER, NAME, _PARTITION)
        self._reader = OrderedReader(client, Source(topology.EVENTS, (subjects.events_of(KIND),)))
        self._book = book
        log.info("price_book.opened", version=book.version, names=len(book.providers))

    async def stop(self) -> None:
        """Finishes the batch at hand and closes."""
        self._stopping.set()
        if self._fetching is not None:
            self._fetching.cancel()
        await self._ended.wait()
        client, self._client = self._client, None
        if client is not None and not client.is_closed:
            await self._reader.close()
            await client.close()

    async def run(self) -> None:
        """Prices until stopped. Raises HaltedError past the ceiling of dead letters."""
        self._ended.clear()
        try:
            await self._resume()
            while not self._stopping.is_set():
                try:
                    await self._once()
                except FencedError as error:
                    FENCED.labels(NAME).inc()
                    log.warning("cost.fenced", reason=str(error))
                    await self._rest(random.uniform(1.0, 3.0))
                    await self._resume()
        finally:
            self._ended.set()

    async def _rest(self, pause_s: float) -> None:
        try:
            async with asyncio.timeout(pause_s):
                await self._stopping.wait()
        except TimeoutError:
            return

    async def _resume(self) -> None:
        """Goes back to what is stored: the newest record says where."""
        attempt = 0
        while not self._stopping.is_set():
            try:
                async with asyncio.timeout(30):
                    position = await self._writer.resume()
                    replaced = await self._writer.replaced(topology.EVENTS)
            except (nats.errors.Error, TimeoutError, OSError) as error:
                self._waiting["record"] = f"{type(error).__name__}: {error}"
                attempt += 1
                await self._rest(min(5.0, 0.2 * 2.0 ** min(attempt, 6)))
                continue
            if replaced is not None:
                raise HaltedError(f"{replaced}. Its first events would go unbilled")
            await self._reader.reset("resume", position.covered)
            self._waiting = {}
            log.info("cost.resumed", after=position.covered, record=position.record_sequence)
            return

    async def _fetch(self) -> list[Received]:
        """What there is to read; nothing when asked to stop meanwhile."""
        self._fetching = asyncio.create_task(self._reader.fetch(self._settings.fetch_messages, 1.0), name=f"{NAME}-fetch")
        try:
            return await self._fetching
        except asyncio.CancelledError:
            if self._stopping.is_set() and self._fetching.cancelled():
                return []
            self._fetching.cancel()
            raise

    async def _once(self) -> None:
        if (left := self._paced - time.monotonic()) > 0:
            await self._rest(left)
        messages = await self._fetch()
        self._paced = time.monotonic() + (self._settings.pace_s if messages else 0.0)
        if self._reader.resets > self._resets:
            READER_RESETS.labels(NAME).inc(self._reader.resets - self._resets)
            self._resets = self._reader.resets
        LAG_MESSAGES.labels(NAME).set(self._reader.pending if messages else 0)
        run: list[Received] = []
        size = 0
        for message in messages:
            if run and size + len(message.data) > self._settings.batch_bytes:
                await self._cover(run)
                run, size = [], 0
            run.append(message)
            size += len(message.data)
        if run:
            await self._cover(run)

    async def _cover(self, messages: Sequence[Received]) -> None:
        """Prices ``messages`` and stores entries and record together."""
        began = time.perf_counter()
        assert self._book is not None
        found = price(messages, self._book, self._tolerance)
        await self._bury(found.letters)
        outputs = [
            Outgoing(subjects.ledger(tenant), part.data, {CONTENT_TYPE: NDJSON, EVENT_COUNT: str(part.count)})
            for tenant, made in found.lines.items()
            for part in split(made)
        ]
        entries, dead = found.entries, len(found.letters)
        coverage = Coverage(
            batch_id=uuid4().hex, processor=NAME, partition=_PARTITION, instance=self._context.instance,
            input_stream=topology.EVENTS, first_sequence=self._writer.position.covered + 1, last_sequence=messages[-1].sequence,
            messages=len(messages), received=entries + dead, valid=entries, dead=dead, duplicates=0, skipped=found.skipped,
            valid_by_kind={KIND: entries}, at=datetime.now(UTC),
        )  # fmt: skip
        await self._writer.commit(outputs, coverage)
        LEDGER_ENTRIES.labels("priced").inc(entries - found.unpriced_entries)
        LEDGER_ENTRIES.labels("unpriced").inc(found.unpriced_entries)
        LEDGER_USD.inc(float(found.cost))
        BATCH_EVENTS.labels(NAME).observe(entries + dead + found.skipped)
        BATCH_SECONDS.labels(NAME).observe(time.perf_counter() - began)
        for (provider, model), why in found.unpriced.items():
            if (provider, model) not in self._told and len(self._told) < 10_000:
                self._told.add((provider, model))
                log.warning("model.unpriced", provider=provider, model=model, reason=why)
        log.debug("batch.covered", messages=len(messages), entries=entries, dead=dead, cost_usd=str(found.cost))

    async def _bury(self, letters: Sequence[Outgoing]) -> None:
        """Stores the letters before the record that counts them: EVENTS is another stream than LEDGER.

        A kill in between writes them again, under the same letter id. Raises HaltedError past the ceiling.
        """
        client = self._client
        assert client is not None
        for letter in letters:
            parked = DeadLetter.model_validate_json(letter.data)
            if self._ceiling.add(time.monotonic()):
                msg = (
                    f"more than {self._ceiling.limit} unreadable events in {self._ceiling.window_s:g} s, the last in EVENTS at"
                    f" {parked.source_sequence}: look at them with `agentops dead list`, then restart cost"
                )
                raise HaltedError(msg)
            await publish_until_stored(client, letter.subject, letter.data, message_id=parked.letter_id, headers=letter.headers)
            DEAD_LETTERS.labels(NAME, parked.reason).inc()
            log.warning("event.unreadable", sequence=parked.source_sequence, position=parked.position)


def attach(broker: NatsBroker, context: ProcessorContext) -> Processor:
    """The processor with its settings from the environment. It reads in batches and in order, which the broker does not."""
    del broker
    return Cost(context, CostSettings())
