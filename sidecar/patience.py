"""aiohttp's server with an end to its patience: so many connections, so long for a request's head.

A body's deadline is its handler's, where the sender can still be told.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from service.instruments import CONNECTIONS_REFUSED

HEAD_S: Final = 10.0
MOST_CONNECTIONS: Final = 512
_BACKLOG: Final = 128


@dataclass(frozen=True, slots=True)
class Patience:
    """What one listener bears."""

    connections: int | None = MOST_CONNECTIONS
    """One more is closed at once; None: as many as the system allows."""
    head_s: float = HEAD_S
    """A head must be complete so long after its connection, or after its first byte."""


class _Handler(RequestHandler):
    """One connection."""

    __slots__ = ("_bears", "_crowd", "_head")

    def __init__(self, server: web.Server, crowd: set["_Handler"], bears: Patience, options: Mapping[str, Any]) -> None:
        super().__init__(server, loop=asyncio.get_running_loop(), **options)
        self._crowd = crowd
        self._bears = bears
        self._head: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        most = self._bears.connections
        if most is not None and len(self._crowd) >= most:
            CONNECTIONS_REFUSED.labels("too_many").inc()
            self.force_close()
            return
        self._crowd.add(self)
        self._wait()

    def _wait(self) -> None:
        if self._head is None:
            self._head = self._loop.call_later(self._bears.head_s, self._gone_slow)

    def _gone_slow(self) -> None:
        CONNECTIONS_REFUSED.labels("slow_head").inc()
        self.force_close()

    def _heard(self) -> None:
        if self._head is not None:
            self._head.cancel()
            self._head = None

    def data_received(self, data: bytes) -> None:
        before = self._request_count
        super().data_received(data)
        if self._request_count != before:
            self._heard()
        elif self._current_request is None and not self._messages:
            self._wait()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._heard()
        self._crowd.discard(self)
        super().connection_lost(exc)


class PatientSite(web.TCPSite):
    """A listening address of ``runner`` that bears only so much. ``options`` are those of a request's handler."""

    __slots__ = ("_bears", "_options", "_where")

    def __init__(self, runner: web.AppRunner, host: str, port: int, bears: Patience, options: Mapping[str, Any]) -> None:
        super().__init__(runner, host, port)
        self._bears = bears
        self._options = options
        self._where = (host, port)

    async def start(self) -> None:
        """Listens; raises OSError where the port is taken."""
        await web.BaseSite.start(self)
        server = self._runner.server
        assert server is not None
        crowd: set[_Handler] = set()

        def connection() -> _Handler:
            return _Handler(server, crowd, self._bears, self._options)

        self._server = await asyncio.get_running_loop().create_server(connection, *self._where, backlog=_BACKLOG)
