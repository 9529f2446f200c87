"""Callers of a streaming chat API: as fast as they can, or so many a second."""

import asyncio
import json
import time
from collections import deque
from dataclasses import dataclass
from typing import Final, cast
from urllib.parse import urlsplit

BODY: Final = json.dumps(
    {"model": "gpt-4o-mini", "stream": True, "messages": [{"role": "system", "content": "Be brief. " * 20}, {"role": "user", "content": "Hello, how are you?"}]}
).encode()  # fmt: skip
KEY: Final = "sk-bench"
_PATIENCE_S: Final = 30.0


class FailedError(RuntimeError):
    """An answer was none. The message says what came."""


class Caller(asyncio.Protocol):
    """One kept connection; one call at a time."""

    def __init__(self, path: str, host: str) -> None:
        head = f"POST {path} HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {KEY}\r\nContent-Type: application/json\r\n"
        self._request = f"{head}Content-Length: {len(BODY)}\r\n\r\n".encode() + BODY
        self._transport: asyncio.Transport | None = None
        self._answered: asyncio.Future[tuple[float, float]] | None = None
        self._asked_at = 0.0
        self._first_at = 0.0
        self._seen = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Connected."""
        self._transport = cast("asyncio.Transport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Whoever still waits is told."""
        if self._answered is not None and not self._answered.done():
            self._answered.set_exception(FailedError(f"the connection was lost ({exc})"))

    def data_received(self, data: bytes) -> None:
        """Part of an answer."""
        if not self._first_at:
            self._seen += data
            if b"data: " not in self._seen:
                return
            self._first_at = time.perf_counter()
            if not self._seen.startswith(b"HTTP/1.1 200"):
                self._done(FailedError(self._seen[:200].decode("utf-8", "replace")))
                return
        self._seen = self._seen[-16:] + data
        if self._seen.endswith(b"0\r\n\r\n") and self._answered is not None and not self._answered.done():
            self._answered.set_result((self._first_at - self._asked_at, time.perf_counter() - self._asked_at))

    def _done(self, error: Exception) -> None:
        if self._answered is not None and not self._answered.done():
            self._answered.set_exception(error)

    async def ask(self) -> tuple[float, float]:
        """Seconds to the first event, and to the last byte."""
        assert self._transport is not None
        self._answered = asyncio.get_running_loop().create_future()
        self._seen, self._first_at, self._asked_at = b"", 0.0, time.perf_counter()
        self._transport.write(self._request)
        async with asyncio.timeout(_PATIENCE_S):
            return await self._answered

    def close(self) -> None:
        """Hangs up."""
        if self._transport is not None:
            self._transport.close()


@dataclass(frozen=True, slots=True)
class Asked:
    """What callers saw."""

    calls: int
    seconds: float
    first_ms: tuple[float, ...]
    """To the first event, sorted."""

    @property
    def per_s(self) -> float:
        """Calls a second."""
        return self.calls / self.seconds

    def at(self, share: float) -> float:
        """A percentile of the time to the first event, in milliseconds."""
        return self.first_ms[min(len(self.first_ms) - 1, int(share * len(self.first_ms)))]


async def _callers(url: str, count: int) -> list[Caller]:
    parts = urlsplit(url)
    loop = asyncio.get_running_loop()
    made = []
    for _ in range(count):
        _, caller = await loop.create_connection(lambda: Caller(parts.path, parts.netloc), parts.hostname or "", parts.port or 80)
        made.append(caller)
    return made


async def at_once(url: str, callers: int, seconds: float) -> Asked:
    """So many callers, each asking again as soon as it is answered."""
    waits: list[float] = []
    until = 0.0

    async def go_on(caller: Caller) -> None:
        while time.perf_counter() < until:
            first, _ = await caller.ask()
            waits.append(first * 1000)

    made = await _callers(url, callers)
    await asyncio.gather(*(caller.ask() for caller in made))
    began = time.perf_counter()
    until = began + seconds
    await asyncio.gather(*map(go_on, made))
    took = time.perf_counter() - began
    for caller in made:
        caller.close()
    return Asked(len(waits), took, tuple(sorted(waits)))


async def at_rate(url: str, rate: float, seconds: float, *, most: int = 100) -> Asked:
    """So many calls a second, whatever comes back; the wait counts from when a call was due."""
    idle = deque(await _callers(url, most))
    waits: list[float] = []
    going: set[asyncio.Task[None]] = set()

    async def one(caller: Caller, due: float) -> None:
        late = time.perf_counter() - due
        first, _ = await caller.ask()
        waits.append((first + max(0.0, late)) * 1000)
        idle.append(caller)

    await asyncio.gather(*(caller.ask() for caller in list(idle)[:20]))
    began = time.perf_counter()
    for number in range(int(rate * seconds)):
        due = began + number / rate
        if (wait := due - time.perf_counter()) > 0:
            await asyncio.sleep(wait)
        while not idle:
            await asyncio.wait(going, return_when=asyncio.FIRST_COMPLETED)
        task = asyncio.create_task(one(idle.popleft(), due))
        going.add(task)
        task.add_done_callback(going.discard)
    await asyncio.gather(*going)
    took = time.perf_counter() - began
    for caller in idle:
        caller.close()
    return Asked(len(waits), took, tuple(sorted(waits)))
