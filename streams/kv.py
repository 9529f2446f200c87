"""Key-value buckets whose values are models: read, written, watched with their types."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

import nats.errors
import nats.js.errors
import structlog
from nats.aio.client import Client
from nats.js.api import PubAck
from nats.js.kv import KeyValue
from pydantic import BaseModel, ValidationError

from streams.messages import Received
from streams.reader import OrderedReader, Source

log = structlog.get_logger(__name__)

Value = TypeVar("Value", bound=BaseModel)

_PUT_S = 5.0
_LONGEST_PATIENCE_S = 10.0


class BucketMissingError(LookupError):
    """The bucket does not exist: the topology was not applied (``agentops streams apply``)."""


class ChangedMeanwhileError(Exception):
    """Another writer was faster. Read again, decide again, then trying again helps."""


@dataclass(frozen=True, slots=True)
class Entry(Generic[Value]):
    """A value with the revision it was read at. ``value`` is None for a deletion."""

    key: str
    value: Value | None
    revision: int


class TypedBucket(Generic[Value]):
    """One bucket holding ``model`` values. A value that cannot be read is logged and left aside, never fatal."""

    def __init__(self, client: Client, bucket: str, store: KeyValue, model: type[Value]) -> None:
        self._client = client
        self._bucket = bucket
        self._store = store
        self._model = model
        self._js = client.jetstream()

    @classmethod
    async def open(cls, client: Client, bucket: str, model: type[Value]) -> "TypedBucket[Value]":
        """The bucket ``bucket``; raises BucketMissingError when the topology lacks it."""
        try:
            return cls(client, bucket, await client.jetstream().key_value(bucket), model)
        except nats.js.errors.NotFoundError as error:
            msg = f"bucket {bucket!r} does not exist; run `agentops streams apply`"
            raise BucketMissingError(msg) from error

    def _read(self, key: str, raw: bytes | None) -> Value | None:
        if not raw:
            return None
        try:
            return self._model.model_validate_json(raw)
        except ValidationError as error:
            log.error("bucket.unreadable", key=key, model=self._model.__name__, problems=error.error_count())
            return None

    async def get(self, key: str) -> Entry[Value] | None:
        """The present value, or None."""
        try:
            entry = await self._store.get(key)
        except (nats.js.errors.KeyNotFoundError, nats.js.errors.KeyDeletedError):
            return None
        value = self._read(key, entry.value)
        return None if value is None else Entry(key, value, entry.revision or 0)

    async def revision(self, key: str) -> int:
        """Of the present value, readable or not; 0 where there is none."""
        try:
            return (await self._store.get(key)).revision or 0
        except (nats.js.errors.KeyNotFoundError, nats.js.errors.KeyDeletedError):
            return 0

    async def put(self, key: str, value: Value) -> int:
        """Writes whatever stood there before; returns the new revision."""
        return await self._store.put(key, value.model_dump_json(exclude_none=True).encode())

    async def put_all(self, values: Mapping[str, Value]) -> dict[str, Exception]:
        """Writes several as ``put`` does, under way together; returns why for each key that is not known to be written.

        An acknowledgement is waited for by each, a reply by none: a fifth of what ``put`` costs. What the server would not take
        (MaxPayloadError) is not sent, and nothing is while NATS is away: sent later it would stand over what is newer by then.
        """
        under_way: dict[str, asyncio.Future[PubAck]] = {}
        failed: dict[str, Exception] = {}
        for key, value in values.items():
            data = value.model_dump_json(exclude_none=True).encode()
            # Looked at here: nats-py would keep a place among those under way for ever for each that it refuses.
            if not self._client.is_connected:
                failed[key] = nats.errors.ConnectionReconnectingError()
                continue
            if len(data) > self._client.max_payload > 0:
                failed[key] = nats.errors.MaxPayloadError()
                continue
            try:
                under_way[key] = await self._js.publish_async(f"$KV.{self._bucket}.{key}", data, wait_stall=_PUT_S)
            except (nats.errors.Error, TimeoutError, OSError) as error:
                failed[key] = error
        if under_way:
            await asyncio.wait(under_way.values(), timeout=_PUT_S)
        for key, future in under_way.items():
            if not future.done():
                future.cancel()
                failed[key] = TimeoutError(f"no acknowledgement within {_PUT_S:g} s")
            elif isinstance(refused := future.exception(), Exception):
                failed[key] = refused
        return failed

    async def update(self, key: str, value: Value, revision: int) -> int:
        """Writes only if the value is still at ``revision`` (0: absent); raises ChangedMeanwhileError."""
        data = value.model_dump_json(exclude_none=True).encode()
        try:
            return await (self._store.update(key, data, revision) if revision else self._store.create(key, data))
        except nats.js.errors.KeyWrongLastSequenceError as error:
            raise ChangedMeanwhileError(key) from error

    async def delete(self, key: str, revision: int | None = None) -> None:
        """Removes a value; its history stays. With ``revision`` only if it is still at that; raises ChangedMeanwhileError."""
        try:
            await self._store.delete(key, revision)
        except nats.js.errors.BadRequestError as error:
            raise ChangedMeanwhileError(key) from error

    async def all(self) -> dict[str, Value]:
        """Every present value by key."""
        found: dict[str, Value] = {}
        async for entry in self.watch(once=True):
            if entry.value is not None:
                found[entry.key] = entry.value
        return found

    async def keys(self) -> set[str]:
        """The keys of every present value, readable or not."""
        try:
            return set(await self._store.keys())
        except nats.js.errors.NoKeysError:
            return set()

    async def history(self, key: str) -> list[Entry[Value]]:
        """Every kept revision of ``key``, oldest first."""
        try:
            entries = await self._store.history(key)
        except nats.js.errors.NoKeysError:
            return []
        return [Entry(key, self._read(key, entry.value), entry.revision or 0) for entry in entries]

    async def watch(self, keys: str = ">", *, once: bool = False) -> AsyncIterator[Entry[Value]]:
        """Present values, then every change, for ever; with ``once`` only the present values.

        Reads the bucket's stream in order (see ``streams.reader``): after a reconnect it goes on behind the last
        change it saw, within a second or two.
        """
        prefix = f"$KV.{self._bucket}."
        reader = OrderedReader(self._client, Source(f"KV_{self._bucket}", (f"{prefix}{keys}",), buffer_messages=2000))
        try:
            # History keeps older revisions of a key: only the newest is present.
            newest: dict[str, Received] = {}
            begun, patience_s = False, 1.0
            while not begun or reader.pending:
                arrived = await reader.fetch(2000, patience_s if begun else 0.05)
                if begun and not arrived:
                    # What was still to come has been removed meanwhile, or NATS is slow or away: the server says which.
                    await reader.reset("asks again what there is")
                    patience_s = min(_LONGEST_PATIENCE_S, 2 * patience_s)
                newest |= {message.subject: message for message in arrived}
                begun = reader.begun
            for message in sorted(newest.values(), key=lambda each: each.sequence):
                entry = self._entry(prefix, message)
                if entry is not None and entry.value is not None:
                    yield entry
            while not once:
                for message in await reader.fetch(2000, 60.0):
                    entry = self._entry(prefix, message)
                    if entry is not None:
                        yield entry
        finally:
            await reader.close()

    def _entry(self, prefix: str, message: Received) -> Entry[Value] | None:
        """The change in ``message``; None where it cannot be read: that is no deletion, what was known stands."""
        key = message.subject.removeprefix(prefix)
        if not message.data or message.headers.get("KV-Operation") in {"DEL", "PURGE"}:
            return Entry(key, None, message.sequence)
        value = self._read(key, message.data)
        return None if value is None else Entry(key, value, message.sequence)


def agent_key(tenant: str, agent: str) -> str:
    """``<tenant>.<agent_id>``."""
    return f"{tenant}.{agent}"
