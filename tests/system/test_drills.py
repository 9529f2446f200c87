"""The drills that come along, against the whole system: they pass, and their report can be looked at."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.conftest import until
from tests.system.running import AGENTOPS, ROOT, Running, clean_environment

pytestmark = pytest.mark.system

CHAT = "chat-service"


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Running]:
    """The whole system with its demo agents."""
    made = Running(tmp_path / "data")
    await made.start(60)
    yield made
    await made.stop()


async def test_every_drill_that_comes_along_passes(running: Running, tmp_path: Path) -> None:
    async def fit() -> bool:
        return await running.healthy(CHAT)

    await until(fit, "the agent is HEALTHY", 60)
    report = tmp_path / "report.html"
    process = await asyncio.create_subprocess_exec(
        AGENTOPS, "drill", "run", "builtin/all", "--agent", CHAT, "--patience", "4", "--json", "--html", str(report),
        env=clean_environment() | {"AGENTOPS_DATA": str(running.data)}, cwd=ROOT,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await process.communicate()
    reports = json.loads(out)
    failed = [(one["name"], one["aborted"], line) for one in reports for line in one["lines"] if line["outcome"] == "failed"]
    assert process.returncode == 0, (failed, err.decode())
    assert {one["name"] for one in reports} >= {"crash", "hang", "blackhole", "latency", "pressure", "heartbeat-loss"}
    assert f"{len(reports)} of {len(reports)} passed" in report.read_text()
    assert (await running.agents())[CHAT]["faults"] == []
