"""A torn batch in the running processors: every event and every charge once, and an audit that has nothing to say."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from nats.aio.client import Client

from processors.cost.app import attach as attach_cost
from processors.validate.app import attach as attach_validate
from streams import audit
from streams.apply import apply
from streams.embedded import EmbeddedServer
from tests.conftest import until
from tests.processors_aggregate.conftest import Running
from tests.processors_validate.running import (
    accepted,
    adds_up,
    dead,
    drained,
    event,
    ids,
    ledger,
    records,
    running,
    send,
    supervised_processor,
)
from tests.streams.tearing import Tearing

TENANTS = ("acme", "globex", "initech", "umbrella")


@pytest.fixture
async def warehouse(server: EmbeddedServer, client: Client, tmp_path: Path) -> AsyncIterator[Running]:
    """An aggregate beside the processors."""
    made = Running(server, tmp_path / "aggregate", client)
    await made.start()
    yield made
    await made.stop()


def calls(number: int) -> list[dict[str, object]]:
    return [event("model_call.completed", tenant=TENANTS[n % 4], agent=f"a{n % 20}") for n in range(number)]


async def charged(client: Client, number: int) -> None:
    async def all_of_them() -> bool:
        return len(await ledger(client)) >= number

    await until(all_of_them, f"{number} charges", 20)


async def sound(client: Client, warehouse: Running) -> None:
    """The audit finds nothing wrong, by records or by every message."""
    await warehouse.caught_up()
    for scope in (audit.EVERYTHING, audit.Scope(every_message=True)):
        report = await audit.run(client, scope=scope)
        assert report.ok, report.of("error")


@pytest.mark.parametrize("deadly", [False, True], ids=["its writer lives", "its writer dies"])
@pytest.mark.parametrize("what", ["validate", "cost"])
async def test_a_torn_batch_is_completed(
    what: str, deadly: bool, server: EmbeddedServer, client: Client, tmp_path: Path, warehouse: Running,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """Another instance, with a duplicate index that learns only from EVENTS, takes over where the writer dies."""
    made = calls(60)
    tearing = Tearing(what, deadly, armed=False)
    tearing.install(monkeypatch)
    processors = {"validate": attach_validate, "cost": attach_cost}
    other = next(name for name in processors if name != what)
    async with running(processors[other], server, tmp_path / "other", "other"):
        first = supervised_processor(processors[what], server, tmp_path / "first", "first")
        task = asyncio.create_task(first.keep())
        await until(lambda: not first.waiting_for(), "ready")
        await send(client, *made[:20])
        await charged(client, 20)
        tearing.armed = True
        # At once, so that a batch holds several; one is bad, one comes twice.
        await asyncio.gather(*(send(client, one) for one in [*made[20:], event() | {"unexpected": 1}, made[22]]))
        await asyncio.wait_for(tearing.happened.wait(), 10)
        if deadly:
            await first.stop(task, 0.2)
            async with running(processors[what], server, tmp_path / "second", "second"):
                await drained(client, 20)
                await charged(client, 60)
        else:
            await drained(client, 20)
            await charged(client, 60)
            await first.stop(task, 4.0)
    assert tearing.stored > 0
    assert Counter(ids(await accepted(client))) == Counter(str(one["event_id"]) for one in made)
    assert Counter(entry.event_id for entry in await ledger(client)) == Counter(str(one["event_id"]) for one in made)
    assert len(await dead(client)) == 1
    found = await records(client, what)
    if what == "validate":
        adds_up(found)
    assert [len(one.torn) for one in found if one.torn] == [tearing.stored]
    assert sum(one.valid for one in found) == 60
    await sound(client, warehouse)


async def test_another_partition_may_store_in_between(
    server: EmbeddedServer, client: Client, tmp_path: Path, warehouse: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was left behind is of the partition that completes it, though another's record is the next to stand there."""
    await apply(client, partitions=2)
    tearing = Tearing("validate", deadly=True, partition=1, armed=False)
    tearing.install(monkeypatch)
    made = calls(80)
    first = supervised_processor(attach_validate, server, tmp_path / "first", "first")
    task = asyncio.create_task(first.keep())
    await until(lambda: list(first.standing().values()) == ["active", "active"], "both")
    await send(client, *made[:10])
    await drained(client)
    tearing.armed = True
    await asyncio.gather(*(send(client, one) for one in made[10:40]))
    await asyncio.wait_for(tearing.happened.wait(), 10)
    await first.stop(task, 0.2)
    # What the other partition goes on with, while nobody works on this one.
    monkeypatch.setenv("AGENTOPS_VALIDATE_PARTITION", "0")
    async with running(attach_validate, server, tmp_path / "zero", "zero"):
        await send(client, *made[40:60])
        before = len(await records(client))

        async def more() -> bool:
            return len(await records(client)) > before

        await send(client, *made[60:])
        await until(more, "partition 0 has gone on")
    monkeypatch.delenv("AGENTOPS_VALIDATE_PARTITION")
    async with running(attach_validate, server, tmp_path / "third", "third"), running(attach_cost, server, tmp_path, "cost"):
        await drained(client, 20)
        await charged(client, 80)
    assert Counter(ids(await accepted(client))) == Counter(str(one["event_id"]) for one in made)
    await sound(client, warehouse)
