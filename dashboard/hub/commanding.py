"""Sending a command to the manager and waiting for its answer; acknowledging an alert."""

import asyncio
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import nats.errors
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from pydantic import ValidationError

from dashboard.hub.orders import EXPIRES, Order
from schemas.alerts import Acknowledgement
from schemas.commands import CommandResponse
from streams import subjects, topology
from streams.kv import BucketMissingError, TypedBucket
from streams.publish import NotStoredError, RefusedError, publish

log = structlog.get_logger(__name__)

USER: Final = "dashboard"
"""The token of the command's subject: the NATS user may publish only under it."""
MESSAGE_TTL: Final = "Nats-TTL"
PATIENCE_S: Final[dict[str, float]] = {"recover": 180.0, "restart": 90.0}
"""A recovery restarts the agent and waits until it is healthy; the others are done, or expired, sooner."""
_PATIENCE_S: Final = EXPIRES.total_seconds() + 5


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of an order, in words for the person who gave it."""

    ok: bool
    text: str


async def carry_out(client: Client, order: Order, command_id: str, now: datetime) -> Outcome:
    """Publishes the command with its PubAck and waits for the response. Never raises for what NATS or the manager do."""
    command = order.message(command_id, now)
    patience_s = PATIENCE_S.get(order.command, _PATIENCE_S)
    answered: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def take(message: Msg) -> None:
        if not answered.done():
            answered.set_result(message.data)

    try:
        waiting = await client.subscribe(subjects.command_response(command_id), cb=take)
    except (nats.errors.Error, OSError) as error:
        log.warning("command.not_sent", agent_id=order.agent_id, command=order.command, error=repr(error))
        return Outcome(ok=False, text="not sent: NATS is away")
    try:
        await publish(
            client,
            subjects.command(order.tenant, USER, order.agent_id),
            command.model_dump_json(exclude_none=True).encode(),
            message_id=command_id,
            headers={MESSAGE_TTL: f"{EXPIRES.total_seconds():.0f}s"},
        )
        log.info("command.sent", agent_id=order.agent_id, command=order.command, command_id=command_id)
        async with asyncio.timeout(patience_s):
            response = CommandResponse.model_validate_json(await answered)
    except RefusedError as error:
        return Outcome(ok=False, text=f"refused: {error}")
    except NotStoredError:
        return Outcome(ok=False, text="not confirmed: NATS did not answer; look at the card before trying again")
    except TimeoutError:
        return Outcome(ok=False, text=f"no answer from the agent manager within {patience_s:.0f} s. Is it running?")
    except ValidationError:
        return Outcome(ok=False, text="the agent manager's answer cannot be read")
    finally:
        try:
            await waiting.unsubscribe()
        except (nats.errors.Error, OSError) as error:
            log.debug("command.unsubscribe", error=repr(error))
    log.info("command.answered", agent_id=order.agent_id, command=order.command, command_id=command_id, status=response.status)
    if response.status == "success":
        return Outcome(ok=True, text=order.done)
    return Outcome(ok=False, text=response.error.message if response.error is not None else "failed without a reason")


async def acknowledge(client: Client, alert_id: str, by: str, now: datetime) -> Outcome:
    """Writes the acknowledgement where the alerts processor looks for it."""
    try:
        async with asyncio.timeout(5):
            bucket = await TypedBucket.open(client, topology.ACKNOWLEDGEMENTS, Acknowledgement)
            await bucket.put(alert_id, Acknowledgement(alert_id=alert_id, by=by, at=now))
    except (nats.errors.Error, TimeoutError, OSError, BucketMissingError) as error:
        log.warning("alert.not_acknowledged", alert_id=alert_id, error=repr(error))
        return Outcome(ok=False, text="not acknowledged: NATS did not confirm")
    log.info("alert.acknowledged", alert_id=alert_id, by=by)
    return Outcome(ok=True, text="Alert acknowledged")
