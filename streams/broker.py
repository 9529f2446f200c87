"""FastStream's broker under our connection policy: the same options, the same login, the same tolerance as every client."""

import logging
from types import TracebackType
from typing import Any, Final

import nats.errors
from faststream.nats import NatsBroker
from faststream.nats.security import NatsCredentials, NatsSecurity, NatsToken, NatsUserPassword
from nats.aio.client import Client

from streams.connect import RECONNECT_BUFFER_BYTES, TolerantClient
from streams.settings import NatsSettings

_LOGIN: Final = frozenset({"user", "password", "token", "user_credentials", "tls"})


class TolerantBroker(NatsBroker):
    """A broker whose connection outlives what it cannot decode."""

    async def _connect(self) -> Client:
        client = TolerantClient()
        await client.connect(**self._connection_kwargs)
        self.config.connect(client)
        return client

    async def stop(
        self,
        exc_type: type[BaseException] | None = None,
        exc_val: BaseException | None = None,
        exc_tb: TracebackType | None = None,
    ) -> None:
        """Stops its subscribers and drains; a connection that is broken has nothing to drain, and is closed."""
        client = self._connection
        try:
            await super().stop(exc_type, exc_val, exc_tb)
        except nats.errors.Error:
            if client is None or client.is_connected:
                raise
        finally:
            if client is not None and not client.is_closed and not client.is_connected:
                await client.close()


def _security(settings: NatsSettings) -> NatsSecurity:
    context = settings.tls_context()
    if settings.credentials is not None:
        return NatsCredentials(str(settings.credentials), ssl_context=context)
    if settings.token is not None:
        return NatsToken(settings.token.get_secret_value(), ssl_context=context)
    if settings.user is not None:
        password = settings.password.get_secret_value() if settings.password else ""
        return NatsUserPassword(settings.user, password, ssl_context=context)
    return NatsSecurity(ssl_context=context)


def broker(settings: NatsSettings, name: str, *, graceful_timeout_s: float = 3.0) -> NatsBroker:
    """A broker for ``settings``, not connected yet. Its ``start`` tries for ever: see first that NATS is there."""
    options: dict[str, Any] = {key: value for key, value in settings.options().items() if key not in _LOGIN}
    return TolerantBroker(
        settings.servers(),
        name=name,
        security=_security(settings),
        logger=logging.getLogger("faststream"),
        graceful_timeout=graceful_timeout_s,
        pending_size=RECONNECT_BUFFER_BYTES,
        **options,
    )
