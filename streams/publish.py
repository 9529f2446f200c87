"""Publishing with an acknowledgement: who has no PubAck still has the event."""

import asyncio
from collections.abc import Mapping

import nats.errors
import nats.js.errors
import structlog
from nats.aio.client import Client
from nats.js.api import PubAck

from schemas.events import Event
from streams import subjects
from streams.messages import CONTENT_TYPE, JSON, MESSAGE_ID

log = structlog.get_logger(__name__)


class NotStoredError(Exception):
    """JetStream did not confirm. It may or may not be stored: publish the same id again."""


class RefusedError(NotStoredError):
    """JetStream said no (full, or not allowed). Trying again helps once there is room."""


async def publish(
    client: Client,
    subject: str,
    data: bytes,
    *,
    message_id: str | None = None,
    headers: Mapping[str, str] | None = None,
    timeout_s: float = 5.0,
) -> int:
    """Publishes and waits for the PubAck; returns the sequence. Raises RefusedError or NotStoredError."""
    ack = await acknowledged(client, subject, data, message_id=message_id, headers=headers, timeout_s=timeout_s)
    return ack.seq


async def acknowledged(
    client: Client,
    subject: str,
    data: bytes,
    *,
    message_id: str | None = None,
    headers: Mapping[str, str] | None = None,
    timeout_s: float = 5.0,
) -> PubAck:
    """As ``publish``, with the whole PubAck: it also tells whether the message was there already."""
    sent = dict(headers or {})
    if message_id is not None:
        sent[MESSAGE_ID] = message_id
    try:
        return await client.jetstream().publish(subject, data, timeout=timeout_s, headers=sent or None)
    except nats.js.errors.APIError as error:
        raise RefusedError(f"{subject}: {error.description}") from error
    except (nats.errors.Error, TimeoutError, OSError) as error:
        raise NotStoredError(f"{subject}: {error!r}") from error


async def publish_event(client: Client, event: Event, *, timeout_s: float = 5.0) -> int:
    """Publishes an event of our own like everybody's, on ``telemetry.``, named by its id."""
    subject = subjects.telemetry(event.tenant.tenant_id, event.run.agent_id, event.kind)
    data = event.model_dump_json(exclude_none=True, exclude_defaults=False).encode()
    return await publish(client, subject, data, message_id=str(event.event_id), headers={CONTENT_TYPE: JSON}, timeout_s=timeout_s)


async def publish_until_stored(
    client: Client, subject: str, data: bytes, *, message_id: str, headers: Mapping[str, str] | None = None
) -> int:
    """Publishes the same message again, with growing pauses, until it is stored; only cancelling ends it sooner."""
    pause = 0.1
    while True:
        try:
            return await publish(client, subject, data, message_id=message_id, headers=headers)
        except NotStoredError as error:
            log.warning("publish.again", subject=subject, message_id=message_id, error=str(error))
            await asyncio.sleep(pause)
            pause = min(5.0, pause * 2)
