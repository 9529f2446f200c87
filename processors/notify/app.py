"""The notify processor: one durable consumer of ALERTS for each channel."""

import asyncio
import random
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

import nats.errors
import nats.js.errors
import structlog
from faststream import AckPolicy
from faststream.exceptions import NackMessage, RejectMessage
from faststream.nats import JStream, NatsBroker, NatsMessage, PullSub
from nats.aio.client import Client
from nats.js.api import ConsumerConfig, DeliverPolicy
from pydantic import ValidationError

from processors.notify.channels import Channel, LogChannel, WebhookChannel
from processors.notify.delivery import Failed, GiveUp, Outcome, Patience, TryAgain, decide
from processors.notify.settings import NotifySettings
from processors.runner import Processor, ProcessorContext
from processors.standby import OneAtWork, Turn
from schemas.alerts import AlertChange
from service.instruments import LAG_MESSAGES, LOOP_ERRORS, NOTIFICATIONS
from streams import subjects, topology

log = structlog.get_logger(__name__)

_NAME: Final = "notify"
_FIRST_LOOK_BACK: Final = timedelta(minutes=10)
"""A new channel hears what happened within this before it was added, not the history."""
_FORGOTTEN_AFTER_S: Final = 30 * 86_400.0
"""The server removes the consumer of a channel nobody has used for this long."""
_REMEMBERED: Final = 1000
"""Changes a channel is known to have; after a crash the last one may reach it twice, with the same ``Idempotency-Key``."""
_LOG_WAIT_S: Final = 2.0
"""What a killed process had in hand is told again after this; a line in the log takes no time."""
_LOOK_S: Final = 10.0
_ASK_S: Final = 2.0
"""How long one request for the next change waits; also how long a request lost in an outage delays it."""


class Telling:
    """One channel and its subscriber. One change at a time, so that an alert's end never overtakes its beginning."""

    def __init__(self, broker: NatsBroker, channel: Channel, patience: Patience, ack_wait_s: float, turn: Turn) -> None:
        self.channel = channel
        self._patience = patience
        self._turn = turn
        self._delivered: dict[str, None] = {}
        self.durable = f"{_NAME}-{channel.name}"
        config = ConsumerConfig(
            deliver_policy=DeliverPolicy.BY_START_TIME,
            opt_start_time=datetime.now(UTC) - _FIRST_LOOK_BACK,
            ack_wait=ack_wait_s,
            max_ack_pending=1,
            max_deliver=-1,
            inactive_threshold=_FORGOTTEN_AFTER_S,
        )
        self.subscriber = broker.subscriber(
            subjects.ALL_ALERTS,
            durable=self.durable,
            stream=JStream(topology.ALERTS, declare=False),
            pull_sub=PullSub(batch_size=1, timeout=_ASK_S),
            config=config,
            ack_policy=AckPolicy.NACK_ON_ERROR,
            decoder=_read,
            title=self.durable,
            description="Tells each change of an alert to one channel.",
            persistent=False,
        )
        self.subscriber(self._tell)

    async def _tell(self, change: AlertChange, message: NatsMessage) -> None:
        metadata = message.raw_message.metadata
        attempt = metadata.num_delivered
        if change.change_id in self._delivered:
            # Its acknowledgement was lost with the server.
            return
        # Given to a process that hung, it was given to another since: refused here it is not told twice.
        await self._turn.mine()
        outcome: Outcome
        try:
            outcome = await self.channel.deliver(change)
        except Exception as error:
            LOOP_ERRORS.labels(_NAME).inc()
            log.exception("notification.crashed", channel=self.channel.shown, change_id=change.change_id)
            outcome = Failed(f"an error of ours ({type(error).__name__})")
        decision = decide(outcome, attempt, datetime.now(UTC) - metadata.timestamp, self._patience, random.random())
        known = {"channel": self.channel.shown, "alert_id": change.alert_id, "change_id": change.change_id, "attempt": attempt}
        match decision:
            case TryAgain(after, reason):
                self._count("retried")
                log.warning("notification.again", after_s=round(after.total_seconds(), 1), reason=reason, **known)
                # Its own kind of answer: a plain error would be delivered again at once, for ever.
                raise NackMessage(delay=after.total_seconds())
            case GiveUp(reason):
                self._count("given_up")
                log.error("notification.given_up", reason=reason, summary=change.summary, **known)
                raise RejectMessage
            case _:
                if len(self._delivered) >= _REMEMBERED:
                    self._delivered.pop(next(iter(self._delivered)))
                self._delivered[change.change_id] = None
                self._count("delivered")
                log.debug("notification.delivered", **known)

    def _count(self, outcome: str) -> None:
        NOTIFICATIONS.labels(self.channel.name, outcome).inc()


async def _read(message: NatsMessage) -> AlertChange:
    """The change in a message; one that cannot be read is logged and never delivered again."""
    try:
        return AlertChange.model_validate_json(message.body)
    except ValidationError as error:
        LOOP_ERRORS.labels(_NAME).inc()
        subject = message.raw_message.subject
        log.error("notification.unreadable", subject=subject, error=str(error)[:300])
        raise RejectMessage from error


class NotifyProcessor:
    """The subscribers do the work; this starts and stops them, and puts back a consumer that was deleted."""

    name = _NAME

    def __init__(self, context: ProcessorContext, tellings: Sequence[Telling]) -> None:
        self._context = context
        self._tellings = tellings
        self._client: Client | None = None
        self._stopping = asyncio.Event()
        self._missing: dict[str, str] = {telling.channel.shown: "not started" for telling in tellings}

    async def start(self) -> None:
        """Connects, and lets the subscribers begin."""
        self._stopping.clear()
        self._client = await self._context.connect(f"processor-{_NAME}")
        for telling in self._tellings:
            if not telling.subscriber.running:
                await telling.subscriber.start()
        self._missing.clear()
        log.info("notify.started", channels=[telling.channel.shown for telling in self._tellings])

    async def run(self) -> None:
        """Looks after the consumers until stopped."""
        while not self._stopping.is_set():
            try:
                await self._look()
            except (nats.errors.Error, TimeoutError, OSError) as error:
                log.debug("notify.look_failed", error=repr(error))
            try:
                async with asyncio.timeout(_LOOK_S):
                    await self._stopping.wait()
            except TimeoutError:
                continue

    async def stop(self) -> None:
        """Stops pulling; what is under way and not acknowledged is delivered again next time."""
        self._stopping.set()
        await asyncio.gather(*(telling.subscriber.stop() for telling in self._tellings))
        await asyncio.gather(*(telling.channel.close() for telling in self._tellings))
        client, self._client = self._client, None
        if client is not None:
            await client.close()

    def waiting_for(self) -> dict[str, str]:
        """Channels without a consumer."""
        return dict(self._missing)

    async def _look(self) -> None:
        assert self._client is not None
        behind = 0
        for telling in self._tellings:
            try:
                info = await self._client.jsm().consumer_info(topology.ALERTS, telling.durable)
            except nats.js.errors.NotFoundError:
                self._missing[telling.channel.shown] = "its consumer was deleted"
                log.warning("notify.consumer_missing", channel=telling.channel.shown, consumer=telling.durable)
                await telling.subscriber.stop()
                await telling.subscriber.start()
                continue
            self._missing.pop(telling.channel.shown, None)
            behind += (info.num_pending or 0) + (info.num_ack_pending or 0)
        LAG_MESSAGES.labels(_NAME).set(behind)


def attach(broker: NatsBroker, context: ProcessorContext) -> Processor:
    """The notify processor, one instance at work: the log, and every webhook of the settings. Raises InvalidWebhookError."""
    settings = NotifySettings()
    timeout_s, urls = settings.webhook_timeout_s, settings.webhooks()

    def make(turn: Turn) -> NotifyProcessor:
        channels: list[tuple[Channel, float]] = [(LogChannel(), _LOG_WAIT_S)]
        channels += [(WebhookChannel(url, timeout_s), timeout_s + 2.0) for url in urls]
        tellings = [Telling(broker, channel, settings.patience(), wait_s, turn) for channel, wait_s in channels]
        return NotifyProcessor(context, tellings)

    return OneAtWork(_NAME, context, make)
