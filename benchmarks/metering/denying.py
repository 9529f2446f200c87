"""How soon a spent budget holds: calls at a steady rate, and a flag set among them."""

import asyncio
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Final

import aiohttp
from nats.aio.client import Client

from benchmarks.metering.asking import BODY, KEY
from schemas.budgets import BudgetFlag, budget_key
from streams.kv import TypedBucket
from streams.topology import BUDGET_FLAGS

RATE: Final = 200.0
"""Calls a second."""
ROUNDS: Final = 5
_BEFORE_S: Final = 0.4
_AFTER_S: Final = 0.6
_PATIENCE_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class Seen:
    """One call. Times are ``perf_counter``'s."""

    begun: float
    answered: float
    """When its status came."""
    passed: bool


@dataclass(frozen=True, slots=True)
class Round:
    """What one flag did. Milliseconds count from the bucket's acknowledgement; below zero: before it."""

    calls: int
    passed_late: int
    """Begun after the acknowledgement, and passed."""
    last_passed_begun_ms: float
    last_passed_answered_ms: float
    first_refused_begun_ms: float
    put_ms: float
    """From the writing to the acknowledgement, as the writer saw it: by less than this it may have been seen late."""


@dataclass(frozen=True, slots=True)
class Denied:
    """What all flags did; of times the worst. Calls are ``1 / rate`` apart: nothing shorter is seen."""

    rounds: int
    rate: float
    calls: int
    passed_late: int
    last_passed_begun_ms: float
    last_passed_answered_ms: float
    first_refused_begun_ms: float
    put_ms: float


def judged(seen: list[Seen], written: float, acknowledged: float) -> Round:
    """One round's figures; ValueError where no call passed, or none was refused."""
    passed = [each for each in seen if each.passed]
    return Round(
        len(seen),
        sum(each.begun > acknowledged for each in passed),
        1000 * (max(each.begun for each in passed) - acknowledged),
        1000 * (max(each.answered for each in passed) - acknowledged),
        1000 * (min(each.begun for each in seen if not each.passed) - acknowledged),
        1000 * (acknowledged - written),
    )


class _Calls:
    """Calls that begin when they are due, whatever comes back."""

    def __init__(self, http: aiohttp.ClientSession, url: str) -> None:
        self._http = http
        self._url = url
        self.seen: list[Seen] = []

    async def _one(self) -> None:
        begun = time.perf_counter()
        headers = {"Authorization": f"Bearer {KEY}", "Content-Type": "application/json"}
        async with self._http.post(self._url, data=BODY, headers=headers) as response:
            answered = time.perf_counter()
            if response.status not in {200, 429}:
                msg = f"a call was answered HTTP {response.status}: {(await response.text())[:200]}"
                raise RuntimeError(msg)
            await response.read()
        self.seen.append(Seen(begun, answered, response.status == 200))

    async def run(self, rate: float, ended: asyncio.Event) -> None:
        began, number = time.perf_counter(), 0
        async with asyncio.TaskGroup() as going:
            while not ended.is_set():
                going.create_task(self._one())
                number += 1
                await asyncio.sleep(max(0.0, began + number / rate - time.perf_counter()))

    async def until_passing(self) -> None:
        async with asyncio.timeout(_PATIENCE_S):
            while not (self.seen and self.seen[-1].passed):
                await self._one()
        self.seen.clear()


def _flag(tenant: str) -> BudgetFlag:
    now = datetime.now(UTC)
    return BudgetFlag(
        budget_id="bench", tenant_id=tenant, scope="tenant", limit_usd=Decimal(1), spent_usd=Decimal(2), period="hour",
        reason="1 USD of 1 USD are spent", since=now, until=now + timedelta(hours=1),
    )  # fmt: skip


async def denied(url: str, client: Client, tenant: str) -> Denied:
    """Sets and takes back a flag of ``tenant``, several times, while calls come."""
    bucket = await TypedBucket.open(client, BUDGET_FLAGS, BudgetFlag)
    key = budget_key(tenant, "bench")
    rounds: list[Round] = []
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        for _ in range(ROUNDS):
            calls, ended = _Calls(http, url), asyncio.Event()
            await calls.until_passing()
            async with asyncio.TaskGroup() as going:
                going.create_task(calls.run(RATE, ended))
                await asyncio.sleep(_BEFORE_S)
                written = time.perf_counter()
                await bucket.put(key, _flag(tenant))
                acknowledged = time.perf_counter()
                await asyncio.sleep(_AFTER_S)
                ended.set()
            await bucket.delete(key)
            rounds.append(judged(calls.seen, written, acknowledged))
    return Denied(
        ROUNDS,
        RATE,
        sum(each.calls for each in rounds),
        sum(each.passed_late for each in rounds),
        max(each.last_passed_begun_ms for each in rounds),
        max(each.last_passed_answered_ms for each in rounds),
        max(each.first_refused_begun_ms for each in rounds),
        max(each.put_ms for each in rounds),
    )
