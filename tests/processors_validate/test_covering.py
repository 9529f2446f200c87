"""What validate has covered is known exactly: no gap, no overlap, counts equal; through restarts, rivals and purges."""

import asyncio
from collections import Counter
from pathlib import Path

import nats.js.api
import orjson
from nats.aio.client import Client

from processors.validate.app import attach
from schemas.events import KIND_OF
from streams import topology
from streams.apply import apply
from streams.embedded import EmbeddedServer
from streams.messages import EVENT_COUNT
from streams.publish import publish
from tests.conftest import until
from tests.processors_validate.running import (
    accepted,
    adds_up,
    dead,
    drained,
    event,
    ids,
    messages,
    records,
    running,
    send,
    send_batch,
    supervised_processor,
)


async def test_events_keep_their_order_by_tenant_and_kind_and_travel_together(
    server: EmbeddedServer, client: Client, tmp_path: Path
) -> None:
    made = [event(kind, agent=f"a{n}") for n in range(40) for kind in ("run.started", "step.started", "log.emitted")]
    for one in made:
        if one["event_type"] == "step.started":
            one["step"] = {"step_id": "s", "step_type": "plan"}
        if one["event_type"] == "log.emitted":
            one["log"] = {"level": "info", "message": "hello"}
    await send_batch(client, "acme", *made)
    async with running(attach, server, tmp_path):
        await drained(client)
    found = await messages(client, "EVENTS", "events.>")
    assert {m.subject: m.headers[EVENT_COUNT] for m in found} == {f"events.acme.{kind}": "40" for kind in ("run", "step", "log")}
    stored = await accepted(client)
    for kind in ("run", "step", "log"):
        wanted = [one["event_id"] for one in made if KIND_OF[one["event_type"]] == kind]
        assert ids([one for one in stored if one.kind == kind]) == wanted
    assert [one.ingest.position for one in stored if one.kind == "step"] == list(range(1, 120, 3))


async def test_more_outputs_than_one_atomic_batch_holds_are_covered_piece_by_piece(
    server: EmbeddedServer, client: Client, tmp_path: Path
) -> None:
    js = client.jetstream()
    for number in range(1500):
        await js.publish_async(f"telemetry.acme.a{number}.run", b"bad")
    for number in range(1200):
        made = event(tenant=f"t{number}")
        await js.publish_async(f"telemetry.t{number}.a1.run", orjson.dumps(made))
    await js.publish_async_completed()
    async with running(attach, server, tmp_path):
        await drained(client)
    found = await records(client)
    adds_up(found)
    assert (sum(r.valid for r in found), sum(r.dead for r in found)) == (1200, 1500)


async def test_two_instances_at_once_do_no_harm(server: EmbeddedServer, client: Client, tmp_path: Path) -> None:
    """One is active; the other is refused whole, again and again. They even share the index file."""
    made = [event(agent=f"a{n}") for n in range(300)]
    async with running(attach, server, tmp_path, "one"), running(attach, server, tmp_path, "two"):
        for start in range(0, 300, 20):
            await send(client, *made[start : start + 20])
            await send(client, made[start])
        await drained(client, 30)
    assert Counter(ids(await accepted(client))) == Counter(one["event_id"] for one in made)
    found = await records(client)
    adds_up(found)
    assert sum(record.duplicates for record in found) == 15
    assert await dead(client) == []


async def test_it_goes_on_after_the_server_was_killed_and_started_again(
    server: EmbeddedServer, client: Client, tmp_path: Path
) -> None:
    made = [event(agent=f"a{n}") for n in range(60)]
    async with running(attach, server, tmp_path) as supervised:
        for round_number in range(3):
            await send(client, *made[round_number * 20 : round_number * 20 + 20])
            await server.kill()
            await server.start()
            await until(lambda: client.is_connected, "the test is connected again")
        await drained(client, 20)
        await until(lambda: not supervised.waiting_for(), "ready again")
    assert Counter(ids(await accepted(client))) == Counter(one["event_id"] for one in made)
    adds_up(await records(client))


async def test_messages_purged_by_hand_are_counted_as_missing(server: EmbeddedServer, client: Client, tmp_path: Path) -> None:
    made = [event() for _ in range(10)]
    await send(client, *made[:3])
    async with running(attach, server, tmp_path):
        await drained(client)
    await send(client, *made[3:8])
    await client.jsm().delete_msg(topology.TELEMETRY, 5)
    await client.jsm().purge_stream(topology.TELEMETRY, seq=5)
    async with running(attach, server, tmp_path):
        await drained(client)
        await send(client, *made[8:])
        await drained(client)
    assert ids(await accepted(client)) == [one["event_id"] for n, one in enumerate(made) if n not in {3, 4}]
    found = await records(client)
    adds_up(found)
    assert sum(record.missing for record in found) == 2


async def test_a_telemetry_stream_made_anew_is_refused_instead_of_being_swallowed(
    server: EmbeddedServer, client: Client, tmp_path: Path
) -> None:
    """Its sequences begin again: what arrives would look covered, and be acknowledged unread."""
    async with running(attach, server, tmp_path):
        await send(client, event(), event())
        await drained(client)
    await client.jsm().delete_stream(topology.TELEMETRY)
    await apply(client)
    await send(client, event())
    supervised = supervised_processor(attach, server, tmp_path)
    task = asyncio.create_task(supervised.keep())
    await until(lambda: "made anew" in supervised.waiting_for().get("validate", ""), "it says why it halted")
    assert (await client.jsm().stream_info(topology.TELEMETRY)).state.messages == 1
    await supervised.stop(task, 2)
    stream = next(one for one in topology.streams() if one.name == topology.TELEMETRY)
    await client.jsm().delete_stream(topology.TELEMETRY)
    stream.first_seq = 3
    await client.jsm().add_stream(stream)
    async with running(attach, server, tmp_path):
        await send(client, event())
        await drained(client)
    assert len(await accepted(client)) == 3
    adds_up(await records(client))


async def test_a_full_events_stream_is_waited_for_and_nothing_is_lost(
    server: EmbeddedServer, client: Client, tmp_path: Path
) -> None:
    info = await client.jsm().stream_info(topology.EVENTS)
    narrow = nats.js.api.StreamConfig(**(info.config.__dict__ | {"max_msgs": 1}))
    await client.jsm().update_stream(narrow)
    made = [event() for _ in range(5)]
    async with running(attach, server, tmp_path):
        await send(client, *made)
        await asyncio.sleep(0)
        assert (await client.jsm().stream_info(topology.TELEMETRY)).state.messages == 5
        await client.jsm().update_stream(nats.js.api.StreamConfig(**(info.config.__dict__ | {"max_msgs": -1})))
        await drained(client)
    assert ids(await accepted(client)) == [one["event_id"] for one in made]


async def test_stopping_leaves_nothing_half_done(server: EmbeddedServer, client: Client, tmp_path: Path) -> None:
    js = client.jetstream()
    for number in range(3000):
        await js.publish_async("telemetry.acme.a1.run", b"bad %d" % number)
    await js.publish_async_completed()
    async with running(attach, server, tmp_path):
        pass
    await publish(client, "telemetry.acme.a1.run", b"bad at last")
    async with running(attach, server, tmp_path):
        await drained(client)
    found = await records(client)
    adds_up(found)
    assert sum(record.dead for record in found) == 3001 == len(await dead(client))
