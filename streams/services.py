"""What every NATS micro service of ours does alike: it answers, also that it cannot, and ends."""

import asyncio
from collections.abc import Mapping

import nats.errors
import structlog
from nats.aio.client import Client
from nats.micro.request import Request
from nats.micro.service import Service
from pydantic import BaseModel

from schemas.queries import QueryError
from streams.messages import CONTENT_TYPE, FAILED, JSON

log = structlog.get_logger(__name__)


async def respond(request: Request, data: bytes, headers: Mapping[str, str]) -> None:
    """Sends an answer. Whoever asked may be gone by now: nobody else can be told."""
    try:
        await request.respond(data, dict(headers))
    except (nats.errors.Error, ValueError, OSError) as error:
        log.debug("service.reply", subject=request.subject, error=repr(error))


async def reply(request: Request, answer: BaseModel) -> None:
    """Sends ``answer`` as JSON; a QueryError is marked as one."""
    headers = {CONTENT_TYPE: JSON} | ({FAILED: "1"} if isinstance(answer, QueryError) else {})
    await respond(request, answer.model_dump_json(exclude_none=True).encode(), headers)


async def leave(service: Service | None, client: Client) -> None:
    """``service`` answers no more, where it began to and the server can be told."""
    if service is None or not client.is_connected:
        return
    try:
        async with asyncio.timeout(1):
            await service.stop()
    except (nats.errors.Error, TimeoutError, OSError) as error:
        log.debug("service.stop", error=repr(error))
