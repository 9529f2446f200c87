"""A sidecar started by hand, as the README says."""

import os
import sys
from pathlib import Path

from nats.aio.client import Client

from agent_manager.cli import running
from agent_manager.cli.running import Endpoints, Login
from streams.embedded import EmbeddedServer
from tests.cli.calling import begin
from tests.conftest import until


async def test_it_finds_the_running_system_and_takes_the_agents_command_after_the_dashes(
    server: EmbeddedServer, client: Client, tmp_path: Path
) -> None:
    settings = server.settings()
    assert settings.password is not None
    login = Login("system", settings.password.get_secret_value())
    running.write(tmp_path, Endpoints(settings.url, str(tmp_path), os.getpid(), users={"operator": login}))
    said: list[str] = []

    async def hear(message: object) -> None:
        said.append(getattr(message, "subject", ""))

    await client.subscribe("telemetry.>", cb=hear)
    process = await begin(
        "sidecar", "--data", str(tmp_path), "--agent-id", "my-agent", "--tenant", "demo", "--",
        sys.executable, "-c", "import time; time.sleep(60)", variables={},
    )  # fmt: skip
    try:
        await until(lambda: "telemetry.demo.my-agent.heartbeat" in said, "it speaks", 20)
    finally:
        process.terminate()
        _, err = await process.communicate()
    assert process.returncode == 0, err.decode()
