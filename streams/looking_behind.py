"""Finding what a torn batch left behind the newest coverage record of its writer."""

import asyncio
from collections.abc import Sequence
from typing import Final

import nats.js.errors
from nats.aio.client import Client

from streams import torn
from streams.messages import Received, promised
from streams.reader import OrderedReader, Source
from streams.torn import Leftovers, Part

BATCH_ID: Final = "Nats-Batch-Id"
MOST: Final = 100_000
"""At most so many messages are looked through, a second or two. A batch is torn by a full stream, in which nothing is stored behind it
until it has room again; what is further back than this is no matter of a writer that was just at work."""
_AT_ONCE: Final = 1000
_WAIT_S: Final = 1.0
_SILENCE_S: Final = 5.0
_GETTING: Final = 50


async def left_behind(
    client: Client, stream: str, after: int, processor: str, partition: int, subjects: Sequence[str]
) -> Leftovers:
    """What this processor and partition has stored in ``stream`` behind ``after``, its newest record. Raises what NATS raises."""
    last = (await client.jsm().stream_info(stream)).state.last_seq
    if last <= after:
        return Leftovers()
    own: list[tuple[Received, int]] = []
    reader = OrderedReader(client, Source(stream, tuple(subjects), headers_only=True), max(after, last - MOST))
    loop = asyncio.get_running_loop()
    heard = loop.time()
    try:
        while reader.position < last and not (reader.begun and reader.caught_up):
            found = await reader.fetch(_AT_ONCE, _WAIT_S)
            for message in found:
                until = torn.covers(message.headers.get(BATCH_ID, ""), processor, partition)
                if until is not None:
                    own.append((message, until))
            if found:
                heard = loop.time()
            elif not reader.caught_up and loop.time() - heard > _SILENCE_S:
                raise TimeoutError
    finally:
        await reader.close()
    parts: list[Part] = []
    for first in range(0, len(own), _GETTING):
        some = (_whole(client, stream, message, until) for message, until in own[first : first + _GETTING])
        parts += filter(None, await asyncio.gather(*some))
    return Leftovers(tuple(parts))


async def _whole(client: Client, stream: str, message: Received, until: int) -> Part | None:
    try:
        stored = await client.jetstream().get_msg(stream, message.sequence, direct=True)
    except nats.js.errors.NotFoundError:
        # Aged out or deleted meanwhile: it does not stand.
        return None
    return Part(message.sequence, message.subject, stored.data or b"", promised(message), until)
