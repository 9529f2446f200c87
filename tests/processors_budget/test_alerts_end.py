"""From a crossing to its alert's end, through the real processes: one alert a crossing, over within seconds of its cause."""

import asyncio
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from nats.aio.client import Client

from streams import topology
from streams.embedded import EmbeddedServer
from tests.conftest import until
from tests.processors_budget.test_budget_processor import Clock
from tests.processors_budget.test_killed import child, stored
from tests.processors_budget.world import budget, counted, define, entry, spend, undefine, watching

WITHIN_S = 3.0


async def alerts(client: Client, state: str, about: str = "") -> list[str]:
    """Ids of the budget alerts that took this state."""
    changes = await stored(client, topology.ALERTS, "alerts.acme.*.*")
    return [
        each["alert_id"] for each in changes
        if each["state"] == state and each["rule"].startswith("budget_") and each["summary"].startswith(f"budget {about}")
    ]  # fmt: skip


async def over(client: Client, number: int, cause: str, about: str = "") -> None:
    """Waits until so many have ended, and says how long that took."""
    began = time.monotonic()

    async def ended() -> bool:
        return len(await alerts(client, "resolved", about)) == number

    await until(ended, f"alerts end: {cause}", 10)
    # The reading itself looks for half a second whether there is more.
    took = time.monotonic() - began
    print(f"\n{cause}: {took:.2f} s")
    assert took < WITHIN_S


async def test_alerts_end_with_the_budget_with_its_terms_and_with_its_period(
    server: EmbeddedServer, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    noon = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0) + timedelta(days=2)
    clock = Clock(monkeypatch, noon)
    created = noon - timedelta(hours=1)
    names = ("gone", "raised", "rolls")

    async def fired(number: int) -> None:
        async def predicate() -> bool:
            return len(await alerts(client, "firing")) == number

        await until(predicate, f"{number} alerts", 20)

    async with child(server, tmp_path, "validate", "alerts"):
        async with watching(server):
            definitions = [budget(name, limit="10", at=created, period="hour" if name == "rolls" else "month") for name in names]
            await define(client, *definitions)
            for name in names:
                await counted(client, name)
            await asyncio.gather(*(spend(client, entry("0.11", clock())) for _ in range(100)))
            await fired(9)
            await undefine(client, "gone")
            await over(client, 3, "the budget is deleted")
            await define(client, definitions[1].model_copy(update={"limit_usd": Decimal(1000)}))
            await over(client, 6, "the limit is raised above what is spent")
        async with watching(server):
            assert Counter(await alerts(client, "resolved")) == Counter(set(await alerts(client, "resolved")))
            clock.jump(noon + timedelta(hours=1, seconds=1))
            await over(client, 9, "the period is over")
            await asyncio.gather(*(spend(client, entry("0.11", clock())) for _ in range(100)))
            await fired(12)
    assert set(Counter(await alerts(client, "firing")).values()) == {1}
    assert set(Counter(await alerts(client, "resolved")).values()) == {1}
    assert len(await alerts(client, "resolved")) == 9
