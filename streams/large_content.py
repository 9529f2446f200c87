"""Content too large for an event, in the object store: kept, and fetched by its reference."""

import asyncio
from typing import Final

import nats.errors
import nats.js.errors
from nats.aio.client import Client
from nats.js.object_store import ObjectStore

from streams.topology import CONTENT_STORE

_STORED_S: Final = 5.0
_AT_ONCE: Final = 8


class ContentMissingError(LookupError):
    """There is no such content: it was never kept, or is older than events are kept. Trying again does not help."""


async def _store(client: Client) -> ObjectStore:
    return await client.jetstream().object_store(CONTENT_STORE)


async def keep(client: Client, texts: dict[str, str]) -> dict[str, str]:
    """Stores ``texts`` by their references; returns why for each that is not stored. Twice is as good as once."""
    if not texts:
        return {}
    try:
        async with asyncio.timeout(_STORED_S):
            store = await _store(client)
    except (nats.errors.Error, nats.js.errors.Error, TimeoutError, OSError) as error:
        return dict.fromkeys(texts, repr(error))
    failed: dict[str, str] = {}
    slots = asyncio.Semaphore(_AT_ONCE)

    async def one(reference: str, text: str) -> None:
        async with slots:
            try:
                async with asyncio.timeout(_STORED_S):
                    await store.put(reference, text.encode())
            except (nats.errors.Error, nats.js.errors.Error, TimeoutError, OSError) as error:
                failed[reference] = repr(error)

    await asyncio.gather(*(one(reference, text) for reference, text in texts.items()))
    return failed


async def fetch(client: Client, reference: str) -> str:
    """The text behind a reference; raises ContentMissingError, and what NATS raises."""
    try:
        store = await _store(client)
        found = await store.get(reference)
    except (nats.js.errors.NotFoundError, nats.js.errors.ObjectNotFoundError, nats.js.errors.ObjectDeletedError) as error:
        raise ContentMissingError(reference) from error
    except nats.js.errors.InvalidObjectNameError as error:
        raise ContentMissingError(reference) from error
    return (found.data or b"").decode()
