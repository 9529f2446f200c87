"""Spent budgets at the door: refused with the reason, for as long as the flag stands, and telemetry never."""

import asyncio
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from nats.aio.client import Client

from schemas.budgets import BudgetFlag
from sidecar.denials import Denials, retry_after_s
from streams import topology
from streams.embedded import EmbeddedServer
from streams.kv import TypedBucket
from tests.conftest import until
from tests.events import event
from tests.sidecar.running import Sidecar, Telemetry

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)


def flag(seconds: float = 60, now: datetime = NOW, **given: Any) -> BudgetFlag:
    return BudgetFlag.model_validate(
        {
            "budget_id": "b", "tenant_id": "acme", "scope": "agent", "of": "a1", "limit_usd": Decimal(1), "spent_usd": Decimal("1.5"),
            "period": "day 2026-11-20 UTC", "reason": "budget b is spent", "since": now, "until": now + timedelta(seconds=seconds),
        }
        | given
    )  # fmt: skip


@pytest.mark.parametrize(
    ("scope", "of", "concerned"),
    [
        ("tenant", None, True), ("agent", "a1", True), ("agent", "a2", False), ("project", "p", True), ("project", "q", False),
        ("workspace", "p", False),
    ],
)  # fmt: skip
def test_a_flag_concerns_whoever_is_in_its_scope(tmp_path: Path, scope: str, of: str | None, concerned: bool) -> None:
    denials = Denials("acme", "a1", project="p", path=tmp_path / "denials.json")
    denials.tell("acme.b", flag(scope=scope, of=of))
    assert (denials.refusal(NOW) is not None) == concerned
    denials.tell("other.b", flag(tenant_id="other", scope="tenant", of=None))
    assert (denials.refusal(NOW) is not None) == concerned


def test_a_flag_ends_by_itself_or_when_it_is_taken_back_and_outlives_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "denials.json"
    denials = Denials("acme", "a1", path=path)
    denials.tell("acme.b", flag(60))
    denials.tell("acme.c", flag(90, budget_id="c"))
    again = Denials("acme", "a1", path=path)
    found = again.refusal(NOW)
    assert found is not None
    assert found.budget_id == "c"
    assert retry_after_s(found, NOW) == 91
    assert again.refusal(NOW + timedelta(seconds=90)) is None
    again.only({"acme.b"})
    again.tell("acme.b", None)
    assert Denials("acme", "a1", path=path).refusal(NOW) is None
    path.write_text("not json")
    assert Denials("acme", "a1", path=path).refusal(NOW) is None


async def test_a_denied_call_is_answered_429_with_the_reason_and_its_telemetry_is_taken(
    sidecar: Sidecar, client: Client, telemetry: Telemetry
) -> None:
    await sidecar.start("--project", "p")
    await until(sidecar.answers, "the agent answers")
    bucket = await TypedBucket.open(client, topology.BUDGET_FLAGS, BudgetFlag)
    await bucket.put("acme.elsewhere", flag(60, datetime.now(UTC), scope="project", of="q"))
    await bucket.put("acme.b", flag(60, datetime.now(UTC), scope="project", of="p"))

    async def refuses() -> bool:
        return (await sidecar.get())[0] == 429

    await until(refuses, "the door refuses", 2)
    async with sidecar.http.get(sidecar.proxy + "/health") as response:
        assert response.status == 429
        assert 55 <= int(response.headers["Retry-After"]) <= 61
        assert response.headers["X-Agentops-Denied"] == "budget; id=b"
        told = (await response.json())["error"]
    assert told["type"] == "budget_exhausted"
    assert told["message"] == "budget b is spent"
    assert (told["limit_usd"], told["spent_usd"]) == ("1", "1.5")
    assert await sidecar.post(event("run.started", agent="a1")) == 202
    await telemetry.find("run.started")
    beat = await telemetry.find("agent.heartbeat", health__status="HEALTHY")
    assert (beat["metrics"] or {}).get("errors", 0) == 0
    await bucket.delete("acme.b")
    await until(sidecar.answers, "it lets through again", 2)


async def test_a_flag_ends_at_its_time_even_if_nobody_takes_it_back_and_nats_is_away(
    sidecar: Sidecar, client: Client, server: EmbeddedServer
) -> None:
    await sidecar.start()
    await until(sidecar.answers, "the agent answers")
    bucket = await TypedBucket.open(client, topology.BUDGET_FLAGS, BudgetFlag)
    await bucket.put("acme.b", flag(4, datetime.now(UTC)))

    async def refuses() -> bool:
        return (await sidecar.get())[0] == 429

    await until(refuses, "the door refuses", 2)
    await server.kill()
    assert await refuses()
    await until(sidecar.answers, "its time is over", 6)
    await server.start()


async def test_a_sidecar_started_while_nats_is_away_goes_on_refusing(
    sidecar: Sidecar, client: Client, server: EmbeddedServer
) -> None:
    await sidecar.start()
    bucket = await TypedBucket.open(client, topology.BUDGET_FLAGS, BudgetFlag)
    await bucket.put("acme.b", flag(60, datetime.now(UTC)))

    async def refuses() -> bool:
        try:
            return (await sidecar.get())[0] == 429
        except aiohttp.ClientError:
            return False

    await until(refuses, "the door refuses", 5)
    await sidecar.stop()
    await server.kill()
    await sidecar.start()
    assert await refuses()
    await server.start()
    await until(lambda: client.is_connected, "connected again")
    await asyncio.wait_for(bucket.delete("acme.b"), 5)
    await until(sidecar.answers, "the flag taken back is heard of", 10)
