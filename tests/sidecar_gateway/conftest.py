"""A gateway, and keys for it."""

from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest
from nats.aio.client import Client

from schemas.keys import ApiKey
from streams import topology
from streams.embedded import EmbeddedServer
from streams.kv import TypedBucket
from tests.sidecar.running import Telemetry
from tests.sidecar_gateway.running import Gateway, put_key


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as session:
        yield session


@pytest.fixture
async def keys(client: Client) -> TypedBucket[ApiKey]:
    return await TypedBucket.open(client, topology.API_KEYS, ApiKey)


@pytest.fixture
async def key(keys: TypedBucket[ApiKey]) -> str:
    """A key of tenant acme."""
    return await put_key(keys)


@pytest.fixture
async def stopped_gateway(server: EmbeddedServer, tmp_path: Path, http: aiohttp.ClientSession) -> AsyncIterator[Gateway]:
    """Not started yet. Uses the rights that gateways have."""
    running = Gateway(tmp_path, server.settings("gateway"), http)
    yield running
    if running.process is not None:
        assert await running.stop() == 0, running.log.read_text()


@pytest.fixture
async def gateway(stopped_gateway: Gateway, key: str) -> Gateway:
    """Ready; ``key`` is known."""
    await stopped_gateway.start()
    return stopped_gateway


@pytest.fixture
def telemetry(client: Client) -> Telemetry:
    return Telemetry(client)
