"""The manager's subscriptions, on a FastStream broker."""

import asyncio
from contextlib import suppress
from typing import Any, Final

import nats.errors
import nats.js.errors
import structlog
from faststream import AckPolicy
from faststream.nats import JStream, NatsBroker
from faststream.nats.annotations import NatsMessage
from nats.aio.client import Client
from nats.js.api import ConsumerConfig

from agent_manager.commands.bridge import Bridge
from agent_manager.commands.desk import ACK_WAIT_S, Desk
from streams import subjects, topology

log = structlog.get_logger(__name__)

DURABLE: Final = "manager"
MOST_HELD: Final = 1000
"""Commands taken from the stream and not yet dealt with; the rest waits there."""
_LOOK_S: Final = 5.0
BRIDGE_AT_ONCE: Final = 32
"""Requests on the bridge answered at a time; the rest waits in the client."""


async def _as_is(message: Any) -> bytes:
    """Bodies are judged by us, so that a bad one gets an answer with its fields."""
    body: bytes = message.body
    return body


def attach(broker: NatsBroker, desk: Desk, bridge: Bridge) -> None:
    """Subscribes the desk to the command stream and the bridge to its two topics."""

    @broker.subscriber(
        subjects.ALL_COMMANDS,
        # A delivery group of one names the durable consumer too; deliveries come one by one, in order.
        queue=DURABLE,
        stream=JStream(topology.COMMANDS, declare=False),
        config=ConsumerConfig(ack_wait=ACK_WAIT_S, max_ack_pending=MOST_HELD, max_deliver=-1),
        ack_policy=AckPolicy.MANUAL,
        decoder=_as_is,
        title="Commands",
        description="Durable commands, one at a time per agent, answered on agent.manager.response.<command_id>.",
    )
    async def commands(body: bytes, message: NatsMessage) -> None:
        raw = message.raw_message
        await desk.received(body, raw.subject, raw.metadata.sequence.stream, message)

    @broker.subscriber(
        subjects.MANAGER_COMMAND,
        queue=DURABLE,
        max_workers=BRIDGE_AT_ONCE,
        decoder=_as_is,
        title="ManagerCommand",
        description="Commands by request and reply, for trusted callers; carried out on the durable path.",
    )
    async def bridge_command(body: bytes) -> bytes:
        return await bridge.command(body)

    @broker.subscriber(
        subjects.MANAGER_QUERY,
        queue=DURABLE,
        decoder=_as_is,
        title="ManagerQuery",
        description="Questions about agents, by request and reply.",
    )
    async def bridge_query(body: bytes) -> bytes:
        return bridge.query(body)


async def begin(client: Client, broker: NatsBroker) -> None:
    """Takes commands from now on. The consumer is made anew: what an earlier manager left comes at once and in order."""
    with suppress(nats.js.errors.NotFoundError):
        await client.jsm().delete_consumer(topology.COMMANDS, DURABLE)
    await broker.start()


async def keep(client: Client) -> None:
    """For ever makes sure that the consumer is there: without it commands would wait unheard, and nothing would say so."""
    config: ConsumerConfig | None = None
    while True:
        try:
            config = (await client.jsm().consumer_info(topology.COMMANDS, DURABLE)).config
        except nats.js.errors.NotFoundError:
            if config is not None:
                log.warning("commands.consumer_gone", consumer=DURABLE)
                with suppress(nats.errors.Error, TimeoutError):
                    # The same delivery subject: the subscription goes on as if nothing had happened.
                    await client.jsm().add_consumer(topology.COMMANDS, config)
        except (nats.errors.Error, TimeoutError, OSError) as error:
            log.debug("commands.consumer_unseen", error=repr(error))
        await asyncio.sleep(_LOOK_S)
