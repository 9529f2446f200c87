"""An agent's events as they come: server-sent events, resumed by ``Last-Event-ID``."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

import orjson
from nats.aio.client import Client

from agent_manager.api.problems import ProblemError
from service.instruments import API_STREAMS
from streams import subjects, topology
from streams.micro_batches import lines
from streams.reader import OrderedReader, Source

_BUFFERED_BYTES: Final = 1_000_000
"""Of messages that wait for a slow reader; beyond it the server keeps them, and they come later."""
_AT_ONCE: Final = 100

Place = tuple[int, int]
"""A message of EVENTS and how many of its lines were sent."""


def place(last_event_id: str) -> Place:
    """Where ``<sequence>-<line>`` stands; raises ProblemError (400)."""
    sequence, dash, line = last_event_id.partition("-")
    parts = (sequence, line)
    if not dash or not all(part.isascii() and part.isdigit() and len(part) < 19 for part in parts) or int(sequence) < 1:
        raise ProblemError(
            400, "bad_event_id", f"Last-Event-ID {last_event_id[:80]!r} is none of ours: leave it out to begin now"
        )
    return int(sequence), int(line)


async def newest(client: Client) -> Place:
    """Behind everything there is now."""
    return (await client.jsm().stream_info(topology.EVENTS)).state.last_seq + 1, 0


async def events(
    client: Client, tenant: str, agent: str, begin: Place, beat_s: float, may_still: Callable[[], Awaitable[bool]]
) -> AsyncIterator[bytes]:
    """Every event of the agent from ``begin`` on, as the bytes of an event stream; ends where ``may_still`` says no."""
    sequence, done = begin
    source = Source(topology.EVENTS, subjects.of_tenant(subjects.ALL_EVENTS, tenant), _AT_ONCE, _BUFFERED_BYTES)
    reader = OrderedReader(client, source, sequence - 1)
    mark = orjson.dumps(agent)
    API_STREAMS.inc()
    try:
        yield b"retry: 2000\n\n"
        told = time.monotonic()
        while True:
            for message in await reader.fetch(_AT_ONCE, beat_s):
                for number, line in enumerate(lines(message.data), 1):
                    if (message.sequence == sequence and number <= done) or mark not in line:
                        continue
                    event = orjson.loads(line)
                    if event["run"]["agent_id"] == agent:
                        yield b"id: %d-%d\nevent: %s\ndata: %s\n\n" % (
                            message.sequence,
                            number,
                            event["event_type"].encode(),
                            line,
                        )
            if time.monotonic() - told >= beat_s:
                told = time.monotonic()
                if not await may_still():
                    return
                yield b": alive\n\n"
    finally:
        API_STREAMS.dec()
        await reader.close()
