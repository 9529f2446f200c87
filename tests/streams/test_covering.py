"""Outputs and progress appear together or not at all; a second writer is refused whole."""

from datetime import UTC, datetime
from uuid import uuid4

import pytest
from nats.aio.client import Client

from schemas.coverage import Coverage
from streams import topology
from streams.apply import apply, check
from streams.covering import CoveredWriter, FencedError, Outgoing
from streams.embedded import EmbeddedServer
from streams.reader import OrderedReader, Source
from tests.conftest import stream_messages, until


def record(first: int, last: int) -> Coverage:
    return Coverage(
        batch_id=uuid4().hex, processor="validate", partition=0, instance="test", input_stream="TELEMETRY",
        first_sequence=first, last_sequence=last, messages=last - first + 1, received=2, valid=2, dead=0, duplicates=0,
        at=datetime.now(UTC),
    )  # fmt: skip


async def test_applying_the_topology_twice_changes_nothing_and_leaves_no_drift(client: Client) -> None:
    assert await apply(client) == []
    assert await check(client) == []


async def test_a_batch_stores_outputs_and_record_together(client: Client) -> None:
    writer = CoveredWriter(client, "EVENTS", "validate")
    await writer.resume()
    position = await writer.commit([Outgoing("events.acme.run", b"a"), Outgoing("dead.acme.run", b"b")], record(1, 5))
    assert (position.covered, position.record_sequence) == (5, 3)
    again = CoveredWriter(client, "EVENTS", "validate")
    assert await again.resume() == position


async def test_an_input_made_anew_is_known_even_when_it_has_outgrown_what_was_covered(client: Client) -> None:
    """Its sequences begin again: what arrives would look covered."""
    js = client.jetstream()
    writer = CoveredWriter(client, "EVENTS", "validate")
    await writer.resume()
    assert await writer.replaced("TELEMETRY") is None
    for _ in range(3):
        await js.publish("telemetry.acme.a.run", b"{}")
    await writer.commit([], record(1, 2))
    assert await writer.replaced("TELEMETRY") is None
    await client.jsm().delete_stream("TELEMETRY")
    await apply(client)
    assert "made anew" in (await writer.replaced("TELEMETRY") or "")
    for _ in range(4):
        await js.publish("telemetry.acme.a.run", b"{}")
    assert "made anew" in (await writer.replaced("TELEMETRY") or "")
    stream = next(one for one in topology.streams() if one.name == "TELEMETRY")
    await client.jsm().delete_stream("TELEMETRY")
    stream.first_seq = 3
    await client.jsm().add_stream(stream)
    await js.publish("telemetry.acme.a.run", b"{}")
    assert await writer.replaced("TELEMETRY") is None


async def test_a_second_writer_is_refused_whole(client: Client) -> None:
    """The zombie's outputs are not stored either."""
    first, zombie = CoveredWriter(client, "EVENTS", "validate"), CoveredWriter(client, "EVENTS", "validate")
    await first.resume()
    await zombie.resume()
    await first.commit([Outgoing("events.acme.run", b"a")], record(1, 5))
    with pytest.raises(FencedError):
        await zombie.commit([Outgoing("events.acme.run", b"zombie")], record(1, 5))
    assert await stream_messages(client, "EVENTS") == 2


async def test_a_reader_goes_on_in_order_after_the_server_was_killed(server: EmbeddedServer, client: Client) -> None:
    js = client.jetstream()
    for number in range(50):
        await js.publish("events.acme.run", str(number).encode())
    reader = OrderedReader(client, Source("EVENTS", ("events.>",), buffer_messages=20))
    seen = [int(m.data) for m in await reader.fetch(7, 5)]
    await server.kill()
    await server.start()
    await until(lambda: client.is_connected, "reconnected")
    for number in range(50, 60):
        await js.publish("events.acme.run", str(number).encode())
    while len(seen) < 60:
        messages = await reader.fetch(100, 5)
        assert messages, seen
        seen += [int(m.data) for m in messages]
    assert seen == list(range(60))


async def test_a_message_larger_than_the_buffer_is_read_all_the_same(client: Client) -> None:
    await client.jetstream().publish("alerts.acme.info.big", b"x" * 1_500_000)
    await client.jetstream().publish("alerts.acme.info.small", b"y")
    reader = OrderedReader(client, Source("ALERTS", buffer_bytes=1024 * 1024))
    seen: list[int] = []
    while len(seen) < 2:
        messages = await reader.fetch(10, 5)
        assert messages, seen
        seen += [len(message.data) for message in messages]
    assert seen == [1_500_000, 1]
    await reader.close()
