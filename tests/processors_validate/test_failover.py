"""Two instances: one at work, one ready to take over within seconds; whoever was away too long is refused and steps back."""

import asyncio
import signal
import time
from collections import Counter
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from nats.aio.client import Client

from processors.validate.app import attach
from schemas.leases import Lease
from streams import topology
from streams.embedded import EmbeddedServer
from streams.kv import TypedBucket
from tests.conftest import until
from tests.processors_validate.children import Instance, by_pid, commits, instances, publish_steadily, until_committed
from tests.processors_validate.running import accepted, adds_up, drained, event, ids, ledger, records, running, send


async def test_a_standby_is_ready_says_so_and_takes_over_at_once_from_one_that_stops(
    server: EmbeddedServer, client: Client, tmp_path: Path
) -> None:
    made = [event(agent=f"a{n}") for n in range(20)]
    leases = await TypedBucket.open(client, topology.LEASES, Lease)
    async with AsyncExitStack() as later:
        async with running(attach, server, tmp_path / "one", "one") as first:
            await until(lambda: first.standing() == {"validate.partition 0": "active"}, "one is at work")
            second = await later.enter_async_context(running(attach, server, tmp_path / "two", "two"))
            await until(lambda: second.standing() == {"validate.partition 0": "standby: one is at work"}, "two stands by")
            assert second.waiting_for() == {}
            await send(client, *made[:10])
            await drained(client)
            assert {key: lease.instance for key, lease in (await leases.all()).items()} == {"validate.0": "one"}
        await until(lambda: second.standing() == {"validate.partition 0": "active"}, "two is at work", 1)
        await send(client, *made[10:])
        await drained(client)
    assert ids(await accepted(client)) == [one["event_id"] for one in made]
    assert [record.instance for record in await records(client)][-1] == "two"
    assert await leases.all() == {}


async def one_active(pair: list[Instance]) -> tuple[Instance, Instance]:
    """The one at work, and the one that stands by."""
    first, second = pair

    async def settled() -> bool:
        return {await first.stands_by()(), await second.stands_by()()} == {True, False} and bool(
            await first.active() or await second.active()
        )

    await until(settled, "one is at work, one stands by", 60)
    return (first, second) if await first.active() else (second, first)


async def billed(client: Client, made: list[dict[str, object]]) -> None:
    """Waits until cost has covered as many calls, then looks whether each stands once."""

    async def all_there() -> bool:
        return sum(record.valid for record, _ in await commits(client, "cost")) >= len(made)

    await until(all_there, "all billed", 20)
    assert Counter(entry.event_id for entry in await ledger(client)) == Counter(str(one["event_id"]) for one in made)


@pytest.mark.parametrize("processor", ["validate", "cost"])
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP])
async def test_the_standby_commits_within_three_seconds_of_a_kill_or_a_hang(
    server: EmbeddedServer, client: Client, tmp_path: Path, processor: str, how: signal.Signals
) -> None:
    """Real processes with data directories of their own. The hung one wakes up later, is refused, and stands by."""
    made: list[dict[str, object]] = [event("model_call.completed", agent=f"a{n % 20}") for n in range(700)]
    (tmp_path / "others").mkdir()
    async with (
        instances(server, tmp_path / "others", int(processor == "cost"), "validate"),
        instances(server, tmp_path, 2, processor) as pair,
    ):
        active, standby = await one_active(pair)
        producing = asyncio.create_task(publish_steadily(client, made, 0.01))
        await until_committed(client, active.pid, "the active one works", processor=processor)
        struck_ns = time.time_ns()
        active.process.send_signal(how)
        if how == signal.SIGKILL:
            await active.process.wait()
        await until_committed(client, standby.pid, "the standby works", processor=processor)
        first = (await by_pid(client, standby.pid, processor))[0][1]
        assert (first - struck_ns) / 1e9 < 3.0
        if how == signal.SIGSTOP:
            active.process.send_signal(signal.SIGCONT)
            await until(active.stands_by(), "the one that hung stands by", 10)
            assert [stored for _, stored in await by_pid(client, active.pid, processor) if stored > first] == []
        await producing
        await drained(client, 30)
        if processor == "cost":
            await billed(client, made)
    assert Counter(ids(await accepted(client))) == Counter(str(one["event_id"]) for one in made)
    adds_up([record for record, _ in await commits(client)])
