"""The real processes, killed without warning under load: every threshold told once, every alert raised once, every digit right."""

import asyncio
import os
import random
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

import nats.errors
import orjson
from nats.aio.client import Client

from streams import topology
from streams.connect import connect
from streams.embedded import EmbeddedServer
from streams.micro_batches import lines
from streams.reader import OrderedReader, Source
from tests.conftest import until
from tests.processors_budget.world import budget, define, entry, spend, standings

KILLS = 4
THRESHOLDS = tuple(range(5, 101, 5))


class Child:
    """``python -m processors NAME…``, to be killed and started again."""

    def __init__(self, server: EmbeddedServer, directory: Path, *names: str) -> None:
        nats = server.settings()
        assert nats.password is not None
        self._arguments = (*names, "--data", str(directory / "data"))
        self._environment = os.environ | {
            "NATS_URL": nats.url, "NATS_USER": nats.user or "", "NATS_PASSWORD": nats.password.get_secret_value(),
            "AGENTOPS_LOG_FORMAT": "json", "AGENTOPS_BUDGET_WAREHOUSE_PATIENCE_S": "0.1",
        }  # fmt: skip
        self.log = directory / f"{'-'.join(names)}.log"
        self.process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        with self.log.open("ab") as output:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "processors", *self._arguments, env=self._environment, stdout=output, stderr=output
            )

    async def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        await self.process.wait()


@asynccontextmanager
async def child(server: EmbeddedServer, directory: Path, *names: str) -> AsyncIterator[Child]:
    made = Child(server, directory, *names)
    await made.start()
    try:
        yield made
    finally:
        await made.kill()


async def stored(client: Client, stream: str, subject: str) -> list[dict[str, Any]]:
    reader = OrderedReader(client, Source(stream, (subject,)))
    found: list[dict[str, Any]] = []
    while messages := await reader.fetch(1000, 0.5):
        found += [orjson.loads(line) for message in messages for line in lines(message.data)]
    await reader.close()
    return found


async def test_kill_nine_under_load_tells_every_threshold_once_and_loses_no_digit(
    server: EmbeddedServer, client: Client, tmp_path: Path
) -> None:
    chance = random.Random(11)
    amounts = [Decimal(chance.randrange(1, 10**8)).scaleb(-9) for _ in range(6000)]
    total = sum(amounts, Decimal(0))
    limit = str(int(total * 9 / 10))
    publishers = [await connect(server.settings(), f"publisher-{number}") for number in range(3)]
    messages = [amounts[start : start + 3] for start in range(0, len(amounts), 3)]

    async def produce(number: int, part: list[list[Decimal]]) -> None:
        for costs in part[number :: len(publishers)]:
            await spend(publishers[number], *(entry(cost, agent_id=f"a{number}") for cost in costs))

    async def standing_is(amount: Decimal) -> bool:
        try:
            found = await standings(client)
        except (nats.errors.Error, TimeoutError):
            return False
        return {each.spent_usd for each in found.values() if each.counted} == {amount} and len(found) == 2

    await define(
        client,
        budget("plain", limit=limit, thresholds=THRESHOLDS),
        budget("rolls", limit=limit, thresholds=THRESHOLDS, period="rolling", rolling_minutes=600, enforcement="deny"),
    )
    async with child(server, tmp_path, "budget") as victim, child(server, tmp_path, "validate", "alerts") as others:
        for number in range(KILLS):
            await until(lambda: victim.log.read_bytes().count(b'"processor.started"') > number, "it runs", 20)  # noqa: B023
            told = victim.log.read_bytes().count(b"budget.threshold_hit")
            part = messages[number * len(messages) // KILLS : (number + 1) * len(messages) // KILLS]
            load = asyncio.gather(*(produce(each, part) for each in range(len(publishers))))
            await until(lambda: victim.log.read_bytes().count(b"budget.threshold_hit") > told, "in the middle", 20)  # noqa: B023
            await victim.kill()
            if number == KILLS // 2:
                await others.kill()
                await others.start()
            await victim.start()
            await load
        await until(lambda: standing_is(total), "every entry counts once", 40)

        async def firing() -> list[str]:
            changes = await stored(client, topology.ALERTS, "alerts.acme.*.*")
            return [each["summary"] for each in changes if each["state"] == "firing" and each["rule"].startswith("budget_")]

        async def all_alerts() -> bool:
            return len(await firing()) >= 2 * len(THRESHOLDS)

        await until(all_alerts, "every crossing has its alert", 40)
    crossings = await stored(client, topology.EVENTS, "events.acme.budget")
    counts = Counter((each["budget"]["budget_id"], round(each["budget"]["threshold"] * 100)) for each in crossings)
    assert counts == Counter({(name, each): 1 for name in ("plain", "rolls") for each in THRESHOLDS})
    assert [each for each in await stored(client, topology.EVENTS, "dead.>") if each["reason"] != "duplicate"] == []
    alerts = Counter(await firing())
    assert set(alerts.values()) == {1}
    assert len(alerts) == 2 * len(THRESHOLDS)
    for each in publishers:
        await each.close()
