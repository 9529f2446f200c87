"""Whatever process is killed under load: every acknowledged event is stored once, billed once, and the books agree."""

import asyncio
import signal
from collections import Counter
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path

import orjson
import pytest
from nats.aio.client import Client

from benchmarks import workload
from benchmarks.system import System
from streams import audit
from streams.messages import MESSAGE_ID
from streams.micro_batches import lines
from streams.publish import NotStoredError, publish
from streams.reader import OrderedReader, Source
from tests.conftest import until

pytestmark = pytest.mark.system

EACH_ALONE = (("validate",), ("cost",), ("aggregate",), ("health",), ("budget",), ("alerts",), ("notify",))
ROUND = 1500


@pytest.fixture
async def system(tmp_path: Path) -> AsyncIterator[System]:
    """Every processor in a process of its own."""
    made = System(tmp_path, EACH_ALONE)
    await made.start()
    yield made
    await made.stop()


async def publish_stubbornly(client: Client, messages: list[workload.Message]) -> None:
    """Publishes each message, 50 at a time, until it is acknowledged: what a publisher that loses nothing does."""
    gate = asyncio.Semaphore(50)

    async def one(message: workload.Message) -> None:
        async with gate:
            while True:
                try:
                    headers = {name: value for name, value in message.headers.items() if name != MESSAGE_ID}
                    await publish(
                        client,
                        message.subject,
                        message.data,
                        message_id=message.headers[MESSAGE_ID],
                        headers=headers,
                        timeout_s=2,
                    )
                except NotStoredError:
                    await asyncio.sleep(0.05)
                else:
                    return

    async with asyncio.TaskGroup() as group:
        for message in messages:
            group.create_task(one(message))


async def stored(client: Client, stream: str, subject: str) -> list[dict[str, object]]:
    """Every line of every message under ``subject`` of ``stream``."""
    reader = OrderedReader(client, Source(stream, (subject,)))
    found: list[dict[str, object]] = []
    while messages := await reader.fetch(1000, 1.0):
        found += [orjson.loads(line) for message in messages for line in lines(message.data)]
        if messages[-1].pending == 0:
            break
    await reader.close()
    return found


async def test_no_event_is_lost_or_counted_twice_whichever_process_is_killed(system: System) -> None:
    """Each processor and the server is killed once in the middle of a load, and started again."""
    victims: list[str | None] = [None, *system.children, "nats-server"]
    made: list[workload.Made] = []
    for seed, victim in enumerate(victims):
        events = list(workload.generate(ROUND, seed=100 + seed))
        half = [*workload.singles(events[: ROUND // 2]), *workload.batches(events[ROUND // 2 :], 50)]
        made += events
        loading = asyncio.create_task(publish_stubbornly(system.client, half))
        before = len(made) - ROUND

        async def under_load(at_least: int = before + ROUND // 8, loading: asyncio.Task[None] = loading) -> bool:
            applied = await system.applied()
            return loading.done() or (applied is not None and applied.events >= at_least)

        if victim is not None:
            await until(under_load, f"load before killing {victim}", 30)
            await kill_and_start_again(system, victim)
        await loading
    entries = workload.billable(made)

    async def all_applied() -> bool:
        applied = await system.applied()
        return applied is not None and applied.events >= len(made) and applied.ledger_entries >= entries

    await until(all_applied, f"{len(made)} events and {entries} ledger entries in the warehouse", 90)
    ours = {event.event_id for event in made}
    kept = Counter(str(event["event_id"]) for event in await stored(system.client, "EVENTS", "events.>"))
    assert ours - set(kept) == set(), "lost"
    assert {event_id: count for event_id, count in kept.items() if count > 1} == {}, "counted twice"
    ledger = await stored(system.client, "LEDGER", "ledger.>")
    assert Counter(entry["event_id"] for entry in ledger) == Counter(
        event.event_id for event in made if event.event_type == "model_call.completed"
    )
    assert len({entry["entry_id"] for entry in ledger}) == len(ledger)
    spend = await system.ask("spend", by=["tenant"], since="2020-01-01T00:00:00Z", until="2100-01-01T00:00:00Z")
    assert spend is not None
    assert sum(Decimal(row["cost_usd"]) for row in spend["rows"]) == sum(Decimal(str(entry["cost_usd"])) for entry in ledger)
    report = await audit.run(system.client)
    assert report.ok, report.findings


async def kill_and_start_again(system: System, victim: str) -> None:
    """SIGKILL, then the same again, as a supervisor would."""
    if victim == "nats-server":
        await system.server.kill()
        await system.server.start()
        return
    child = system.children[victim]
    child.send_signal(signal.SIGKILL)
    await child.wait()
    await system.start_group((victim,))


def test_every_processor_is_among_the_victims() -> None:
    from processors.runner import ALL

    assert {name for group in EACH_ALONE for name in group} == set(ALL)
