"""The manager's shared values, written behind: the agent's task never waits for NATS longer than it chooses to."""

import asyncio
from typing import Generic, TypeVar

import nats.errors
import structlog
from pydantic import BaseModel

from service.instruments import LOOP_ERRORS
from streams.kv import TypedBucket

log = structlog.get_logger(__name__)

Value = TypeVar("Value", bound=BaseModel)

_RETRY_S = 0.5


class Book(Generic[Value]):
    """One bucket of which the manager is the sole writer: what it says is true at once, and stored as soon as can be.

    Only the newest value of a key waits, so what waits is bounded by the number of agents.
    """

    def __init__(self, name: str, bucket: TypedBucket[Value], present: dict[str, Value]) -> None:
        self.name = name
        self._bucket = bucket
        self._values = dict(present)
        self._removed: set[str] = set()
        self._dirty: dict[str, asyncio.Event] = {}
        self._something = asyncio.Event()

    def get(self, key: str) -> Value | None:
        """The value as the manager means it."""
        return self._values.get(key)

    def known(self) -> tuple[str, ...]:
        """Every key that has a value."""
        return tuple(self._values)

    def put(self, key: str, value: Value) -> None:
        """Sets a value; it is written soon."""
        self._values[key] = value
        self._removed.discard(key)
        self._dirty.setdefault(key, asyncio.Event())
        self._something.set()

    def remove(self, key: str) -> None:
        """Takes a value away; soon it is gone from the bucket, too."""
        if self._values.pop(key, None) is not None:
            self._removed.add(key)
            self._dirty.setdefault(key, asyncio.Event())
            self._something.set()

    async def stored(self, key: str, within_s: float) -> bool:
        """Waits until the value of ``key`` is in NATS, at most ``within_s``; whether it is."""
        waiting = self._dirty.get(key)
        if waiting is None:
            return True
        try:
            async with asyncio.timeout(within_s):
                await waiting.wait()
        except TimeoutError:
            return False
        return True

    async def run(self) -> None:
        """Writes for ever; waits while NATS is away."""
        while True:
            await self._something.wait()
            self._something.clear()
            for key in list(self._dirty):
                await self._write(key)

    async def _write(self, key: str) -> None:
        value = self._values.get(key)
        try:
            if value is not None:
                await self._bucket.put(key, value)
            elif key in self._removed:
                await self._bucket.delete(key)
        except (nats.errors.Error, TimeoutError, OSError) as error:
            LOOP_ERRORS.labels(f"book_{self.name}").inc()
            log.warning("book.write_again", bucket=self.name, key=key, error=repr(error))
            await asyncio.sleep(_RETRY_S)
            self._something.set()
            return
        if self._values.get(key) is value:
            self._removed.discard(key)
            self._dirty.pop(key).set()
        else:
            self._something.set()
