"""A way to the server that loses replies: what the client sent has arrived, what the server answered has not."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Literal

from streams.embedded import EmbeddedServer
from streams.settings import NatsSettings

_COMMIT = b"Nats-Batch-Commit"
_STORED = b'"batch":'
_DELIVERED = b"$JS.ACK"


def to_nobody(data: bytes) -> bytes:
    """The frame that tells of a stored batch, addressed to nobody."""
    start = data.rfind(b"MSG ", 0, data.index(_STORED)) + 4
    end = data.index(b" ", start)
    inbox, _, token = data[start:end].rpartition(b".")
    return data[:start] + inbox + b"." + b"0" * len(token) + data[end:]


@dataclass(slots=True)
class LosingWay:
    """Forwards bytes both ways, until ``losing`` says what becomes of the answers to the next commit."""

    server: EmbeddedServer
    losing: Literal["nothing", "the reply", "the connection", "a delivery"] = "nothing"
    lost: int = 0
    """Answers and deliveries that did not arrive."""
    port: int = 0
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def settings(self) -> NatsSettings:
        """How a client goes this way."""
        return self.server.settings().model_copy(update={"url": f"nats://127.0.0.1:{self.port}", "reconnect_wait_s": 0.05})

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One client."""
        assert self.server.credentials is not None
        from_server, to_server = await asyncio.open_connection("127.0.0.1", self.server.credentials.port)
        waiting = deaf = False

        async def there() -> None:
            nonlocal waiting, deaf
            while data := await reader.read(1 << 20):
                losing = self.losing
                if _COMMIT in data and losing in {"the reply", "the connection"}:
                    self.losing = "nothing"
                    if losing == "the reply":
                        waiting = True
                    else:
                        deaf = True
                        self.lost += 1
                        asyncio.get_running_loop().call_later(0.3, writer.transport.abort)
                to_server.write(data)
                await to_server.drain()

        async def back() -> None:
            nonlocal waiting
            while data := await from_server.read(1 << 20):
                if waiting and _STORED in data:
                    waiting = False
                    self.lost += 1
                    data = to_nobody(data)
                if self.losing == "a delivery" and _DELIVERED in data:
                    self.losing = "nothing"
                    self.lost += 1
                    continue
                if not deaf:
                    writer.write(data)
                    await writer.drain()

        tasks = {asyncio.create_task(there()), asyncio.create_task(back())}
        self._tasks |= tasks
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._tasks -= tasks
        writer.close()
        to_server.close()


@asynccontextmanager
async def losing_way(server: EmbeddedServer) -> AsyncIterator[LosingWay]:
    """Open while this lasts."""
    way = LosingWay(server)
    listening = await asyncio.start_server(way.accept, "127.0.0.1", 0)
    way.port = listening.sockets[0].getsockname()[1]
    try:
        yield way
    finally:
        listening.close()
