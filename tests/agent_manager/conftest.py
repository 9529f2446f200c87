"""A world for each test: its own nats-server, data directory and agents folder."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from nats.aio.client import Client

from streams.embedded import EmbeddedServer
from tests.agent_manager.world import World


@pytest.fixture
async def world(server: EmbeddedServer, client: Client, tmp_path: Path) -> AsyncIterator[World]:
    """A world without a manager yet."""
    found = World(server, client, tmp_path / "data", tmp_path / "agents")
    found.agents.mkdir()
    yield found
    await found.close()
