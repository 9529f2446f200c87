"""What is killed here: managers, leaders, agents, and the nats-server under all of them."""

import asyncio
import os
import signal
import sys
from datetime import timedelta
from typing import Self

import psutil
import pytest
from nats.aio.client import Client

from agent_manager.commands import subscribers
from schemas.commands import CommandResponse
from streams import subjects, topology
from streams.apply import apply
from tests.agent_manager.world import World, now, write_manifest
from tests.conftest import until


class OtherManager:
    """A manager in a process of its own."""

    def __init__(self, world: World, **settings: str) -> None:
        self.world = world
        self.settings = settings
        self.process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        nats = self.world.server.settings()
        assert nats.password is not None
        environment = {
            **os.environ,
            "NATS_URL": nats.url, "NATS_USER": nats.user or "", "NATS_PASSWORD": nats.password.get_secret_value(),
            "AGENTOPS_DATA": str(self.world.data), "AGENTOPS_AGENTS": str(self.world.agents),
            "AGENTOPS_DISCOVERY_INTERVAL_S": "0.1", "AGENTOPS_VERIFY_S": "3", "AGENTOPS_GRACE_S": "0.2",
        } | self.settings  # fmt: skip
        log = (self.world.data.parent / "manager.log").open("ab")
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.agent_manager.manager_process", env=environment, stderr=log, stdout=log
        )
        log.close()
        return self

    async def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        await self.process.wait()

    async def __aexit__(self, *_: object) -> None:
        assert self.process is not None
        if self.process.returncode is None:
            await self.kill()


def gone(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


async def test_agents_outlive_a_killed_manager_and_the_next_one_adopts_them(world: World) -> None:
    write_manifest(world.agents, "one")
    async with OtherManager(world) as other:
        before = await world.becomes("one", "running", within_s=20)
        await other.kill()
    assert before.pid is not None
    assert not gone(before.pid)
    await world.start()
    after = await world.becomes("one", "running")
    assert (after.pid, after.instance_id, after.proxy_url) == (before.pid, before.instance_id, before.proxy_url)
    assert len(world.launches("one")) == 1
    # Adopted, not only seen: it can be killed, noticed, restarted and stopped.
    os.kill(before.pid, signal.SIGKILL)

    async def restarted() -> bool:
        state = await world.state("one")
        return state is not None and state.pid not in {None, before.pid}

    await until(restarted, "it is restarted after a kill")
    assert (await world.tell("stop", "one")).status == "success"
    assert world.members("one") == []


async def test_an_agent_that_died_while_there_was_no_manager_is_started_again(world: World) -> None:
    write_manifest(world.agents, "one")
    async with OtherManager(world) as other:
        before = await world.becomes("one", "running", within_s=20)
        await other.kill()
    assert before.pid is not None
    os.kill(before.pid, signal.SIGKILL)
    await world.start()

    async def running_anew() -> bool:
        state = await world.state("one")
        return state is not None and state.status == "running" and state.pid not in {None, before.pid}

    await until(running_anew, "it runs again")
    assert len(world.launches("one")) == 2
    assert len(world.members("one")) == 2


async def test_a_command_cut_short_by_a_kill_is_carried_out_by_the_next_manager_and_only_once(world: World) -> None:
    write_manifest(world.agents, "one", environment={"STUBBORN": "1"}, stop_timeout_s=0.5)
    async with OtherManager(world) as other:
        await world.becomes("one", "running", within_s=20)
        body = world.request("restart", "one")
        answers = await world.client.subscribe(subjects.command_response(body["command_id"]))
        await world.publish(body)

        async def begun() -> bool:
            state = await world.state("one")
            return state is not None and state.instance_id not in {None, world.launches("one")[0].split()[0]}

        # Stopping takes 1.5 s; then the new instance is noted and launched, and confirmed a moment later.
        await until(begun, "the new instance is noted")
        await other.kill()
    await world.start()
    response = CommandResponse.model_validate_json((await answers.next_msg(timeout=10)).data)
    await answers.unsubscribe()
    assert response.status == "success"
    assert len(world.launches("one")) == 2
    assert (await world.audited(body["command_id"])).outcome == "success"
    # And a copy delivered later is answered from the journal.
    assert (await world.send(body)) == response
    assert len(world.launches("one")) == 2


async def test_commands_given_while_there_is_no_manager_wait_in_order(world: World) -> None:
    write_manifest(world.agents, "one")
    bodies = [world.request(command, "one") for command in ("stop", "start", "stop")]
    answers = [await world.client.subscribe(subjects.command_response(body["command_id"])) for body in bodies]
    expired = world.request("start", "one", lasting_s=0.1)
    for body in [*bodies, expired]:
        await world.publish(body)
    await world.start()
    for answer in answers:
        response = CommandResponse.model_validate_json((await answer.next_msg(timeout=10)).data)
        assert response.status == "success"
        await answer.unsubscribe()
    state = await world.becomes("one", "stopped")
    assert state.desired == "stopped"
    assert (await world.audited(expired["command_id"])).reason.startswith("expired")


async def test_told_to_stop_with_its_agents_the_manager_does_and_the_next_one_resumes_them(world: World) -> None:
    for agent in ("one", "two"):
        write_manifest(world.agents, agent)
    write_manifest(world.agents, "off", autostart=False)
    world.options = {"stop_agents": True}
    await world.start()
    for agent in ("one", "two"):
        await world.becomes(agent, "running")
    began = asyncio.get_running_loop().time()
    await world.stop()
    assert asyncio.get_running_loop().time() - began < 6
    assert world.members("one") == world.members("two") == []
    state = await world.state("one")
    assert state is not None
    assert (state.desired, state.status, state.reason) == ("running", "stopped", "stopped with the manager")
    await world.start()
    for agent in ("one", "two"):
        await world.becomes(agent, "running")
    state = await world.state("off")
    assert state is not None
    assert state.status == "stopped"


async def test_without_that_it_leaves_them_running(world: World) -> None:
    write_manifest(world.agents, "one")
    await world.start()
    state = await world.becomes("one", "running")
    await world.stop()
    assert state.pid in world.members("one")


async def test_a_killed_nats_server_stops_nothing_and_everything_works_again_when_it_is_back(world: World) -> None:
    write_manifest(world.agents, "one")
    await world.start()
    first = await world.becomes("one", "running")
    port = world.server.settings().url.rsplit(":", 1)[1]
    await world.server.kill()
    assert first.pid is not None
    os.kill(first.pid, signal.SIGKILL)
    # Healing a dead process needs no NATS.
    await until(lambda: len(world.launches("one")) == 2, "it is restarted while NATS is away")
    world.server.port = int(port)
    await world.server.start()

    async def told() -> bool:
        state = await world.state("one")
        return state is not None and state.restarts == 1 and state.status == "running"

    await until(told, "what happened meanwhile is told")
    assert world.manager is not None
    await until(lambda: world.manager is not None and not world.manager.waiting_for(), "the manager is ready again")
    assert (await world.tell("restart", "one")).status == "success"
    reasons = [record.action for record in await world.audit()]
    assert "restart" in reasons
    # What health says is heard again.
    state = await world.state("one")
    assert state is not None
    await world.judged("one", "UNHEALTHY", "error", reason="killed")
    await until(lambda: len(world.launches("one")) == 4, "an observation made after it is acted on", 15)


async def test_a_second_manager_in_the_same_directory_is_refused_with_the_way_out(world: World) -> None:
    await world.start()
    async with OtherManager(world) as other:
        assert other.process is not None
        await asyncio.wait_for(other.process.wait(), 20)
    told = (world.data.parent / "manager.log").read_text()
    assert "another manager" in told
    assert str(os.getpid()) in told


async def test_a_bucket_that_is_missing_is_waited_for(world: World) -> None:
    await world.client.jsm().delete_stream("KV_registry")
    starting = asyncio.create_task(world.start())
    await until(lambda: "topology" in (world.manager.waiting_for() if world.manager else {}), "it says what it waits for")
    await apply(world.client)
    await starting


async def test_states_in_nats_are_written_only_when_something_changed(world: World, client: Client) -> None:
    write_manifest(world.agents, "one")
    await world.start()
    await world.becomes("one", "running")

    async def revision() -> int:
        return (await client.jsm().stream_info("KV_agent_states")).state.last_seq

    before = await revision()
    for _ in range(5):
        await world.judged("one", "HEALTHY", since=now() - timedelta(seconds=5), reason="")
    # A command is answered after all of that was heard.
    assert (await world.tell("status", "one")).status == "success"
    assert await revision() == before


async def test_a_consumer_that_somebody_deleted_is_made_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscribers, "_LOOK_S", 0.1)
    write_manifest(world.agents, "one", autostart=False)
    await world.start()
    assert (await world.tell("status", "one")).status == "success"
    await world.client.jsm().delete_consumer(topology.COMMANDS, subscribers.DURABLE)
    assert (await world.tell("status", "one")).status == "success"
