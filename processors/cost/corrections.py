"""Corrections as cost writes them: in batches of their own, covered and fenced like its entries, each entry corrected once.

Whoever of several instances is asked may answer. It reads which entries of the days at hand are corrected already, and its
batch is refused whole when another instance has corrected anything since: then it looks again.
"""

import asyncio
from collections import defaultdict
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Final
from uuid import uuid4

import nats.js.errors
import orjson
import structlog
from nats.aio.client import Client

from processors.cost.correcting import Correction, correct, day_of
from schemas.corrections import CorrectionAnswer, CorrectionRequest, EntryReference, Left
from schemas.coverage import CORRECTIONS, Coverage
from schemas.ledger import LedgerEntry
from schemas.prices.finding import PriceBook
from service.instruments import LEDGER_ENTRIES
from streams import subjects, topology
from streams.covering import CoveredWriter, FencedError, Outgoing
from streams.messages import CONTENT_TYPE, EVENT_COUNT, NDJSON
from streams.micro_batches import lines, split
from streams.reader import OrderedReader, Source

log = structlog.get_logger(__name__)

INPUT: Final = "corrections"
"""What coverage records name as their input: requests, counted from 1."""
_REMEMBERED: Final = 500_000
"""Corrected entries remembered between requests; more are read again from LEDGER."""
_READING: Final = 32
_ATTEMPTS: Final = 20


class Corrections:
    """Writes corrections, one request after another."""

    def __init__(self, client: Client, instance: str) -> None:
        self._client = client
        self._instance = instance
        self._writer = CoveredWriter(client, topology.LEDGER, "cost", CORRECTIONS, (subjects.all_ledger_corrections(),))
        self._alone = asyncio.Lock()
        self._known: dict[tuple[str, str], dict[str, str]] = {}
        self._as_of = -1

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
        position = await self._writer.resume()
        if position.record_sequence != self._as_of or sum(map(len, self._known.values())) > _REMEMBERED:
            self._known.clear()
        self._as_of = position.record_sequence
        made: list[Correction] = []
        left = list(missing)
        for original in originals:
            found = correct(original, request, book, await self._corrected(original.tenant_id, day_of(original)), by, now)
            if isinstance(found, Left):
                left.append(found)
            else:
                made.append(found)
        if made:
            await self._store(made)
        before = sum((one.original.cost_usd for one in made), Decimal(0))
        after = sum((one.adjustment.cost_usd for one in made if one.adjustment is not None), Decimal(0))
        return CorrectionAnswer(
            correction_id=request.correction_id, corrected=len(made), left=tuple(left), before_usd=before, after_usd=after
        )

    async def _store(self, made: Sequence[Correction]) -> None:
        written: dict[str, list[bytes]] = defaultdict(list)
        for one in made:
            subject = subjects.ledger_corrections(one.original.tenant_id, day_of(one.original))
            written[subject] += (entry.model_dump_json(exclude_none=True).encode() for entry in one.entries())
        outputs = [
            Outgoing(subject, part.data, {CONTENT_TYPE: NDJSON, EVENT_COUNT: str(part.count)})
            for subject, made_lines in written.items()
            for part in split(made_lines)
        ]
        entries = sum(map(len, written.values()))
        number = self._writer.position.covered + 1
        position = await self._writer.commit(
            outputs,
            Coverage(
                batch_id=uuid4().hex, processor="cost", partition=CORRECTIONS, instance=self._instance, input_stream=INPUT,
                first_sequence=number, last_sequence=number, messages=1, received=entries, valid=entries, dead=0, duplicates=0,
                valid_by_kind={"correction": entries}, at=datetime.now(UTC),
            ),
        )  # fmt: skip
        self._as_of = position.record_sequence
        for one in made:
            known = self._known[one.original.tenant_id, day_of(one.original)]
            known[one.original.entry_id] = one.reversal.correction_id or ""
        LEDGER_ENTRIES.labels("correction").inc(entries)

    async def _corrected(self, tenant: str, day: str) -> dict[str, str]:
        """Every entry of a tenant's day that is corrected, with the correction it is of."""
        found = self._known.get((tenant, day))
        if found is None:
            found = self._known[tenant, day] = await self._read(subjects.ledger_corrections(tenant, day))
        return found

    async def _read(self, subject: str) -> dict[str, str]:
        try:
            last = (await self._client.jetstream().get_last_msg(topology.LEDGER, subject, direct=True)).seq or 0
        except nats.js.errors.NotFoundError:
            return {}
        found: dict[str, str] = {}
        reader = OrderedReader(self._client, Source(topology.LEDGER, (subject,)))
        try:
            reached = 0
            while reached < last:
                for message in await reader.fetch(1000, 5.0):
                    for line in lines(message.data):
                        entry = orjson.loads(line)
                        found[entry["corrects"]] = entry.get("correction_id", "")
                    reached = message.sequence
        finally:
            await reader.close()
        return found

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
