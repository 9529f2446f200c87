"""Reading the streams for the verdict, with a reader of one's own: plain messages by sequence, nothing of the processors."""

from collections.abc import AsyncIterator, Callable
from decimal import Decimal
from typing import Any

import orjson
from nats.aio.client import Client

from chaos.verdict import Case
from schemas.dead_letters import DeadLetter
from streams import dead_letters, subjects, topology
from streams.reader import OrderedReader, Source

_SILENCE_S = 10.0


class NotReadableError(Exception):
    """A stream could not be read to its end. Trying again helps once the server answers."""


async def _messages(client: Client, stream: str, subject: str) -> AsyncIterator[bytes]:
    """The payload of every message under ``subject``, up to what the stream holds now."""
    info = await client.jsm().stream_info(stream, subjects_filter=subject)
    expected = sum((info.state.subjects or {}).values())
    reader = OrderedReader(client, Source(stream, (subject,)))
    read = 0
    try:
        while read < expected:
            messages = await reader.fetch(2000, _SILENCE_S)
            if not messages:
                raise NotReadableError(f"{stream}: {read:,} of {expected:,} messages under {subject}, then nothing more")
            for message in messages:
                yield message.data
            read += len(messages)
    finally:
        await reader.close()


async def hear(client: Client, case: Case, tell: Callable[[str], None]) -> None:
    """Lets ``case`` hear every event, entry and letter."""
    for stream, subject, take, what in (
        (topology.EVENTS, subjects.ALL_EVENTS, case.event, "events"),
        (topology.LEDGER, subjects.ALL_LEDGER, case.entry, "ledger entries"),
    ):
        heard = 0
        async for data in _messages(client, stream, subject):
            for line in data.split(b"\n"):
                if line:
                    take(orjson.loads(line))
                    heard += 1
            tell(f"judging: {heard:,} {what}")
    async for data in _messages(client, topology.EVENTS, subjects.ALL_DEAD):
        letter = DeadLetter.model_validate_json(data)
        case.letter(orjson.loads(data), dead_letters.original(letter))


def spent(answer: dict[str, Any] | None) -> Decimal | None:
    """The sum of a ``spend`` query; None where nobody answered."""
    return None if answer is None else sum((Decimal(row["cost_usd"]) for row in answer["rows"]), Decimal(0))
