"""A second aggregate on the same warehouse: it waits, says why, and goes on where the first has stored."""

import signal
from decimal import Decimal
from pathlib import Path

import httpx
import nats.errors
from nats.aio.client import Client

from streams.embedded import EmbeddedServer
from tests.conftest import until
from tests.processors_aggregate.wire import ask
from tests.processors_budget.world import TENANT, entry, now, spend
from tests.processors_validate.children import Instance, instances


async def test_it_waits_says_why_and_counts_nothing_twice(server: EmbeddedServer, client: Client, tmp_path: Path) -> None:
    (tmp_path / "0").mkdir()
    (tmp_path / "1").symlink_to(tmp_path / "0")

    async def door(one: Instance) -> str:
        try:
            async with httpx.AsyncClient(trust_env=False, timeout=1.0) as http:
                return (await http.get(f"{one.url}/readyz")).text
        except httpx.HTTPError:
            return ""

    async def spent() -> Decimal | None:
        try:
            given = {"tenant": TENANT, "since": now(-3600), "until": now(3600), "up_to_sequence": 10**6}
            [row] = (await ask(client, "scope_spend", **given)).rows
        except (nats.errors.Error, TimeoutError):
            return None
        return Decimal(row["cost_usd"])

    async with instances(server, tmp_path, 2, "aggregate") as pair:
        for _ in range(20):
            await spend(client, entry("0.1"))

        async def waits() -> bool:
            told = [await door(one) for one in pair]
            return sum('"status":"ready"' in each.replace(" ", "") for each in told) == 1 and any(
                "another process" in each for each in told
            )

        await until(waits, "one works, the other says why it does not", 40)

        async def all_spent() -> bool:
            return await spent() == Decimal("2.0")

        await until(all_spent, "everything is counted", 20)
        first, second = pair if "another process" in await door(pair[1]) else (pair[1], pair[0])
        first.process.send_signal(signal.SIGKILL)
        await first.process.wait()
        await spend(client, entry("0.1"))

        async def goes_on() -> bool:
            return await spent() == Decimal("2.1")

        await until(goes_on, "the other goes on", 60)
        assert second.process.returncode is None
