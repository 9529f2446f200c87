"""Connecting: for ever patient once running, clear when it cannot begin."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

import structlog
from nats.aio.client import Client

from streams.settings import NatsSettings

log = structlog.get_logger(__name__)

RECONNECT_BUFFER_BYTES = 8 * 1024 * 1024
"""Publishes made while away wait in at most this much memory, then are refused."""


class TolerantClient(Client):
    """A client whose read loop outlives what it cannot decode.

    nats-py ends its read loop, in silence and while still seeming connected, at a subject that is not UTF-8 and at
    headers too short to be headers. Anyone who may publish could stop every reader of a stream that way, for ever.
    """

    async def _process_headers(self, headers: bytes) -> dict[str, str] | None:
        try:
            found: dict[str, str] | None = await super()._process_headers(headers)
        except (UnicodeDecodeError, IndexError):
            return {}
        return found

    def _build_message(self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: dict[str, str] | None) -> Any:
        try:
            return super()._build_message(sid, subject, reply, data, headers)
        except UnicodeDecodeError:
            readable = [text.decode("utf-8", "replace").encode() for text in (subject, reply)]
            return super()._build_message(sid, readable[0], readable[1], data, headers)


class CannotConnectError(ConnectionError):
    """NATS did not answer, or refused us. Trying again helps only if the server was still starting."""


async def connect(
    settings: NatsSettings, name: str, *, patience_s: float = 10.0, on_reconnect: Callable[[], Awaitable[None]] | None = None,
    on_disconnect: Callable[[], None] | None = None,
) -> Client:  # fmt: skip
    """A connection that reconnects for ever once made; raises CannotConnectError after ``patience_s`` without one.

    ``name`` is what operators see in NATS' own monitoring.
    """
    if (unreadable := settings.unreadable()) is not None:
        raise CannotConnectError(f"cannot connect to NATS at {settings.shown_url()}: {unreadable}")
    client = TolerantClient()

    async def disconnected() -> None:
        if not client.is_closed:
            log.warning("nats.disconnected", client=name)
            if on_disconnect is not None:
                on_disconnect()

    async def reconnected() -> None:
        log.info("nats.reconnected", client=name)
        if on_reconnect is not None:
            await on_reconnect()

    seen: list[Exception] = []
    refused = asyncio.Event()

    async def failed(error: Exception) -> None:
        log.debug("nats.error", client=name, error=repr(error))
        if not refused.is_set():
            # What follows a refusal (a reset connection) hides its cause.
            seen[:] = [error]
        if "authorization" in str(error).lower():
            refused.set()

    connecting = asyncio.create_task(
        client.connect(
            servers=settings.servers(),
            name=name,
            disconnected_cb=disconnected,
            reconnected_cb=reconnected,
            error_cb=failed,
            pending_size=RECONNECT_BUFFER_BYTES,
            **settings.options(),
        ),
        name="nats-connect",
    )
    # Without a limit of attempts nats-py tries for ever even the first time: a wrong password would hang.
    turned_away = asyncio.create_task(refused.wait(), name="nats-refused")
    await asyncio.wait({connecting, turned_away}, timeout=patience_s, return_when=asyncio.FIRST_COMPLETED)
    turned_away.cancel()
    if connecting.done() and connecting.exception() is None and client.is_connected:
        return client
    if connecting.done() and not connecting.cancelled() and (error := connecting.exception()) is not None:
        seen[:] = [error if isinstance(error, Exception) else CannotConnectError(repr(error))]
    connecting.cancel()
    await asyncio.gather(connecting, return_exceptions=True)
    await client.close()
    why = repr(seen[0]) if seen else "no answer"
    if seen and isinstance(seen[0], ssl.SSLError):
        why = f"TLS: {seen[0]}; NATS_TLS_CA names whom to trust"
    msg = f"cannot connect to NATS at {settings.shown_url()}: {why}. Is it running, and are NATS_URL, NATS_USER and NATS_PASSWORD right?"
    raise CannotConnectError(msg) from (seen[0] if seen else None)
