"""A connection that may not exist yet."""

import asyncio
from typing import Final

import structlog
from nats.aio.client import Client

from streams.connect import CannotConnectError, connect
from streams.settings import NatsSettings

log = structlog.get_logger(__name__)

_CONNECT_PAUSE_S: Final = 2.0


class Nats:
    """Made in the background, for ever patient."""

    def __init__(self, settings: NatsSettings, name: str) -> None:
        self._settings = settings
        self._name = name
        self._client: Client | None = None
        self.reconnected = asyncio.Event()
        """Set whenever a connection was made or made again; whoever waits for it clears it."""

    @property
    def client(self) -> Client | None:
        """The client while it is connected."""
        return self._client if self._client is not None and self._client.is_connected else None

    async def connect(self) -> Client:
        """Returns once connected, however long that takes."""
        while True:
            try:
                client = await connect(self._settings, self._name, patience_s=15.0, on_reconnect=self._made)
            except CannotConnectError as error:
                log.warning("nats.unreachable", error=str(error))
                await asyncio.sleep(_CONNECT_PAUSE_S)
                continue
            self._client = client
            log.info("nats.connected", url=self._settings.shown_url())
            await self._made()
            return client

    async def _made(self) -> None:
        self.reconnected.set()

    async def close(self) -> None:
        """Closes the connection, if there is one."""
        if self._client is not None:
            await self._client.close()
