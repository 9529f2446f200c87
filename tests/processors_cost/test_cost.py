"""Cost at work: exactly one ledger entry for each billable call, through restarts, rivals, poison and a dying server."""

import asyncio
from collections import Counter
from decimal import Decimal
from pathlib import Path

import orjson
import pytest
from nats.aio.client import Client

from processors.cost.app import attach
from processors.validate.app import attach as attach_validate
from streams import topology
from streams.embedded import EmbeddedServer
from streams.messages import CONTENT_TYPE, EVENT_COUNT, NDJSON
from streams.publish import publish
from tests.conftest import until
from tests.processors_cost.test_entries import accepted_line
from tests.processors_validate.running import (
    dead,
    drained,
    event,
    ledger,
    messages,
    records,
    running,
    send,
    send_batch,
    supervised_processor,
)

SUBJECT = "events.acme.model_call"


async def priced(client: Client, within_s: float = 15.0) -> None:
    """Waits until cost has covered the newest model call in EVENTS."""
    last = (await client.jetstream().get_last_msg("EVENTS", "events.*.model_call")).seq or 0

    async def covered() -> bool:
        found = await records(client, "cost")
        return bool(found) and found[-1].last_sequence >= last

    await until(covered, "cost has covered all model calls", within_s)


async def test_each_billable_call_is_billed_once_and_nothing_else_is(
    server: EmbeddedServer, client: Client, tmp_path: Path
) -> None:
    calls = [event("model_call.completed", agent=f"a{n}") for n in range(30)]
    failed = [event("model_call.failed", agent="a1"), event("model_call.failed", agent="a1", resource_usage=None)]
    other = event("model_call.completed", tenant="globex")
    async with running(attach_validate, server, tmp_path), running(attach, server, tmp_path):
        await send_batch(client, "acme", *calls[:10], event(), *failed)
        await send(client, *calls[10:], other, calls[0])
        await drained(client)
        await priced(client)
    entries = await ledger(client)
    assert Counter(one.event_id for one in entries) == Counter(one["event_id"] for one in (*calls, failed[0], other))
    assert {one.cost_usd for one in entries} == {Decimal("0.00021")}
    found = await messages(client, "LEDGER", "ledger.>")
    assert {m.subject for m in found} == {"ledger.acme", "ledger.globex"}
    assert sum(int(m.headers[EVENT_COUNT]) for m in found) == 32
    covered = await records(client, "cost")
    assert (sum(r.received for r in covered), sum(r.valid for r in covered), sum(r.skipped for r in covered)) == (32, 32, 1)


async def test_a_restart_goes_on_where_the_record_says(server: EmbeddedServer, client: Client, tmp_path: Path) -> None:
    for _ in range(3):
        for _ in range(5):
            await publish(client, SUBJECT, accepted_line())
        async with running(attach, server, tmp_path):
            await priced(client)
    assert len(await ledger(client)) == 15
    covered = await records(client, "cost")
    assert [r.first_sequence for r in covered] == [1, *(r.last_sequence + 1 for r in covered[:-1])]


async def test_two_instances_bill_nothing_twice(server: EmbeddedServer, client: Client, tmp_path: Path) -> None:
    lines = [accepted_line() for _ in range(200)]
    async with running(attach, server, tmp_path, "one"), running(attach, server, tmp_path, "two"):
        for line in lines:
            await publish(client, SUBJECT, line)
        await priced(client, 30)
    assert Counter(one.event_id for one in await ledger(client)) == Counter(orjson.loads(line)["event_id"] for line in lines)


async def test_it_goes_on_after_the_server_was_killed_and_started_again(
    server: EmbeddedServer, client: Client, tmp_path: Path
) -> None:
    async with running(attach, server, tmp_path) as supervised:
        for _ in range(2):
            for _ in range(10):
                await publish(client, SUBJECT, accepted_line())
            await server.kill()
            await server.start()
            await until(lambda: client.is_connected, "the test is connected again")
        await priced(client, 20)
        await until(lambda: not supervised.waiting_for(), "ready again")
    assert len(await ledger(client)) == 20


async def test_an_unreadable_event_is_parked_counted_and_passed_by(
    server: EmbeddedServer, client: Client, tmp_path: Path
) -> None:
    good = [accepted_line(), accepted_line()]
    async with running(attach, server, tmp_path):
        data = b"\n".join((good[0], b"rubbish", good[1]))
        await publish(client, SUBJECT, data, headers={CONTENT_TYPE: NDJSON})
        await priced(client)
    (letter,) = await dead(client)
    assert (letter.processor, letter.reason, letter.source_stream, letter.position) == ("cost", "unreadable_event", "EVENTS", 1)
    assert len(await ledger(client)) == 2
    assert [(r.received, r.valid, r.dead) for r in await records(client, "cost")] == [(3, 2, 1)]


async def test_past_the_ceiling_of_unreadable_events_it_halts_and_says_why_and_bills_nothing_wrong(
    server: EmbeddedServer, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENTOPS_COST_DEAD_LETTERS", "5")
    supervised = supervised_processor(attach, server, tmp_path)
    for _ in range(6):
        await publish(client, SUBJECT, b"rubbish")
    await publish(client, SUBJECT, accepted_line())
    task = asyncio.create_task(supervised.keep())
    await until(lambda: "more than 5 unreadable events" in supervised.waiting_for().get("cost", ""), "it says why it halted")
    assert await ledger(client) == []
    assert await records(client, "cost") == []
    assert len(await dead(client)) == 5
    await supervised.stop(task, 2)


async def test_an_events_stream_made_anew_halts_it_instead_of_going_unbilled(
    server: EmbeddedServer, client: Client, tmp_path: Path
) -> None:
    for _ in range(3):
        await publish(client, SUBJECT, accepted_line())
    async with running(attach, server, tmp_path):
        await priced(client)
    await client.jsm().delete_stream(topology.EVENTS)
    await client.jsm().add_stream(next(one for one in topology.streams() if one.name == topology.EVENTS))
    supervised = supervised_processor(attach, server, tmp_path)
    task = asyncio.create_task(supervised.keep())
    await until(lambda: "made anew" in supervised.waiting_for().get("cost", ""), "it says why it halted")
    await supervised.stop(task, 2)


async def test_an_unpriced_model_is_billed_visibly_at_nothing(server: EmbeddedServer, client: Client, tmp_path: Path) -> None:
    line = accepted_line(model_call={"model_call_id": "m", "provider": "local", "model": "mine"})
    async with running(attach, server, tmp_path):
        await publish(client, SUBJECT, line)
        await priced(client)
    (found,) = await ledger(client)
    assert (found.reason, found.cost_usd) == ("unpriced", Decimal(0))
