"""The stand-in for Cloud Run as a program."""

import asyncio
import re
import signal
import sys

from agent_manager.drivers.cloud_run.api import AdminApi
from agent_manager.drivers.cloud_run.place import Place


async def test_it_is_started_by_the_command_line_and_says_how_to_use_it() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "agent_manager.cli", "dev", "fake-cloud-run", "--port", "0", "--worker-pool", "bot",
        stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    try:
        told = (await asyncio.wait_for(process.stdout.readuntil(b"}"), 60)).decode()
        found = re.search(r"AGENTOPS_CLOUD_RUN_ENDPOINT=(\S+)", told)
        assert found is not None
        api = AdminApi(found.group(1), 10)
        resource = await api.read(Place("demo", "europe-west1", "worker pool", "bot"))
        assert resource.template.containers[0].image == "demo/agent:1"
        assert "worker_pool: bot" in told
        await api.close()
    finally:
        process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(process.wait(), 30) == 0
