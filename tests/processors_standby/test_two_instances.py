"""Two instances of health, budget, alerts and notify at once, under load: nothing is told twice, nothing flaps, nothing is lost."""

import asyncio
import signal
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import orjson
import pytest
from aiohttp import web
from nats.aio.client import Client

from processors.health.app import HealthProcessor
from processors.health.settings import HealthSettings
from processors.runner import Processor, ProcessorContext
from processors.standby import OneAtWork, Turn
from schemas.events import Event
from schemas.leases import Lease
from schemas.sections import Health, HealthStatus, Metrics, Run, Tenant
from streams import topology
from streams.connect import connect
from streams.embedded import EmbeddedServer
from streams.kv import TypedBucket
from streams.publish import publish_event
from tests.conftest import until
from tests.processors_budget.test_killed import stored
from tests.processors_budget.world import budget, define, entry, spend, standings
from tests.processors_validate.children import Instance, instances

NAMES = ("health", "budget", "alerts", "notify")
AGENTS = tuple(f"a{number}" for number in range(8))
SPENDERS = tuple(f"s{number}" for number in range(4))
THRESHOLDS = tuple(range(10, 101, 10))
BEATS = 32
TAKEN_OVER_S = {signal.SIGKILL: 3.0, signal.SIGSTOP: 5.0}
"""A kill is seen at once; a hang after two seconds of silence. The rest is starting, on a machine that does other things too."""
RULES = """
rules:
  - {name: agent_unhealthy, metric: agent_unhealthy, comparison: ">=", threshold: 1, severity: critical}
  - {name: stream_in_use, metric: stream_fullness, comparison: ">", threshold: 0, severity: info}
  - {name: budget_crossed, metric: budget_crossings, threshold: 0, window: 1h, scope: crossing, severity: warning, summary: "{reason}"}
  - {name: budget_exhausted, metric: budgets_exhausted, threshold: 0, window: 1h, scope: crossing, severity: critical, summary: "{reason}"}
"""


@pytest.fixture
async def heard() -> AsyncIterator[tuple[str, list[str]]]:
    """A webhook: its address, and the changes it was told, in order."""
    told: list[str] = []

    async def handle(request: web.Request) -> web.Response:
        told.append((await request.json())["change_id"])
        return web.Response()

    app = web.Application()
    app.router.add_post("/hook", handle)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    yield f"http://127.0.0.1:{runner.addresses[0][1]}/hook", told
    await runner.cleanup()


def heartbeat(agent: str, status: HealthStatus, interval_s: float = 0.8) -> Event:
    return Event(
        event_version="v1", event_id=uuid4(), event_type="agent.heartbeat", occurred_at=datetime.now(UTC),
        tenant=Tenant(tenant_id="acme"), run=Run(agent_id=agent),
        health=Health(status=status, interval_s=interval_s, reason=None if status == "HEALTHY" else "probe http fails"),
        metrics=Metrics(latency_ms=120.0, error_rate=0.0, requests=10), attributes={},
    )  # fmt: skip


async def live(client: Client, agent: str, number: int) -> None:
    """Falls ill and recovers again and again; every fourth agent is silent for a while."""
    for beat in range(BEATS):
        silent = number % 4 == 0 and 12 <= beat < 22
        if not silent:
            await publish_event(client, heartbeat(agent, "UNHEALTHY" if (beat + number) % 9 in {3, 4, 5} else "HEALTHY"))
        await asyncio.sleep(0.3)
    for _ in range(4):
        await publish_event(client, heartbeat(agent, "HEALTHY", interval_s=60))


async def load(server: EmbeddedServer) -> None:
    """Agents live, and spend twelve dollars."""
    publishers = [await connect(server.settings(), f"load-{number}") for number in range(2)]

    async def spending() -> None:
        for number in range(120):
            await spend(publishers[1], entry("0.1", agent_id=SPENDERS[number % len(SPENDERS)]))
            await asyncio.sleep(BEATS * 0.3 / 120)

    await asyncio.gather(spending(), *(live(publishers[0], agent, number) for number, agent in enumerate(AGENTS)))
    for each in publishers:
        await each.close()


async def quiet(client: Client, streams: tuple[str, ...] = (topology.EVENTS, topology.ALERTS)) -> None:
    """Waits until nothing is written any more for two seconds."""
    before: list[int] = []
    since = time.monotonic()

    async def nothing_new() -> bool:
        nonlocal before, since
        now = [(await client.jsm().stream_info(stream)).state.last_seq for stream in streams]
        if now != before:
            before, since = now, time.monotonic()
        return time.monotonic() - since > 2

    await until(nothing_new, "all is told", 40)


async def commanded(client: Client) -> list[str]:
    """The subjects of all commands."""
    state = (await client.jsm().stream_info(topology.COMMANDS)).state
    found = [await client.jsm().get_msg(topology.COMMANDS, seq=number) for number in range(state.first_seq, state.last_seq + 1)]
    return [message.subject or "" for message in found]


async def judged(client: Client) -> list[str]:
    """Asserts that nothing was told twice, and that what was told follows from what was told before. All changes of alerts."""
    changes = await stored(client, topology.ALERTS, "alerts.>")
    assert [each for each, times in Counter(change["change_id"] for change in changes).items() if times > 1] == []
    states: dict[tuple[Any, ...], list[str]] = defaultdict(list)
    for change in changes:
        key = (change["rule"], change["tenant_id"], change.get("agent_id"), change.get("labels", {}).get("stream"))
        states[key].append(change["state"])
    for key, told in states.items():
        assert told == ["firing" if number % 2 == 0 else "resolved" for number in range(len(told))], (key, told)
    events = await stored(client, topology.EVENTS, "events.acme.agent")
    statuses = [each for each in events if each["event_type"] == "agent.status_changed"]
    for agent in AGENTS:
        own = [
            (each["health"].get("previous_status"), each["health"]["status"])
            for each in statuses
            if each["run"]["agent_id"] == agent
        ]
        assert [before for before, _ in own[1:]] == [after for _, after in own[:-1]], (agent, own)
        assert own[-1][1] == "HEALTHY"
        assert len(own) >= 6
    hits = [
        each
        for each in await stored(client, topology.EVENTS, "events.acme.budget")
        if each["event_type"] == "budget.threshold_hit"
    ]
    crossed = Counter((each["budget"]["budget_id"], round(each["budget"]["threshold"] * 100)) for each in hits)
    assert crossed == Counter({(name, each): 1 for name in ("denies", "halts") for each in THRESHOLDS})
    assert sorted(await commanded(client)) == sorted(f"command.acme.budget.{agent}" for agent in SPENDERS)
    dead = [each for each in await stored(client, topology.EVENTS, "dead.>") if each["reason"] != "duplicate"]
    assert dead == []
    return [change["change_id"] for change in changes]


async def active(pair: list[Instance]) -> list[set[str]]:
    """Which processors each is at work on."""
    return [{part.split(".")[0] for part, how in (await one.standing()).items() if how == "active"} for one in pair]


@pytest.mark.parametrize("how", [None, signal.SIGKILL, signal.SIGSTOP], ids=["both", "killed", "hung"])
async def test_two_instances_at_once_do_no_harm(
    server: EmbeddedServer, client: Client, tmp_path: Path, heard: tuple[str, list[str]], how: signal.Signals | None
) -> None:
    """Real processes. The hung one wakes up after the other has taken over, with what it had in hand."""
    url, told = heard
    (tmp_path / "rules.yaml").write_text(RULES)
    settings = {
        "AGENTOPS_WEBHOOK_URLS": url, "AGENTOPS_RULES": str(tmp_path / "rules.yaml"), "AGENTOPS_ALERTS_CHECK_S": "0.3",
        "AGENTOPS_BUDGET_WAREHOUSE_PATIENCE_S": "0.1",
    }  # fmt: skip
    await define(client, *(
        budget(name, limit="10", thresholds=THRESHOLDS, enforcement=enforcement)
        for name, enforcement in (("denies", "deny"), ("halts", "stop"))
    ))  # fmt: skip
    (tmp_path / "pair").mkdir()
    async with (
        instances(server, tmp_path, 1, "validate"),
        instances(server, tmp_path / "pair", 2, *NAMES, settings=settings) as pair,
    ):

        async def one_each() -> bool:
            return sorted(map(sorted, await active(pair))) == [[], sorted(NAMES)]

        async def first_is_whole() -> bool:
            # Whoever came first has all four, because each process asks for them in turn.
            found = await active(pair)
            return set().union(*found) == set(NAMES) and sum(map(len, found)) == len(NAMES)

        await until(first_is_whole, "each processor is at work once", 40)
        producing = asyncio.create_task(load(server))
        await until(lambda: len(told) > 5, "people are told", 20)
        if how is not None:
            found = await active(pair)
            victim, other = (0, 1) if found[0] else (1, 0)
            pair[victim].process.send_signal(how)
            began = time.monotonic()

            async def taken_over() -> bool:
                return (await active([pair[other]]))[0] == set(NAMES)

            await until(taken_over, "the other has all of them", 10)
            took = time.monotonic() - began
            print(f"\n{how.name}: taken over after {took:.2f} s")
            assert took < TAKEN_OVER_S[how]
            if how == signal.SIGSTOP:
                await asyncio.sleep(3)
                pair[victim].process.send_signal(signal.SIGCONT)
                await until(one_each, "the one that hung stands by", 10)
        await producing
        await quiet(client)
        changes = await judged(client)
        await until(lambda: set(told) == set(changes), "people know of every change", 40)
        books = await standings(client)
        assert {name: str(each.spent_usd) for name, each in books.items()} == {"denies": "12.0", "halts": "12.0"}
    assert list(dict.fromkeys(told)) == changes
    twice = [each for each, times in Counter(told).items() if times > 1]
    # What a killed one had told and not yet acknowledged is told again, with the same Idempotency-Key.
    assert len(twice) <= (0 if how is None else 1)


def attached(server: EmbeddedServer, instance: str) -> OneAtWork:
    context = ProcessorContext(Path(), instance, lambda name: connect(server.settings(), name))

    def make(turn: Turn) -> Processor:
        return HealthProcessor(context, HealthSettings(), turn)

    return OneAtWork("health", context, make)


async def test_one_that_stops_gives_its_lease_back_and_the_other_is_at_work_within_a_second(
    server: EmbeddedServer, client: Client
) -> None:
    leases = await TypedBucket.open(client, topology.LEASES, Lease)
    one, two = attached(server, "one"), attached(server, "two")
    await one.start()
    first = asyncio.create_task(one.run())
    await until(lambda: one.standing() == {"partition 0": "active"}, "one is at work")
    await two.start()
    second = asyncio.create_task(two.run())
    await until(lambda: two.standing() == {"partition 0": "standby: one is at work"}, "two stands by")
    assert two.waiting_for() == {}
    await one.stop()
    await first
    await until(lambda: two.standing() == {"partition 0": "active"}, "two is at work", 1)
    await until(lambda: two.waiting_for() == {}, "it has read everything")
    await two.stop()
    await second
    assert await leases.all() == {}


async def test_whoever_loses_its_lease_stops_and_stands_by(server: EmbeddedServer, client: Client) -> None:
    """As when a person deletes the claim and another takes it: the first writes no more."""
    one = attached(server, "one")
    await one.start()
    running = asyncio.create_task(one.run())
    await until(lambda: one.standing() == {"partition 0": "active"}, "one is at work")
    store = await client.jetstream().key_value(topology.LEASES)
    other = Lease(instance="other", since=datetime.now(UTC), host="elsewhere", pid=1)
    await store.put("health.0", orjson.dumps(other.model_dump(mode="json")))
    await until(lambda: one.standing() == {"partition 0": "standby: other is at work"}, "it has stepped back", 3)
    assert not running.done()
    await until(lambda: one.standing() == {"partition 0": "active"}, "the other was silent, one is at work again", 5)
    await one.stop()
    await running


async def test_its_turn_is_waited_for_while_the_server_is_away(server: EmbeddedServer, client: Client) -> None:
    one = attached(server, "one")
    await one.start()
    running = asyncio.create_task(one.run())
    await until(lambda: one.standing() == {"partition 0": "active"}, "one is at work")
    await server.kill()
    await asyncio.sleep(2.2)
    waiting = asyncio.create_task(one.mine())
    await asyncio.sleep(0.3)
    assert not waiting.done()
    await server.start()
    await until(waiting.done, "its turn again", 15)
    assert waiting.exception() is None
    assert one.standing() == {"partition 0": "active"}
    await until(lambda: client.is_connected, "reconnected")
    await one.stop()
    await running
