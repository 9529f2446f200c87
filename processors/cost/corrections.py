"""Corrections as cost writes them: in batches of their own, covered and fenced like its entries, each entry corrected once.

Whoever of several instances is asked may answer. It reads which entries of the days at hand are corrected already, and its
batch is refused whole when another instance has corrected anything since: then it looks again.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final
from uuid import uuid4

import nats.js.errors
import orjson
import structlog
from nats.aio.client import Client
from nats.js.api import Header

from processors.cost.corrected import Corrected, Day
from processors.cost.correcting import Correction, correct, day_of
from schemas.corrections import CorrectionAnswer, CorrectionRequest, EntryReference, Left
from schemas.coverage import CORRECTIONS, Coverage
from schemas.ledger import LedgerEntry
from schemas.prices.finding import PriceBook
from service.instruments import LEDGER_ENTRIES
from streams import subjects, topology
from streams.covering import CoveredWriter, FencedError, Outgoing
from streams.messages import CONTENT_TYPE, EVENT_COUNT, NDJSON
from streams.micro_batches import MAX_BATCH_LINES, lines, split

log = structlog.get_logger(__name__)

INPUT: Final = "corrections"
"""What coverage records name as their input: requests, counted from 1."""
_READING: Final = 32
_ATTEMPTS: Final = 20
_MOST: Final = MAX_BATCH_LINES // 2
"""Corrections in one message: of two entries each."""


def corrections_of(tenant: str, day: str, corrections: Iterable[Sequence[LedgerEntry]], last: int) -> list[Outgoing]:
    """What stores corrections of a tenant's day, on condition that ``last`` is still the newest message that corrects any of it.

    The entries of one correction are in one message: whatever becomes of a batch, no entry is reversed and not charged anew.
    """
    each = (b"\n".join(entry.model_dump_json(exclude_none=True).encode() for entry in entries) for entries in corrections)
    made = [
        Outgoing(
            subjects.ledger_corrections(tenant, day), part.data, {CONTENT_TYPE: NDJSON, EVENT_COUNT: str(len(lines(part.data)))}
        )
        for part in split(each, max_lines=_MOST)
    ]
    first = made[0]
    fenced = {**first.headers, Header.EXPECTED_LAST_SUBJECT_SEQUENCE: str(last)}
    return [Outgoing(first.subject, first.data, fenced), *made[1:]]


class Corrections:
    """Writes corrections, one request after another."""

    def __init__(self, client: Client, instance: str) -> None:
        self._client = client
        self._instance = instance
        self._writer = CoveredWriter(client, topology.LEDGER, "cost", CORRECTIONS, (subjects.all_ledger_corrections(),))
        self._alone = asyncio.Lock()
        self._corrected = Corrected(client)

    async def carry_out(self, request: CorrectionRequest, book: PriceBook | None, by: str, now: datetime) -> CorrectionAnswer:
        """Corrects what is to be corrected, once, and stores it before it returns. Raises FencedError under endless contention."""
        async with self._alone:
            originals, missing = await self._originals(request)
            for attempt in range(_ATTEMPTS):
                try:
                    return await self._attempt(request, originals, missing, book, by, now)
                except FencedError:
                    log.info("corrections.again", attempt=attempt, correction_id=request.correction_id)
                    await asyncio.sleep(0.02 * (attempt + 1))
            raise FencedError("other instances correct the ledger all the time")

    async def _attempt(
        self, request: CorrectionRequest, originals: Sequence[LedgerEntry], missing: Sequence[Left], book: PriceBook | None,
        by: str, now: datetime,
    ) -> CorrectionAnswer:  # fmt: skip
        # The record's sequence is read before what it fences: what is corrected later by others makes the batch refused.
        await self._writer.resume()
        made: list[Correction] = []
        left = list(missing)
        days: dict[str, Day] = {}
        for original in originals:
            day = day_of(original)
            if day not in days:
                days[day] = await self._corrected.of(original.tenant_id, day)
            found = correct(original, request, book, days[day].by, by, now)
            if isinstance(found, Left):
                left.append(found)
            else:
                made.append(found)
        # What a torn batch left is covered, although nothing may be left to correct.
        if made or self._writer.torn_until:
            await self._store(made, {day: found.last for day, found in days.items()})
        before = sum((one.original.cost_usd for one in made), Decimal(0))
        after = sum((one.adjustment.cost_usd for one in made if one.adjustment is not None), Decimal(0))
        return CorrectionAnswer(
            correction_id=request.correction_id, corrected=len(made), left=tuple(left), before_usd=before, after_usd=after
        )

    async def _store(self, made: Sequence[Correction], lasts: Mapping[str, int]) -> None:
        written: dict[tuple[str, str], list[tuple[LedgerEntry, ...]]] = defaultdict(list)
        for one in made:
            written[one.original.tenant_id, day_of(one.original)].append(one.entries())
        # What recognises calls corrects entries too: of each day nothing may have been written since it was read.
        outputs = [out for (tenant, day), each in written.items() for out in corrections_of(tenant, day, each, lasts[day])]
        entries = sum(len(one.entries()) for one in made)
        number = self._writer.position.covered + 1
        await self._writer.commit(
            outputs,
            Coverage(
                batch_id=uuid4().hex, processor="cost", partition=CORRECTIONS, instance=self._instance, input_stream=INPUT,
                first_sequence=number, last_sequence=number, messages=1, received=entries, valid=entries, dead=0, duplicates=0,
                valid_by_kind={"correction": entries}, at=datetime.now(UTC),
            ),
        )  # fmt: skip
        LEDGER_ENTRIES.labels("correction").inc(entries)

    async def _originals(self, request: CorrectionRequest) -> tuple[list[LedgerEntry], list[Left]]:
        """The entries asked for as LEDGER has them, each once, and those it has not."""
        wanted: dict[int, dict[str, EntryReference]] = defaultdict(dict)
        for reference in request.entries:
            wanted[reference.sequence][reference.entry_id] = reference
        limit = asyncio.Semaphore(_READING)

        async def read(sequence: int, ids: dict[str, EntryReference]) -> list[LedgerEntry]:
            async with limit:
                try:
                    message = await self._client.jetstream().get_msg(topology.LEDGER, sequence, direct=True)
                except nats.js.errors.NotFoundError:
                    return []
            if (message.subject or "").split(".")[:2] != subjects.ledger(request.tenant).split("."):
                return []
            held = [line for line in lines(message.data or b"") if orjson.loads(line).get("entry_id") in ids]
            return [LedgerEntry.model_validate_json(line) for line in held]

        found = [entry for several in await asyncio.gather(*(read(*one) for one in wanted.items())) for entry in several]
        there = {entry.entry_id for entry in found}
        missing = [
            Left(
                entry_id=one.entry_id,
                outcome="missing",
                why=f"not in message {one.sequence} of LEDGER, or not of {request.tenant}",
            )
            for one in request.entries
            if one.entry_id not in there
        ]
        return list({entry.entry_id: entry for entry in found}.values()), missing
