"""Publishing that costs next to nothing, so that what is measured is the system and not who feeds it.

Frames of NATS' own protocol are made beforehand and written in large pieces; every acknowledgement is read and counted.
"""

import asyncio
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, cast
from urllib.parse import urlsplit

import orjson

from benchmarks.workload import Message
from streams.settings import NatsSettings

_INBOX: Final = "_INBOX.benchmark"
_LINE: Final = b"\r\n"
WINDOW: Final = 512
"""Messages without an acknowledgement; then the publisher waits."""
WINDOW_BYTES: Final = 32 * 1024 * 1024


class RefusedError(RuntimeError):
    """The server said no to a publish. The figure would not be what it says; trying again may help."""


@dataclass(frozen=True, slots=True)
class Load:
    """What is published: frames, and how many events and ledger entries each stands for."""

    frames: list[bytes]
    events: list[int]
    entries: list[int]

    @property
    def total_events(self) -> int:
        """Of all frames."""
        return sum(self.events)

    @property
    def total_entries(self) -> int:
        """Of all frames."""
        return sum(self.entries)


def frame(message: Message) -> bytes:
    """``message`` as it goes over the wire, asking for an acknowledgement."""
    headers = b"NATS/1.0\r\n" + b"".join(f"{name}: {value}\r\n".encode() for name, value in message.headers.items()) + _LINE
    sizes = f"{len(headers)} {len(headers) + len(message.data)}"
    return b"".join((f"HPUB {message.subject} {_INBOX} {sizes}\r\n".encode(), headers, message.data, _LINE))


def load(messages: Iterable[Message]) -> Load:
    """``messages`` as frames."""
    several = list(messages)
    return Load([frame(each) for each in several], [each.events for each in several], [each.entries for each in several])


def due(events: Sequence[int], rate: float) -> list[float]:
    """When each frame is due, in seconds: as soon as its last event was made, at ``rate`` events a second."""
    made, found = 0, []
    for each in events:
        made += each
        found.append(made / rate)
    return found


class Acknowledgements(asyncio.Protocol):
    """Reads what the server says: counts acknowledgements, answers its pings, keeps the first refusal."""

    def __init__(self) -> None:
        self.count = 0
        self.refused: str | None = None
        self.ready = asyncio.Event()
        self._transport: asyncio.Transport | None = None
        self._rest = b""
        self._payload = False
        self._more = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._fail(f"the connection ended: {exc!r}")

    def data_received(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(_LINE)
        for line in lines:
            if self._payload:
                self._payload = False
                if b'"error"' in line or b'"duplicate"' in line:
                    self._fail(line.decode("utf-8", "replace"))
                self.count += 1
            elif line.startswith(b"MSG "):
                self._payload = True
            elif line.startswith(b"PING"):
                assert self._transport is not None
                self._transport.write(b"PONG\r\n")
            elif line.startswith(b"PONG"):
                self.ready.set()
            elif line.startswith((b"-ERR", b"HMSG")):
                self._fail(line.decode("utf-8", "replace"))
        self._more.set()

    def _fail(self, what: str) -> None:
        self.refused = self.refused or what
        self.ready.set()
        self._more.set()

    def check(self) -> None:
        """Raises RefusedError where the server has said no."""
        if self.refused is not None:
            raise RefusedError(self.refused)

    async def more(self, patience_s: float) -> None:
        """Waits until something more has come. Raises RefusedError, TimeoutError."""
        self._more.clear()
        async with asyncio.timeout(patience_s):
            await self._more.wait()
        self.check()


class Publisher:
    """A connection of its own, for frames."""

    def __init__(self, transport: asyncio.Transport, acknowledgements: Acknowledgements) -> None:
        self._transport = transport
        self._acknowledgements = acknowledgements
        self._sent = 0

    @classmethod
    async def connect(cls, settings: NatsSettings) -> "Publisher":
        """Connects and subscribes to the acknowledgements. Raises RefusedError."""
        address = urlsplit(settings.servers()[0])
        transport, acknowledgements = await asyncio.get_running_loop().create_connection(
            Acknowledgements, address.hostname or "127.0.0.1", address.port or 4222
        )
        told = {
            "verbose": False,
            "pedantic": False,
            "headers": True,
            "no_responders": True,
            "lang": "python",
            "name": "publisher",
        }
        if settings.user is not None and settings.password is not None:
            told |= {"user": settings.user, "pass": settings.password.get_secret_value()}
        transport.write(b"CONNECT " + orjson.dumps(told) + _LINE + f"SUB {_INBOX} 1\r\nPING\r\n".encode())
        async with asyncio.timeout(10):
            await acknowledgements.ready.wait()
        acknowledgements.check()
        return cls(transport, acknowledgements)

    @property
    def outstanding(self) -> int:
        """Published, not acknowledged."""
        return self._sent - self._acknowledgements.count

    def write(self, frames: Sequence[bytes]) -> None:
        """Publishes ``frames`` at once."""
        self._sent += len(frames)
        self._transport.write(b"".join(frames))

    async def publish(self, frames: Sequence[bytes], window: int = WINDOW, window_bytes: int = WINDOW_BYTES) -> None:
        """Publishes as fast as acknowledgements come; returns when all have come."""
        largest = max(map(len, frames), default=1)
        window = max(1, min(window, window_bytes // largest))
        position = 0
        while position < len(frames):
            room = window - self.outstanding
            if room < min(window // 2, len(frames) - position):
                await self._acknowledgements.more(60)
                continue
            self.write(frames[position : position + room])
            position += room
        await self.acknowledged()

    async def publish_on_time(self, frames: Sequence[bytes], at: Sequence[float]) -> float:
        """Publishes each frame when it is due (``time.perf_counter``), whatever is acknowledged; returns how late the latest was."""
        position, latest = 0, 0.0
        while position < len(frames):
            now = time.perf_counter()
            first = position
            while position < len(frames) and at[position] <= now:
                position += 1
            if position > first:
                latest = max(latest, now - at[first])
                self.write(frames[first:position])
                self._acknowledgements.check()
            else:
                await asyncio.sleep(at[position] - now)
        return latest

    async def acknowledged(self, patience_s: float = 60) -> None:
        """Waits until everything published is acknowledged."""
        self._acknowledgements.check()
        while self.outstanding > 0:
            await self._acknowledgements.more(patience_s)

    async def close(self) -> None:
        """Ends the connection."""
        self._transport.close()
