"""Reading a range of a stream for counting: headers of what is counted, payloads of coverage records and of the ledger's entries."""

import time
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Final

import orjson
from nats.aio.client import Client

from schemas.coverage import Coverage
from streams import subjects, topology
from streams.auditing.accounts import Stored
from streams.auditing.report import AuditImpossibleError
from streams.auditing.scope import Range
from streams.auditing.standing import Standing
from streams.messages import Received, promised
from streams.micro_batches import lines
from streams.reader import OrderedReader, Source

_AT_ONCE: Final = 500
_WAIT_S: Final = 0.5
_SILENCE_S: Final = 10.0
_LEDGER: Final = subjects.beginning(subjects.ALL_LEDGER)
_COVERED: Final = subjects.beginning(subjects.COVERED_VALIDATE)


def _is_account(pattern: str) -> bool:
    return subjects.beginning(pattern) == _COVERED


async def _read(client: Client, source: Source, wanted: Range) -> AsyncIterator[Received]:
    """Messages of ``source`` in ``wanted``, in order; raises AuditImpossibleError when they stop coming."""
    if wanted.empty:
        return
    reader = OrderedReader(client, source, wanted.after)
    heard = time.monotonic()
    try:
        while True:
            messages = await reader.fetch(_AT_ONCE, _WAIT_S)
            for message in messages:
                if message.sequence > wanted.last:
                    return
                yield message
            if reader.caught_up:
                return
            if messages:
                heard = time.monotonic()
            elif time.monotonic() - heard > _SILENCE_S:
                raise AuditImpossibleError(f"{source.stream} stopped delivering after {reader.position:,}: try again")
    finally:
        await reader.close()


async def _merged(first: AsyncIterator[Received], second: AsyncIterator[Received]) -> AsyncIterator[Received]:
    """Both, in order of sequence."""
    one, other = await anext(first, None), await anext(second, None)
    while one is not None or other is not None:
        if other is None or (one is not None and one.sequence < other.sequence):
            assert one is not None
            yield one
            one = await anext(first, None)
        else:
            yield other
            other = await anext(second, None)


def _stored(message: Received) -> Stored:
    covered = Coverage.model_validate_json(message.data) if _is_account(message.subject) else None
    money = _dollars(message.data) if subjects.beginning(message.subject) == _LEDGER else None
    return Stored(message.sequence, message.subject, promised(message), covered, money)


def _dollars(data: bytes) -> Decimal | None:
    """What the entries of a message come to; None where one of them cannot be read."""
    try:
        return sum((Decimal(orjson.loads(line)["cost_usd"]) for line in lines(data)), Decimal(0))
    except (ValueError, KeyError, TypeError, ArithmeticError):
        return None


async def records(client: Client, standing: Standing) -> AsyncIterator[Stored]:
    """The coverage records in what stands of the range."""
    read = tuple(filter(_is_account, standing.subjects))
    if read:
        async for message in _read(client, Source(standing.name, read), standing.standing):
            yield _stored(message)


async def messages(client: Client, standing: Standing, tenant: str | None) -> AsyncIterator[Stored]:
    """Every message in what stands of the range; of one tenant, without coverage records, where one is given. LEDGER is read whole."""
    counted = tuple(pattern for pattern in standing.subjects if not _is_account(pattern))
    if tenant is not None:
        counted = tuple(one for pattern in counted for one in subjects.of_tenant(pattern, tenant))
    light = _read(client, Source(standing.name, counted, headers_only=standing.name != topology.LEDGER), standing.standing)
    read = () if tenant is not None else tuple(filter(_is_account, standing.subjects))
    both = _merged(light, _read(client, Source(standing.name, read), standing.standing)) if read else light
    async for message in both:
        yield _stored(message)
