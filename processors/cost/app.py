"""Cost: reads model calls from EVENTS in order, prices them, and covers what it priced in LEDGER."""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import uuid4

import structlog
from faststream.nats import NatsBroker
from nats.aio.client import Client
from pydantic_settings import BaseSettings, SettingsConfigDict

from processors.cost.ceiling import Ceiling
from processors.cost.charging import Charged, charge
from processors.cost.entries import Charge, NotBillable, PoisonError, entry
from processors.cost.memory import Memory
from processors.cost.prices import Prices
from processors.cost.recognising import Recognition
from processors.cost.service import CostService
from processors.cost.taking_back import TakenBack, TakingBack
from processors.covered_loop import CoveredLoop, Hop, Pace, StartOverError
from processors.duplicates.index import DuplicateIndex
from processors.leases import Leases
from processors.runner import HaltedError, Processor, ProcessorContext
from schemas.coverage import Coverage
from schemas.dead_letters import DeadLetter
from schemas.errors import FieldError
from schemas.prices.finding import PriceBook
from service.instruments import (
    BATCH_EVENTS,
    BATCH_SECONDS,
    DEAD_LETTERS,
    LAG_MESSAGES,
    LEDGER_ENTRIES,
    LEDGER_USD,
)
from streams import subjects, topology
from streams.covering import Outgoing
from streams.dead_letters import bury
from streams.messages import CONTENT_TYPE, EVENT_COUNT, NDJSON, Received
from streams.micro_batches import MicroBatch, lines, split
from streams.publish import publish_until_stored
from streams.reader import Source

log = structlog.get_logger(__name__)

NAME: Final = "cost"
KIND: Final = "model_call"
_PARTITION: Final = 0


class CostSettings(BaseSettings):
    """Every field is the environment variable ``AGENTOPS_COST_<FIELD>``."""

    model_config = SettingsConfigDict(env_prefix="AGENTOPS_COST_", frozen=True, use_attribute_docstrings=True, extra="ignore")

    pace_s: float = 0.05
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

    charges: list[tuple[str, Charge]] = field(default_factory=list)
    """With their tenants, in order."""
    letters: list[Outgoing] = field(default_factory=list)
    skipped: int = 0


def price(messages: Sequence[Received], book: PriceBook, tolerance: timedelta) -> Priced:
    """Prices every model call in ``messages``; what cannot be read becomes a dead letter."""
    found = Priced()
    for message in messages:
        tenant = message.subject.split(".")[1]
        for position, raw in enumerate(lines(message.data)):
            try:
                answer = entry(raw, tenant, book, tolerance)
            except PoisonError as error:
                found.letters.append(_letter(message, raw, position, tenant, str(error)))
                continue
            if isinstance(answer, NotBillable):
                found.skipped += 1
                continue
            found.charges.append((tenant, answer))
    return found


def _letter(message: Received, raw: bytes, position: int, tenant: str, why: str) -> Outgoing:
    wrong = FieldError(loc="$", msg=why[:500])
    return bury(
        message, topology.EVENTS, raw, processor=NAME, reason="unreadable_event", errors=(wrong,), tenant=tenant, kind=KIND,
        position=position,
    )  # fmt: skip


def _places(charged: Charged, parts: Sequence[tuple[str, MicroBatch]], first: int) -> dict[bytes, int]:
    """The message of LEDGER each entry stands in, of those whose call can be known again."""
    found: dict[bytes, int] = {}
    begun: dict[str, int] = {}
    for place, (tenant, part) in enumerate(parts, first):
        begin = begun.get(tenant, 0)
        begun[tenant] = begin + part.count
        found |= dict.fromkeys(charged.entries[tenant][begin : begin + part.count], place)
    return found


class Cost:
    """The processor. One instance is active; another stands by."""

    name = NAME

    def __init__(self, context: ProcessorContext, settings: CostSettings) -> None:
        self._context = context
        self._settings = settings
        self._tolerance = timedelta(seconds=settings.future_tolerance_s)
        self._ceiling = Ceiling(settings.dead_letters, settings.dead_letters_window_s)
        self._service: CostService | None = None
        self._following: asyncio.Task[None] | None = None
        self._client: Client | None = None
        self._loop: CoveredLoop | None = None
        self._leases: Leases | None = None
        self._told: set[tuple[str, str]] = set()
        self._memory = Memory(DuplicateIndex(context.data_directory / "index" / f"{NAME}-{_PARTITION}"))
        self._taking: TakingBack | None = None
        self._recognised = Recognition({})

    def waiting_for(self) -> dict[str, str]:
        """What keeps it from its work."""
        found = dict(self._loop.waiting) if self._loop is not None else {"record": "not read yet"}
        if self._client is None or not self._client.is_connected:
            found["nats"] = "not connected"
        return found

    def standing(self) -> dict[str, str]:
        """Whether this instance prices or stands by."""
        return {f"partition {_PARTITION}": self._loop.standing()} if self._loop is not None else {}

    async def start(self) -> None:
        """Connects, opens the prices in force and answers requests to change money."""
        client = self._client = await self._context.connect(NAME)
        self._memory.start(client)
        self._taking = TakingBack(client)
        self._prices = Prices(client)
        await self._prices.open()
        self._leases = Leases(client, NAME, self._context.instance)
        await self._leases.start()
        hop = Hop(
            NAME, _PARTITION, Source(topology.EVENTS, (subjects.events_of(KIND),)), topology.LEDGER,
            if_made_anew="Its first events would go unbilled",
        )  # fmt: skip
        pace = Pace(self._settings.pace_s, self._settings.fetch_messages, self._settings.batch_bytes)
        loop = self._loop = CoveredLoop(client, hop, pace, self._leases, self)
        LAG_MESSAGES.labels(NAME).set_function(lambda: loop.lag)
        self._service = CostService(client, self._prices, self._context.instance)
        await self._service.start()
        self._following = asyncio.create_task(self._prices.follow(), name=f"{NAME}-prices")

    async def stop(self) -> None:
        """Finishes the batch at hand and closes."""
        if self._loop is not None:
            await self._loop.stop()
        leases, self._leases = self._leases, None
        if leases is not None:
            await leases.stop()
        following, self._following = self._following, None
        if following is not None:
            following.cancel()
            await asyncio.wait([following])
        service, self._service = self._service, None
        if service is not None:
            await service.stop()
        self._memory.stop()
        client, self._client = self._client, None
        if client is not None and not client.is_closed:
            await client.close()

    async def run(self) -> None:
        """Prices until stopped. Raises HaltedError past the ceiling of dead letters."""
        assert self._loop is not None, "start() first"
        await self._loop.run()

    def may_take(self) -> bool:
        """There is one partition, and whoever comes first may have it."""
        return True

    async def stand_by(self) -> None:
        """Follows what the other one stores; prices are followed all the time."""
        await self._memory.keep_up()

    async def open(self) -> None:
        """Knows every call charged by now. Raises StartOverError where a replica that lags behind has told less than that."""
        assert self._loop is not None
        await self._memory.catch_up(self._tell)
        record = self._loop.writer.position.record_sequence
        if self._memory.applied < record:
            raise StartOverError(
                f"calls are known up to {self._memory.applied:,} of LEDGER, the newest record stands at {record:,}"
            )

    def _tell(self, text: str) -> None:
        assert self._loop is not None
        self._loop.waiting = {"index": text}

    async def idle(self) -> None:
        """Nothing to do meanwhile."""

    async def cover(self, messages: Sequence[Received]) -> None:
        """Prices ``messages`` and stores entries and record together."""
        began = time.perf_counter()
        assert self._loop is not None
        writer = self._loop.writer
        assert self._prices.book is not None
        found = price(messages, self._prices.book, self._tolerance)
        charged, taken_back = await self._recognise(found.charges)
        await self._bury(found.letters)
        parts = [(tenant, part) for tenant, made in charged.lines.items() for part in split(made)]
        outputs = [
            Outgoing(subjects.ledger(tenant), part.data, {CONTENT_TYPE: NDJSON, EVENT_COUNT: str(part.count)})
            for tenant, part in parts
        ]
        outputs += taken_back.outputs()
        charges, reversals, dead = charged.count, taken_back.count, len(found.letters)
        entries = charges + reversals
        coverage = Coverage(
            batch_id=uuid4().hex, processor=NAME, partition=_PARTITION, instance=self._context.instance,
            input_stream=topology.EVENTS, first_sequence=writer.position.covered + 1, last_sequence=messages[-1].sequence,
            messages=len(messages), received=entries + dead, valid=entries, dead=dead, duplicates=0, skipped=found.skipped,
            valid_by_kind={KIND: charges} | ({"correction": reversals} if reversals else {}), at=datetime.now(UTC),
        )  # fmt: skip
        torn = writer.torn_until > 0
        position = await writer.commit(outputs, coverage)
        if torn or position.record_sequence - position.first_sequence != len(outputs):
            raise StartOverError("a torn batch was completed: what stands where is read from LEDGER")
        self._memory.add(
            self._recognised.rows(_places(charged, parts, position.first_sequence)),
            position.record_sequence,
            messages[-1].stored_ns,
        )
        self._count(charged, taken_back.count)
        BATCH_EVENTS.labels(NAME).observe(entries + dead + found.skipped)
        BATCH_SECONDS.labels(NAME).observe(time.perf_counter() - began)
        log.debug("batch.covered", messages=len(messages), entries=entries, dead=dead, cost_usd=str(charged.cost))

    async def _recognise(self, charges: Sequence[tuple[str, Charge]]) -> tuple[Charged, TakenBack]:
        """What is written for ``charges``, and the reversals that follow from it. Raises StartOverError, and what NATS raises."""
        assert self._taking is not None
        rows = self._memory.known(one.seen for _, one in charges if one.seen is not None)
        lines_made = {one.seen.entry: one.line for _, one in charges if one.seen is not None}
        settled: set[bytes] = set()
        while True:
            self._recognised = Recognition(rows, settled)
            charged = charge(charges, self._recognised)
            if not charged.taken:
                return charged, TakenBack()
            taken_back = await self._taking.of(charged.taken, lines_made, datetime.now(UTC))
            if not taken_back.settled:
                return charged, taken_back
            settled |= taken_back.settled

    def _count(self, charged: Charged, reversals: int) -> None:
        LEDGER_ENTRIES.labels("priced").inc(charged.count - charged.again - charged.unpriced_entries)
        LEDGER_ENTRIES.labels("unpriced").inc(charged.unpriced_entries)
        LEDGER_ENTRIES.labels("duplicate").inc(charged.again)
        LEDGER_ENTRIES.labels("correction").inc(reversals)
        LEDGER_USD.inc(float(charged.cost))
        for (provider, model), why in charged.unpriced.items():
            if (provider, model) not in self._told and len(self._told) < 10_000:
                self._told.add((provider, model))
                log.warning("model.unpriced", provider=provider, model=model, reason=why)

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
