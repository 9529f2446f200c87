"""A manager in a process of its own runs an agent on Cloud Run, by commands like any other."""

import asyncio
import os
import signal
import sys

import grpc

from agent_manager.cli.fleet.rows import Fleet, agent_row
from agent_manager.cli.fleet.tables import agent_facts
from agent_manager.drivers.fake_cloud_run.answers import Trouble
from agent_manager.drivers.fake_cloud_run.cloud import Cloud
from agent_manager.drivers.fake_cloud_run.server import FakeCloudRun
from tests.agent_manager.driven import PLACE
from tests.agent_manager.world import TENANT, World, now, write_manifest
from tests.conftest import until

SERVICE = f"{PLACE}/services/chat"


class Managing:
    """A manager's process."""

    def __init__(self, world: World, server: FakeCloudRun) -> None:
        self.world, self.server = world, server
        self.process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        settings = self.world.settings()
        environment = {
            **os.environ, "NATS_URL": self.world.server.settings().url, "AGENTOPS_DATA": str(settings.data),
            "AGENTOPS_AGENTS": settings.agents, "AGENTOPS_DISCOVERY_INTERVAL_S": "0.2", "AGENTOPS_TICK_S": "0.2",
            "AGENTOPS_CLOUD_RUN_ENDPOINT": self.server.target, "AGENTOPS_CLOUD_RUN_POLL_S": "0.2",
        }  # fmt: skip
        login = self.world.server.settings()
        if login.user is not None and login.password is not None:
            environment |= {"NATS_USER": login.user, "NATS_PASSWORD": login.password.get_secret_value()}
        self.process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "agent_manager", env=environment, stdout=asyncio.subprocess.DEVNULL
        )  # fmt: skip

    async def end(self, number: signal.Signals) -> None:
        if self.process is not None and self.process.returncode is None:
            self.process.send_signal(number)
            await self.process.wait()


async def test_start_restart_stop_and_a_killed_manager(world: World) -> None:
    async with FakeCloudRun(Cloud(operation_s=0.2)) as server:
        cloud = server.cloud
        cloud.deploy(SERVICE)
        config = {"project": "demo", "region": "europe-west1", "service": "chat", "instances": 3}
        path = write_manifest(world.agents, "chat", driver="cloud_run", cloud_run=config, autostart=False)
        path.write_text("\n".join(line for line in path.read_text().splitlines() if not line.startswith(("command", "- "))))
        managing = Managing(world, server)
        await managing.start()
        try:
            await world.becomes("chat", "stopped", 30)
            response = await world.tell("start", "chat", within_s=60)
            assert response.status == "success", response.error
            assert response.result is not None
            assert response.result["resource"] == SERVICE
            assert response.result["proxy_url"] == "https://chat-fake.a.run.app"
            assert cloud.containers(SERVICE) == 3
            again = await world.tell("start", "chat", within_s=60)
            assert again.result is not None
            assert again.result["already_running"] is True

            running = await world.state("chat")
            assert running is not None
            shown = dict(agent_facts(agent_row(f"{TENANT}.chat", Fleet({}, {f"{TENANT}.chat": running}, {}, {}), now()), now()))
            assert shown["cloud run"] == SERVICE
            assert shown["revision"] in cloud.serving(SERVICE)
            assert shown["logs"].startswith("https://console.cloud.google.com/logs/")

            before = cloud.serving(SERVICE)
            response = await world.tell("restart", "chat", within_s=60)
            assert response.status == "success", response.error
            assert cloud.serving(SERVICE) != before

            # Killed in the middle of a restart, its successor sees it through and makes no second revision.
            cloud.operation_s = 3.0
            made = len(cloud.revisions)
            body = world.request("restart", "chat", lasting_s=300)
            await world.publish(body)
            await until(lambda: len(cloud.revisions) == made + 1, "the restart has reached Google", 30)
            await managing.end(signal.SIGKILL)
            await managing.start()
            record = None

            async def recorded() -> bool:
                nonlocal record
                record = next((one for one in await world.audit() if one.command_id == body["command_id"]), None)
                return record is not None

            await until(recorded, "the restart is recorded", 90)
            assert record is not None
            assert (record.outcome, len(cloud.revisions)) == ("success", made + 1)
            cloud.operation_s = 0.2

            # What Google refuses is told to whoever asked, and the agent runs on.
            cloud.troubles.append(Trouble("Services.UpdateService", grpc.StatusCode.PERMISSION_DENIED, "no", -1))
            response = await world.tell("stop", "chat", within_s=60)
            assert response.error is not None
            assert "roles/run.developer" in response.error.message
            cloud.troubles.clear()
            await until(lambda: cloud.containers(SERVICE) == 0, "it is stopped as soon as it may be", 60)
            state = await world.becomes("chat", "stopped", 30)
            assert state.desired == "stopped"
        finally:
            await managing.end(signal.SIGTERM)
