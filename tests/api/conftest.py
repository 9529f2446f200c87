"""A fleet with a manager and a warehouse, and an API in front of it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from nats.aio.client import Client

from schemas.keys import ApiKey
from streams import topology
from streams.embedded import EmbeddedServer
from streams.kv import TypedBucket
from tests.agent_manager.world import World, write_manifest
from tests.api.running import ROLES, Api
from tests.processors_aggregate.conftest import Running


@pytest.fixture
async def stopped_api(server: EmbeddedServer, client: Client, tmp_path: Path) -> AsyncIterator[Api]:
    """Not started yet; has keys of tenant acme for each role."""
    made = Api(tmp_path, server.settings("api"), await TypedBucket.open(client, topology.API_KEYS, ApiKey))
    for role in ROLES:
        await made.caller(role, role)
    await made.caller("sender", "sender")
    yield made
    await made.stop()


@pytest.fixture
async def api(stopped_api: Api) -> Api:
    """Ready."""
    await stopped_api.start()
    return stopped_api


@pytest.fixture
async def world(server: EmbeddedServer, client: Client, tmp_path: Path) -> AsyncIterator[World]:
    """A manager with two agents of tenant acme."""
    found = World(server, client, tmp_path / "data", tmp_path / "agents")
    found.agents.mkdir()
    write_manifest(found.agents, "one", tags=["chat"], environment={"TOKEN": "hush-hush"})
    write_manifest(found.agents, "two")
    await found.start()
    for agent in ("one", "two"):
        await found.becomes(agent, "running")
        await found.judged(agent, "HEALTHY")
    yield found
    await found.close()


@pytest.fixture
async def warehouse(server: EmbeddedServer, client: Client, tmp_path: Path) -> AsyncIterator[Running]:
    """An aggregate."""
    made = Running(server, tmp_path / "aggregate", client)
    await made.start()
    yield made
    await made.stop()
