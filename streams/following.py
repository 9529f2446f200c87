"""Following a bucket for as long as a process lives, whatever becomes of the connection."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import nats.errors
import structlog
from nats.aio.client import Client
from pydantic import BaseModel

from service.instruments import LOOP_ERRORS
from streams.kv import BucketMissingError, TypedBucket

log = structlog.get_logger(__name__)

Value = TypeVar("Value", bound=BaseModel)


async def follow(
    client: Client,
    bucket: str,
    model: type[Value],
    read: Callable[[TypedBucket[Value]], Awaitable[None]],
    tell: Callable[[str, Value | None], object],
    *,
    keys: str = ">",
    name: str,
    again_s: float,
) -> None:
    """Until cancelled: ``read`` each time following begins, then ``tell`` for each key whose value is another, None where it is gone.

    While NATS is away what was known stands; it is asked again every ``again_s`` seconds. ``name`` stands in the count of failures.
    """
    while True:
        try:
            opened = await TypedBucket.open(client, bucket, model)
            await read(opened)
            async for entry in opened.watch(keys):
                tell(entry.key, entry.value)
        except (BucketMissingError, nats.errors.Error, TimeoutError, OSError) as error:
            log.warning("bucket.unreachable", bucket=bucket, error=str(error))
        except Exception:
            LOOP_ERRORS.labels(f"{name}-watch").inc()
            log.exception("bucket.watch_failed", bucket=bucket)
        await asyncio.sleep(again_s)
