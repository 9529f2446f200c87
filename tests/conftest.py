"""Real parts for every test: a real nats-server with the topology applied."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Final

import nats.js.errors
import pytest
from nats.aio.client import Client

from streams.apply import apply
from streams.connect import connect
from streams.embedded import EmbeddedServer

# structlog and libraries must not colour what tests read.
os.environ.setdefault("NO_COLOR", "1")


PATIENCE: Final = 3
"""A machine so many times slower than the one a test was written on is no failure."""


async def until(predicate: Callable[[], bool] | Callable[[], Awaitable[bool]], what: str, within_s: float = 10.0) -> None:
    """Waits until ``predicate`` holds; fails naming ``what`` where it does not ``within_s``, on a slow machine ``PATIENCE`` times that."""
    deadline = time.monotonic() + PATIENCE * within_s
    while True:
        held = predicate()
        if not isinstance(held, bool):
            held = await held
        if held:
            return
        if time.monotonic() > deadline:
            pytest.fail(f"not within {within_s:g} s: {what}")
        await asyncio.sleep(0.02)


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[EmbeddedServer]:
    """A nats-server of this test's own, with the topology applied."""
    running = EmbeddedServer(tmp_path / "nats")
    await running.start()
    client = await connect(running.settings(), "test-setup")
    await apply(client)
    await client.close()
    yield running
    await running.stop()


@pytest.fixture
async def client(server: EmbeddedServer) -> AsyncIterator[Client]:
    """A connection with every right."""
    connected = await connect(server.settings(), "test")
    yield connected
    if not connected.is_closed:
        await connected.close()


async def stream_messages(client: Client, stream: str) -> int:
    """How many messages ``stream`` holds."""
    try:
        return (await client.jsm().stream_info(stream)).state.messages
    except nats.js.errors.NotFoundError:
        return 0
