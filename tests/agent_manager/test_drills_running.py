"""Drills on a real broker and a real manager: what a drill takes back, what it aborts for, and what it holds against the system."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from agent_manager.cli.connection import Place
from agent_manager.drills.field import Field
from agent_manager.drills.plan import Drill, parse
from agent_manager.drills.running import Running
from agent_manager.drills.score import Report
from tests.agent_manager.world import World, write_manifest
from tests.conftest import until


@pytest.fixture
async def place(world: World) -> Place:
    """Two agents that run, with nobody who judges them but the test."""
    for agent in ("one", "two"):
        write_manifest(world.agents, agent, tags=["pair"])
    await world.start()
    for agent in ("one", "two"):
        await world.becomes(agent, "running")
        await world.judged(agent, "HEALTHY")
    return Place(world.server.settings(), "the test", None, Path("data"))


def drill(steps: str, **more: Any) -> Drill:
    text = f"name: mine\ntargets: {{agent: one}}\nsteps:\n{steps}\n"
    return parse(text, "mine.yaml").model_copy(update=more)


async def run(world: World, place: Place, wanted: Drill) -> Report:
    return await Running(wanted, Field(world.client, place, datetime.now(UTC))).run()


def outcomes(report: Report) -> dict[str, str]:
    return {line.step: line.outcome for line in report.lines}


async def test_faults_are_taken_back_when_a_drill_ends_early(world: World, place: Place) -> None:
    wanted = drill("  - inject: {fault: latency, latency_ms: 5, duration: 10m}\n  - wait_for: {health: UNHEALTHY, within: 1s}")
    report = await run(world, place, wanted)
    assert "health UNHEALTHY did not come about: one: it is HEALTHY" in report.aborted
    assert not report.passed
    assert await world.faults("one") == []
    assert [
        (record.action, record.params.get("reason")) for record in await world.audit() if record.action == "inject_fault"
    ] == [("inject_fault", "drill mine")]


async def test_a_drill_ends_when_others_suffer(world: World, place: Place) -> None:
    await world.judged("two", "UNHEALTHY")
    wanted = drill("  - pause: 60s", abort=parse("name: x\nsteps: [{pause: 1}]\nabort: {unhealthy_share: 0.5}", "x").abort)
    report = await run(world, place, wanted)
    assert report.aborted == "100% of the agents that are no targets are UNHEALTHY"


async def test_what_cannot_be_shown_is_not_called_good(world: World, place: Place) -> None:
    """Without processors nobody can say that nothing was lost: that is a failure, not a pass."""
    wanted = drill("  - expect: {health: HEALTHY, within: 5s}\n  - expect: {alert: agent_unhealthy, within: 1s}")
    report = await Running(wanted, Field(world.client, place, datetime.now(UTC)), patience=0.1).run()
    said = outcomes(report)
    assert said["expect health HEALTHY"] == "passed"
    assert said["expect alert agent_unhealthy"] == "failed"
    assert said["no event lost"] == "failed"
    assert 0 < report.score < 100


async def test_a_restart_of_another_agent_is_held_against_the_system(world: World, place: Place) -> None:
    wanted = drill("  - wait_for: {status: running, within: 30s}\n  - pause: 1s")
    assert (await world.tell("restart", "two")).status == "success"
    report = await Running(wanted, Field(world.client, place, datetime.now(UTC)), patience=0.1).run()
    assert outcomes(report)["no wrong restart"] == "passed"

    async def restarted() -> bool:
        return (await world.tell("restart", "two")).status == "success"

    class Meddling(Field):
        """Somebody restarts the other agent while the drill runs."""

        async def listen(self) -> None:
            await super().listen()
            await until(restarted, "the other agent is restarted")

    report = await Running(wanted, Meddling(world.client, place, datetime.now(UTC)), patience=0.1).run()
    assert outcomes(report)["no wrong restart"] == "failed"
