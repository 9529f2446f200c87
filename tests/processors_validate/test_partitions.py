"""TELEMETRY in partitions: instances share them out, take over from each other, and every event is stored once."""

import asyncio
import signal
from collections import Counter
from pathlib import Path

import pytest
from nats.aio.client import Client

from processors.validate.app import attach
from streams import progress, topology
from streams.apply import CannotApplyError, apply, check
from streams.embedded import EmbeddedServer
from tests.conftest import until
from tests.processors_validate.children import commits, instances, publish_steadily
from tests.processors_validate.running import accepted, dead, drained, event, ids, records, running, send, send_batch


def contiguous(found: list[tuple[int, int]]) -> None:
    """Each range follows the one before."""
    assert [first for first, _ in found] == [1, *(last + 1 for _, last in found[:-1])]


async def accounted_for(client: Client, partitions: int, messages: int) -> None:
    """Every partition's records follow each other, and together they tell of every message."""
    told = 0
    for partition in range(partitions):
        found = [record for record, _ in await commits(client, partition=partition)]
        contiguous([(record.first_sequence, record.last_sequence) for record in found])
        told += sum(record.messages for record in found)
    assert told == messages


async def test_two_processes_share_two_partitions_and_one_takes_over_when_the_other_is_killed(
    server: EmbeddedServer, client: Client, tmp_path: Path
) -> None:
    await apply(client, partitions=2)
    made: list[dict[str, object]] = [event("run.started", agent=f"a{n % 40}") for n in range(1200)]
    async with instances(server, tmp_path, 2, "validate") as (first, second):

        async def shared() -> bool:
            one, other = await first.active(), await second.active()
            return len(one) == len(other) == 1 and one != other

        await until(shared, "each has one", 60)
        producing = asyncio.create_task(publish_steadily(client, made, 0.005))

        async def both_work() -> bool:
            return all([await progress.covered(client, 0) > 0, await progress.covered(client, 1) > 0])

        await until(both_work, "both work")
        first.process.send_signal(signal.SIGKILL)
        await first.process.wait()
        await until(second.works_on("0", "1"), "the other has both", 10)
        await producing
        await drained(client, 30)
        last = (await client.jsm().stream_info(topology.TELEMETRY)).state.last_seq
    assert Counter(ids(await accepted(client))) == Counter(str(one["event_id"]) for one in made)
    assert await dead(client) == []
    await accounted_for(client, 2, last)
    workers = [{record.instance for record, _ in await commits(client, partition=partition)} for partition in (0, 1)]
    assert all(workers)
    assert sum(map(len, workers)) == 3


async def test_an_instance_alone_works_on_all_and_gives_back_its_share_when_another_comes(
    server: EmbeddedServer, client: Client, tmp_path: Path
) -> None:
    await apply(client, partitions=3)
    made = [event(agent=f"a{n % 30}") for n in range(300)]
    async with running(attach, server, tmp_path / "one", "one") as first:
        await until(lambda: set(first.standing().values()) == {"active"}, "one has all three")
        await send(client, *made[:100])
        async with running(attach, server, tmp_path / "two", "two") as second:

            def shared() -> bool:
                counts = [sum(how == "active" for how in one.standing().values()) for one in (first, second)]
                return sorted(counts) == [1, 2]

            await until(shared, "shared out")
            await send(client, *made[100:200])
        await until(lambda: set(first.standing().values()) == {"active"}, "one has all three again")
        await send(client, *made[200:])
        await drained(client)
    assert Counter(ids(await accepted(client))) == Counter(one["event_id"] for one in made)
    await accounted_for(client, 3, 300)


async def test_more_partitions_on_a_running_system_lose_and_double_nothing_and_fewer_are_refused(
    server: EmbeddedServer, client: Client, tmp_path: Path
) -> None:
    """The running instance meets the first message that is not of its partition, and takes the new ones as well."""
    made = [event(agent=f"a{n % 30}") for n in range(300)]
    async with running(attach, server, tmp_path, "one") as first:
        await send(client, *made[:100])
        done = await apply(client, partitions=2)
        assert done == ["updated stream TELEMETRY: is cut into 1 partitions, should be 2"]
        await send(client, *made[100:200])
        await until(lambda: list(first.standing().values()) == ["active", "active"], "both")
        assert await apply(client, partitions=4) != []
        await send(client, *made[200:], made[0])
        await drained(client)
    assert Counter(ids(await accepted(client))) == Counter(one["event_id"] for one in made)
    assert sum(record.duplicates for record in await records(client)) <= 1
    await accounted_for(client, 4, 301)
    assert await check(client) == []
    with pytest.raises(CannotApplyError, match="cut into 4 partitions and cannot be cut into 2"):
        await apply(client, partitions=2)


async def test_a_repeat_under_another_agent_is_recognised_by_the_other_partition(
    server: EmbeddedServer, client: Client, tmp_path: Path
) -> None:
    """The same ids come once from the agents and once through gateways, of which some belong to other partitions."""
    await apply(client, partitions=2)
    made = [event(agent=f"a{n}") for n in range(40)]
    async with running(attach, server, tmp_path / "one", "one"), running(attach, server, tmp_path / "two", "two"):
        await send(client, *made)
        await drained(client)
        for gateway in ("g1", "g2", "g3", "g4"):
            await send_batch(client, "acme", *made, gateway=gateway)
        await drained(client)
    assert Counter(ids(await accepted(client))) == Counter(one["event_id"] for one in made)
    assert await dead(client) == []


async def test_subjects_of_another_form_are_buried_by_the_first_partition(
    server: EmbeddedServer, client: Client, tmp_path: Path
) -> None:
    await apply(client, partitions=2)
    for subject in ("telemetry.short", "telemetry.acme.a.run.more", "telemetry.acme.a.run", "telemetry.acme.b.run"):
        await client.jetstream().publish(subject, b"{")
    async with running(attach, server, tmp_path):
        await drained(client)
    assert sorted(letter.source_subject for letter in await dead(client)) == [
        "telemetry.acme.a.run", "telemetry.acme.a.run.more", "telemetry.acme.b.run", "telemetry.short",
    ]  # fmt: skip


async def test_one_instance_for_one_partition_by_setting(
    server: EmbeddedServer, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await apply(client, partitions=2)
    monkeypatch.setenv("AGENTOPS_VALIDATE_PARTITION", "1")
    async with running(attach, server, tmp_path) as one:
        await until(lambda: one.standing() == {"validate.partition 1": "active"}, "it has its partition, and no other")
