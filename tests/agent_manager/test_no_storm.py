"""Nobody's agent is restarted because the manager, its clock or the way to it had a problem."""

import asyncio
import os
import signal
from datetime import datetime, timedelta
from decimal import Decimal

import pytest

from schemas.budgets import BudgetFlag
from schemas.events import Event
from streams import subjects, topology
from streams.kv import TypedBucket
from tests.agent_manager.test_surviving import OtherManager
from tests.agent_manager.world import TENANT, World, now, write_manifest
from tests.conftest import until

FLEET = [f"agent-{number}" for number in range(5)]


async def running(world: World) -> dict[str, int | None]:
    """All run and are known to be well; their processes."""
    states = {agent: await world.becomes(agent, "running", within_s=60) for agent in FLEET}
    for agent in FLEET:
        await world.judged(agent, "HEALTHY")
    return {agent: state.pid for agent, state in states.items()}


def restarts(world: World) -> int:
    return sum(len(world.launches(agent)) - 1 for agent in FLEET)


async def heals(world: World, agent: str = FLEET[0]) -> None:
    """The manager still does its work: one that is killed comes back."""
    state = await world.state(agent)
    assert state is not None
    assert state.pid is not None
    before = len(world.launches(agent))
    os.kill(state.pid, signal.SIGKILL)
    await until(lambda: len(world.launches(agent)) == before + 1, "one that is killed is restarted", 60)


def fleet(world: World) -> None:
    for agent in FLEET:
        write_manifest(world.agents, agent, stop_timeout_s=0.5, healing={"backoff_initial_s": 0.05})


async def told(world: World, agent: str, what: str) -> None:
    async def withheld() -> bool:
        state = await world.state(agent)
        return state is not None and what in (state.withheld or "")

    await until(withheld, f"{agent} is left alone: {what}", 60)


async def test_a_partition_between_the_sidecars_and_nats_restarts_nobody(world: World) -> None:
    fleet(world)
    await world.start()
    pids = await running(world)
    for agent in FLEET:
        await world.judged(agent, "UNHEALTHY", "inactive", reason="no heartbeat for 16 s")
    for agent in FLEET:
        await told(world, agent, "its sidecar answers here")
    assert restarts(world) == 0
    # One whose sidecar does not answer here either is not out of earshot but hung.
    hung = pids[FLEET[1]]
    assert hung is not None
    for agent in (one for one in FLEET if one != FLEET[1]):
        await world.judged(agent, "HEALTHY")
    os.kill(hung, signal.SIGSTOP)
    await until(lambda: len(world.launches(FLEET[1])) == 2, "the hung one is restarted", 60)
    assert restarts(world) == 1


@pytest.mark.parametrize("hours", [1, -1])
async def test_a_clock_that_jumps_restarts_nobody_and_healing_goes_on(world: World, hours: int) -> None:
    off = timedelta(0)

    def clock() -> datetime:
        return now() + off

    world.clock = clock
    fleet(world)
    await world.start()
    await running(world)
    await heals(world)
    await world.becomes(FLEET[0], "running", within_s=60)
    await world.judged(FLEET[0], "HEALTHY")
    off = timedelta(hours=hours)
    # The observations that come are those of a clock that was set as well.
    for agent in FLEET:
        await world.judged(agent, "HEALTHY", updated_at=clock(), last_heartbeat=clock())
    before = restarts(world)
    asked = await world.send(world.request("status", FLEET[0]) | {"expires_at": (clock() + timedelta(minutes=1)).isoformat()})
    assert asked.status == "success"
    await heals(world, FLEET[1])
    await heals(world, FLEET[0])
    assert restarts(world) == before + 2


async def test_a_manager_that_was_paused_restarts_nobody(world: World) -> None:
    fleet(world)
    async with OtherManager(world, AGENTOPS_VERIFY_S="3") as other:
        await running(world)
        assert other.process is not None
        other.process.send_signal(signal.SIGSTOP)
        # While it sleeps every agent is silent, and well again: it wakes up to both at once.
        for agent in FLEET:
            await world.judged(agent, "UNHEALTHY", "inactive", reason="no heartbeat")
        began = asyncio.get_running_loop().time()
        await until(lambda: asyncio.get_running_loop().time() - began > 5, "it has slept for longer than anything may take")
        for agent in FLEET:
            await world.judged(agent, "HEALTHY")
        other.process.send_signal(signal.SIGCONT)
        await heals(world)
        assert restarts(world) == 1
        log = world.data.parent / "manager.log"
        await until(lambda: "manager.was_away" in log.read_text(), "it says that it was away")


async def test_managers_that_come_and_go_restart_nobody(world: World) -> None:
    fleet(world)
    async with OtherManager(world) as other:
        pids = await running(world)
        await other.kill()
    for _ in range(3):
        async with OtherManager(world) as other:
            assert other.process is not None

            async def answers() -> bool:
                return (await world.tell("status", FLEET[0], within_s=60)).status == "success"

            await until(answers, "it works", 60)
            await other.kill()
    await world.start()
    for agent, pid in pids.items():
        assert (await world.becomes(agent, "running", within_s=60)).pid == pid
    assert restarts(world) == 0


async def test_a_fleet_in_trouble_is_left_alone_and_a_person_is_told_once(world: World) -> None:
    fleet(world)
    world.options = {"fleet_trial_s": 3600.0}
    await world.start()
    await running(world)
    alerts: list[Event] = []

    async def keep(message: object) -> None:
        alerts.extend(
            Event.model_validate_json(line) for line in getattr(message, "data", b"").splitlines()
        )  # fmt: skip

    for agent in FLEET:
        await world.client.subscribe(subjects.telemetry(TENANT, agent, "alert"), cb=keep)
    for agent in FLEET:
        await world.judged(agent, "UNHEALTHY", reason="100% of requests fail")
    # Before the half of them was known to be in trouble some were restarted, as each by itself would be.
    await told(world, FLEET[4], "agents are in trouble, so the cause is elsewhere")
    assert restarts(world) <= 2
    await until(lambda: bool(alerts), "a person is told", 60)
    assert [(one.alert.type, one.alert.severity) for one in alerts if one.alert] == [("fleet_unhealthy", "critical")]
    # A person's word counts all the same.
    await world.tell("restart", FLEET[4], within_s=60)
    assert len(world.launches(FLEET[4])) == 2


async def test_an_agent_under_maintenance_is_left_alone_until_it_is_over(world: World) -> None:
    write_manifest(world.agents, "one")
    await world.start()
    state = await world.becomes("one", "running")
    early = await world.tell("set_maintenance", "one", until="2020-01-01T00:00:00Z")
    assert early.error is not None
    assert "params.until: must lie ahead" in early.error.message
    opened = await world.tell("set_maintenance", "one", until=(now() + timedelta(hours=1)).isoformat(), reason="new disk")
    assert opened.status == "success"
    assert state.pid is not None
    os.kill(state.pid, signal.SIGKILL)
    await told(world, "one", "maintenance until")
    state = await world.becomes("one", "error")
    assert state.incident is None
    assert len(world.launches("one")) == 1
    assert (await world.tell("set_maintenance", "one")).status == "success"
    await until(lambda: len(world.launches("one")) == 2, "it is healed once that is over", 60)

    async def forgotten() -> bool:
        state = await world.state("one")
        return state is not None and state.withheld is None

    await until(forgotten, "nothing is withheld any more")


async def test_an_agent_waits_for_the_one_it_depends_on(world: World) -> None:
    write_manifest(world.agents, "database", healing={"enabled": False})
    write_manifest(world.agents, "chat", dependencies=["database"])
    await world.start()
    for agent in ("database", "chat"):
        pid = (await world.becomes(agent, "running")).pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        await world.becomes(agent, "error")
    await told(world, "chat", "it depends on database, which is down")
    assert len(world.launches("chat")) == 1
    await world.tell("start", "database")
    await until(lambda: len(world.launches("chat")) == 2, "it follows", 60)


async def test_no_restart_into_an_exhausted_budget(world: World) -> None:
    write_manifest(world.agents, "one")
    flags = await TypedBucket.open(world.client, topology.BUDGET_FLAGS, BudgetFlag)
    flag = BudgetFlag(
        budget_id="monthly", tenant_id=TENANT, scope="agent", of="one", limit_usd=Decimal(1), spent_usd=Decimal(2), period="2026-12", reason="spent",
        since=now(), until=now() + timedelta(hours=1),
    )  # fmt: skip
    await flags.put(f"{TENANT}.monthly", flag)
    await world.start()
    state = await world.becomes("one", "running")
    assert state.pid is not None
    os.kill(state.pid, signal.SIGKILL)
    await told(world, "one", "budget monthly is exhausted")
    assert len(world.launches("one")) == 1
    await flags.delete(f"{TENANT}.monthly")
    await until(lambda: len(world.launches("one")) == 2, "it is healed when there is money again", 60)
