"""A sidecar for the tests: a real process, ended after each of them."""

from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import aiohttp
import psutil
import pytest
from nats.aio.client import Client

from streams.embedded import EmbeddedServer
from tests.sidecar.running import Sidecar, Telemetry


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    """Without kept-alive connections: each request is one of its own."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as session:
        yield session


@pytest.fixture
async def sidecar(server: EmbeddedServer, tmp_path: Path, http: aiohttp.ClientSession) -> AsyncIterator[Sidecar]:
    """Not started yet. Uses the rights that sidecars have."""
    running = Sidecar(tmp_path, server.settings("sidecar"), http)
    yield running
    if running.process is not None:
        await running.stop()
    if running.run.get("agent_pid"):
        with suppress(psutil.NoSuchProcess):
            psutil.Process(running.run["agent_pid"]).kill()


@pytest.fixture
def telemetry(client: Client) -> Telemetry:
    """What arrived in NATS."""
    return Telemetry(client)
