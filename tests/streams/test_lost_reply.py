"""A batch whose answer is lost is stored all the same: its writer finds out, and is no zombie."""

import asyncio
from pathlib import Path
from typing import Literal

import pytest
from nats.aio.client import Client

from processors.runner import ProcessorContext, Supervised
from processors.validate.app import attach
from service.instruments import FENCED
from streams.broker import broker
from streams.connect import connect
from streams.covering import CoveredWriter, Outgoing
from streams.embedded import EmbeddedServer
from streams.reader import OrderedReader, Source
from tests.conftest import stream_messages, until
from tests.processors_validate.running import accepted, adds_up, drained, event, ids, records, send
from tests.streams.losing import losing_way
from tests.streams.test_covering import record


@pytest.mark.parametrize("what", ["the reply", "the connection"])
async def test_the_writer_finds_its_own_record_and_goes_on(
    server: EmbeddedServer, client: Client, what: Literal["the reply", "the connection"]
) -> None:
    async with losing_way(server) as way:
        own = await connect(way.settings(), "writer")
        writer = CoveredWriter(own, "EVENTS", "validate")
        await writer.resume()
        await writer.commit([Outgoing("events.acme.run", b"a")], record(1, 5))
        way.losing = what
        position = await writer.commit([Outgoing("events.acme.run", b"b")], record(6, 9))
        assert (position.covered, position.record_sequence, way.lost) == (9, 4, 1)
        await writer.commit([Outgoing("events.acme.run", b"c")], record(10, 11))
        assert await stream_messages(client, "EVENTS") == 6
        await own.close()


async def test_the_last_delivery_before_a_silence_is_missed_by_the_next_heartbeat(server: EmbeddedServer, client: Client) -> None:
    """No later delivery shows the gap: the server's word on how many it has sent does."""
    async with losing_way(server) as way:
        own = await connect(way.settings(), "reader")
        reader = OrderedReader(own, Source("EVENTS", ("events.>",)))
        await client.jetstream().publish("events.acme.run", b"a")
        assert [m.data for m in await reader.fetch(10, 5)] == [b"a"]
        way.losing = "a delivery"
        await client.jetstream().publish("events.acme.run", b"b")
        assert [m.data for m in await reader.fetch(10, 8)] == [b"b"]
        assert (way.lost, reader.resets) == (1, 1)
        await reader.close()
        await own.close()


async def test_validate_goes_on_without_stepping_back_and_stores_every_event_once(
    server: EmbeddedServer, client: Client, tmp_path: Path
) -> None:
    made = [event(agent=f"a{n}") for n in range(40)]
    before = FENCED.labels("validate")._value.get()
    async with losing_way(server) as way:

        async def own(name: str) -> Client:
            return await connect(way.settings(), name)

        processor = attach(broker(way.settings(), "test"), ProcessorContext(tmp_path, "test", own))
        supervised = Supervised(processor)
        task = asyncio.create_task(supervised.keep())
        await until(lambda: not supervised.waiting_for(), "ready")
        for number in range(4):
            way.losing = "the connection" if number % 2 else "the reply"
            await send(client, *made[number * 10 : number * 10 + 10])
            await drained(client, 20)
        assert way.lost == 4
        await supervised.stop(task, 4.0)
    assert ids(await accepted(client)) == [one["event_id"] for one in made]
    found = await records(client)
    adds_up(found)
    assert sum(one.duplicates for one in found) == 0
    assert FENCED.labels("validate")._value.get() == before
