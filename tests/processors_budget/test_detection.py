"""How soon a breach is found while others spend too, and what passes a door until it refuses. ``-s`` prints the figures."""

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import datetime
from decimal import Decimal
from pathlib import Path

import aiohttp
import nats.errors
import pytest
from nats.aio.client import Client

from schemas.budgets import BudgetFlag
from streams import topology
from streams.connect import connect
from streams.embedded import EmbeddedServer
from streams.kv import TypedBucket
from tests.conftest import until
from tests.processors_budget.test_killed import child
from tests.processors_budget.world import TENANT, budget, define, entry, spend, standings
from tests.sidecar.running import Sidecar

BREACHES = 60
DETECTED_S = 1.0
PROPAGATED_S = 0.5
"""From the flag's being stored to the last call that a sidecar still forwards; measured it is a few milliseconds."""


def shown(what: str, values: list[float]) -> None:
    ordered = sorted(values)
    told = {f"p{share}": ordered[min(len(ordered) - 1, len(ordered) * share // 100)] for share in (50, 95, 99)}
    print(f"\n{what}: " + ", ".join(f"{name} {value * 1000:.1f} ms" for name, value in (told | {"max": ordered[-1]}).items()))


async def stored_at(client: Client, stream: str, sequence: int) -> datetime:
    message = await client.jsm().get_msg(stream, seq=sequence)
    assert message.time is not None
    return message.time


async def ready(client: Client, number: int) -> None:
    async def known() -> bool:
        try:
            found = await standings(client)
        except (nats.errors.Error, TimeoutError):
            return False
        return len(found) == number and all(each.counted for each in found.values())

    await until(known, "every budget is counted", 40)


async def test_a_breach_under_concurrent_load_is_found_within_a_second_of_its_entry(
    server: EmbeddedServer, client: Client, tmp_path: Path
) -> None:
    """Three publishers keep the ledger busy while one agent after the other breaks its budget."""
    agents = [f"a{number}" for number in range(BREACHES)]
    await define(client, budget("whole", limit="100000", timezone="Europe/Berlin", period="month"))
    await define(
        client, *(budget(each, scope="agent", of=each, limit="1", enforcement="deny", thresholds=(100,)) for each in agents)
    )
    publishers = [await connect(server.settings(), f"publisher-{number}") for number in range(3)]
    done, entries = asyncio.Event(), [0]

    async def load(publisher: Client) -> None:
        batch = [entry("0.000001", agent_id=f"other{number}") for number in range(40)]
        while not done.is_set():
            await spend(publisher, *batch)
            entries[0] += len(batch)

    async with child(server, tmp_path, "budget"):
        await ready(client, BREACHES + 1)
        loads = asyncio.gather(*map(load, publishers))
        began, crossing = time.monotonic(), {}
        for agent in agents:
            crossing[agent] = await spend(client, entry("2", agent_id=agent))
            before = entries[0]
            await until(lambda: entries[0] > before + 200, "others spend on")  # noqa: B023
        bucket = await TypedBucket.open(client, topology.BUDGET_FLAGS, BudgetFlag)

        async def all_denied() -> bool:
            return len(await bucket.keys()) == BREACHES

        await until(all_denied, "every breach has its flag", 20)
        rate = entries[0] / (time.monotonic() - began)
        done.set()
        await loads
    latencies = []
    for agent in agents:
        flag = await bucket.get(f"{TENANT}.{agent}")
        assert flag is not None
        set_at = await stored_at(client, "KV_budget_flags", flag.revision)
        latencies.append((set_at - await stored_at(client, topology.LEDGER, crossing[agent])).total_seconds())
    shown(f"from the entry to the flag, at {rate:,.0f} entries/s with {BREACHES} budgets", latencies)
    assert max(latencies) < DETECTED_S
    for each in publishers:
        await each.close()


@pytest.fixture
async def sidecar(server: EmbeddedServer, tmp_path: Path) -> AsyncIterator[Sidecar]:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        running = Sidecar(tmp_path, server.settings("sidecar"), http, "planner")
        await running.start()
        yield running
        await running.stop()


async def test_no_call_passes_once_the_flag_has_reached_the_door_and_the_overshoot_is_bounded(
    server: EmbeddedServer, client: Client, tmp_path: Path, sidecar: Sidecar
) -> None:
    """Callers without mercy, each call costing a cent the moment it is answered."""
    await define(client, budget(scope="agent", of="planner", limit="2", enforcement="deny"))
    await until(sidecar.answers, "the agent answers")
    passed: list[float] = []
    refused: list[float] = []
    sequences: list[int] = []

    async def caller() -> None:
        while len(refused) < 200:
            begun = time.time()
            status, _ = await sidecar.get("/work")
            if status == 429:
                refused.append(begun)
                continue
            passed.append(begun)
            sequences.append(await spend(client, entry("0.01")))

    async with child(server, tmp_path, "budget"):
        await ready(client, 1)
        began = time.time()
        await asyncio.gather(*(caller() for _ in range(8)))
        rate = Decimal("0.01") * len(passed) / Decimal(str(max(passed) - began))

        async def counted() -> bool:
            return (await standings(client))["b"].entries == len(passed)

        await until(counted, "all is counted")
        spent = (await standings(client))["b"].spent_usd
    flag = await (await TypedBucket.open(client, topology.BUDGET_FLAGS, BudgetFlag)).get(f"{TENANT}.b")
    assert flag is not None
    set_at = (await stored_at(client, "KV_budget_flags", flag.revision)).timestamp()
    crossed_at = (await stored_at(client, topology.LEDGER, sorted(sequences)[199])).timestamp()
    overshoot = spent - 2
    window = max(passed) - crossed_at
    print(
        f"\nat ${rate:.2f}/s: ${overshoot} beyond the limit; from the crossing entry to the flag {(set_at - crossed_at) * 1000:.1f} ms, "
        f"from the flag to the last call forwarded {(max(passed) - set_at) * 1000:.1f} ms"
    )
    assert max(passed) < set_at + PROPAGATED_S
    assert min(refused) > crossed_at
    # Detection delay × spend rate, and what was under way.
    assert overshoot <= rate * Decimal(str(max(window, 0.0))) * 3 + Decimal("0.01") * 16
    status = await sidecar.post()
    assert status != 429
