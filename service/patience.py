"""uvicorn's HTTP with an end to its patience: so many connections, so long for a head, so long for a reader.

A body's deadline is the door's (``service.bodies``): there the sender can still be told.
"""

import asyncio
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from service.instruments import CONNECTIONS_REFUSED

_LINGER_S: Final = 2.0
"""After an early answer what still comes is thrown away for so long: else the sender sees a reset instead of the answer."""


@dataclass(frozen=True, slots=True)
class Patience:
    """What one listener bears."""

    connections: int
    head_s: float


class _LeavingTransport:
    """A transport whose ``close`` first lets the answer arrive. What came of the request by then is not read any more."""

    def __init__(self, transport: asyncio.Transport, loop: asyncio.AbstractEventLoop) -> None:
        self._transport = transport
        self._loop = loop
        self.leaving = False
        self.unread = False
        """Whether more of a request is to be expected."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def is_closing(self) -> bool:
        return self.leaving or self._transport.is_closing()

    def close(self) -> None:
        if self.leaving:
            return
        self.leaving = True
        if self.unread and self._transport.can_write_eof() and not self._transport.is_closing():
            self._transport.write_eof()
            self._transport.resume_reading()
        else:
            self._transport.close()
        # Whoever does not read his answer keeps it, and us, for ever.
        self._loop.call_later(_LINGER_S, self._transport.abort)


class PatientProtocol(H11Protocol):
    """One connection."""

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        patience: Patience,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._patience = patience
        self._head: asyncio.TimerHandle | None = None
        self._leaving: _LeavingTransport | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begins to wait for a head; one connection too many is told so and closed."""
        if len(self.connections) >= self._patience.connections:
            CONNECTIONS_REFUSED.labels("too_many").inc()
            transport.write(
                _last_words(503, "Service Unavailable", "busy", "too many connections: try again later", "Retry-After: 1\r\n")
            )
            transport.close()
            self.transport = transport
            return
        self._leaving = _LeavingTransport(transport, self.loop)
        super().connection_made(self._leaving)  # type: ignore[arg-type]
        self._wait_for_head()

    def _wait_for_head(self) -> None:
        if self._head is None:
            self._head = self.loop.call_later(self._patience.head_s, self._gone_slow)

    def _gone_slow(self) -> None:
        CONNECTIONS_REFUSED.labels("slow_head").inc()
        if not self.transport.is_closing():
            message = f"the request's head did not arrive within {self._patience.head_s:g} s"
            self.transport.write(_last_words(408, "Request Timeout", "timeout", message))
            self.transport.close()

    def _heard(self) -> None:
        if self._head is not None:
            self._head.cancel()
            self._head = None

    def data_received(self, data: bytes) -> None:
        """What comes after an early answer is thrown away."""
        leaving = self._leaving
        if leaving is None or leaving.leaving:
            return
        before = self.cycle
        super().data_received(data)
        if self.cycle is not before:
            self._heard()
        elif self.cycle is None or self.cycle.response_complete:
            self._wait_for_head()
        leaving.unread = self.cycle is not None and self.cycle.more_body

    def eof_received(self) -> None:
        """The sender has ended too."""
        if self._leaving is not None and self._leaving.leaving:
            self._leaving.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is waited for any more."""
        self._heard()
        if self._leaving is not None:
            super().connection_lost(exc)


def _last_words(status: int, phrase: str, kind: str, message: str, more: str = "") -> bytes:
    body = f'{{"error": {{"type": "{kind}", "message": "{message}"}}}}'
    head = f"HTTP/1.1 {status} {phrase}\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\nConnection: close\r\n"
    return f"{head}{more}\r\n{body}".encode()


def patient(patience: Patience) -> type[asyncio.Protocol]:
    """The protocol for ``uvicorn.Config(http=…)``."""
    return partial(PatientProtocol, patience=patience)  # type: ignore[return-value]
