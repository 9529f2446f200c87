import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from nats.aio.client import Client

from processors.aggregate.app import Aggregate
from processors.aggregate.settings import AggregateSettings
from processors.runner import ProcessorContext
from streams import topology
from streams.connect import connect
from streams.embedded import EmbeddedServer
from tests.conftest import until
from tests.processors_aggregate.wire import Wire


class Running:
    """An aggregate at work inside the test."""

    def __init__(self, server: EmbeddedServer, data: Path, client: Client) -> None:
        self._client = client

        async def own(name: str) -> Client:
            return await connect(server.settings(), name)

        self.context = ProcessorContext(data, "test", own)
        self.processor = Aggregate(self.context, AggregateSettings(query_deadline_s=5.0))
        self.file = data / "warehouse" / "agentops.duckdb"
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        await self.processor.start()
        self._task = asyncio.create_task(self.processor.run())

    async def stop(self) -> None:
        await self.processor.stop()
        if self._task is not None:
            await self._task
            self._task = None

    async def caught_up(self) -> None:
        """Waits until everything now in the streams is applied."""

        async def applied() -> bool:
            for stream in (topology.EVENTS, topology.LEDGER, topology.ALERTS):
                last = (await self._client.jsm().stream_info(stream)).state.last_seq
                offset = self.processor._offsets.get(stream)
                if last and (offset is None or offset.applied_sequence < last):
                    assert self._task is not None
                    if self._task.done():
                        self._task.result()
                    return False
            return True

        await until(applied, "everything is applied")

    def rows(self, sql: str, *params: Any) -> list[tuple[Any, ...]]:
        """What the warehouse says to a question of the test's own."""
        assert self.processor._warehouse is not None
        with self.processor._warehouse.cursor() as cursor:
            found: list[tuple[Any, ...]] = cursor.execute(sql, list(params)).fetchall()
            return found


@pytest.fixture
async def running(server: EmbeddedServer, client: Client, tmp_path: Path) -> AsyncIterator[Running]:
    """An aggregate reading this test's streams."""
    made = Running(server, tmp_path / "data", client)
    await made.start()
    yield made
    await made.stop()


@pytest.fixture
def wire(client: Client) -> Wire:
    return Wire(client)
