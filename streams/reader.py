"""Reading a stream in order, without gaps, from a known position.

A pull consumer of our own on the server delivers ahead into a bounded local buffer; whatever has arrived is one
micro-batch, so a light load is read message by message and a heavy one in big batches, and nothing waits to be filled.
Anything doubtful (a delivery missing, the consumer gone, silence, a reconnect) throws buffer and consumer away and
starts again right after the last position handed out, so what is read is always the stream, in order, without holes.
"""

import asyncio
import json
from collections import deque
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import nats.errors
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

from streams.messages import Received, received

log = structlog.get_logger(__name__)

_HEARTBEAT_S = 5.0
_EXPIRES_S = 60.0
_RETRY_S = (0.1, 0.2, 0.5, 1.0, 2.0)
_HEADROOM_BYTES = 64 * 1024
"""Subject and reply subject, which a message's size counts besides its payload."""


@dataclass(frozen=True, slots=True)
class Source:
    """What to read: a stream kept by limits, whose messages stay when they are read."""

    stream: str
    filters: tuple[str, ...] = ()
    buffer_messages: int = 4000
    buffer_bytes: int = 16 * 1024 * 1024
    """At most this much (or one message, where that is more) waits in memory; then the server keeps the rest."""
    headers_only: bool = False
    """Leaves payloads where they are: for whoever counts."""


def _cancellations() -> int:
    """How often the running task has been asked to stop."""
    task = asyncio.current_task()
    return task.cancelling() if task is not None else 0


def _heed(asked_before: int) -> None:
    """Ends the task if it was asked to stop meanwhile: nats-py's publish swallows a cancellation that meets it flushing."""
    if _cancellations() > asked_before:
        raise asyncio.CancelledError


class OrderedReader:
    """Hands out the messages of ``source`` after ``position``, in order, each once while it lives.

    One task reads at a time. ``position`` is the sequence of the last message handed out.
    """

    def __init__(self, client: Client, source: Source, position: int = 0) -> None:
        self._client = client
        self._js = client.jetstream()
        self.source = source
        self.position = position
        self.pending = 0
        """Messages still behind the last one handed out, as the server told."""
        self.resets = 0
        self._consumer: str | None = None
        self._subscription: Subscription | None = None
        self._arrived: deque[Msg] = deque()
        self._something = asyncio.Event()
        self._buffer: list[Received] = []
        self._asked = 0
        self._expected = 1
        self._connects = client.stats["reconnects"]

    async def fetch(self, most: int, wait_s: float) -> list[Received]:
        """Up to ``most`` next messages: what is there now, else the first to come within ``wait_s``, else none.

        Transient trouble with NATS is waited out here, up to ``wait_s`` at a time.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait_s
        attempt = 0
        asked_to_stop = _cancellations()
        while True:
            try:
                await self._ensure()
                arrived = await self._collect(most, max(0.0, deadline - loop.time()), asked_to_stop)
            except (nats.errors.Error, TimeoutError, OSError) as error:
                await self.reset(type(error).__name__)
                _heed(asked_to_stop)
                pause = _RETRY_S[min(attempt, len(_RETRY_S) - 1)]
                attempt += 1
                if loop.time() + pause >= deadline:
                    await asyncio.sleep(max(0.0, min(pause, deadline - loop.time())))
                    return []
                await asyncio.sleep(pause)
                continue
            if arrived:
                self.position = arrived[-1].sequence
                self.pending = arrived[-1].pending
                return arrived
            if loop.time() >= deadline:
                return []

    async def reset(self, reason: str, position: int | None = None) -> None:
        """Forgets buffer and consumer; reading goes on after ``position`` (default: where it stood)."""
        if position is not None:
            self.position = position
        if self._subscription is None and self._consumer is None:
            return
        self.resets += 1
        log.info("reader.reset", stream=self.source.stream, after=self.position, reason=reason)
        await self.close()

    @property
    def begun(self) -> bool:
        """Whether the server has said what there is to read."""
        return self._subscription is not None

    @property
    def caught_up(self) -> bool:
        """Whether everything the server knew of when it last told has been handed out; False while not connected to it."""
        return self._subscription is not None and self.pending == 0 and not self._buffer and not self._arrived

    async def close(self) -> None:
        """Gives the buffer up and stops delivery."""
        subscription, self._subscription = self._subscription, None
        self._consumer = None
        self._buffer.clear()
        self._arrived = deque()
        self._asked = 0
        self._expected = 1
        if subscription is not None and not self._client.is_closed:
            try:
                await subscription.unsubscribe()
            except nats.errors.Error as error:
                log.debug("reader.unsubscribe", error=repr(error))

    async def _ensure(self) -> None:
        if self._connects != self._client.stats["reconnects"]:
            self._connects = self._client.stats["reconnects"]
            await self.reset("reconnected")
        if not self._client.is_connected:
            raise nats.errors.ConnectionReconnectingError
        if self._subscription is not None:
            return
        config = self._consumer_config()
        async with asyncio.timeout(5):
            info = await self._js.add_consumer(self.source.stream, config)
            self._consumer = info.name
            self.pending = info.num_pending or 0
            arrived, something = self._arrived, self._something

            async def put(message: Msg) -> None:
                arrived.append(message)
                something.set()

            self._subscription = await self._client.subscribe(
                self._client.new_inbox(), cb=put, pending_msgs_limit=-1, pending_bytes_limit=-1
            )

    def _consumer_config(self) -> ConsumerConfig:
        filters: dict[str, Any] = {"filter_subjects": list(self.source.filters)} if self.source.filters else {}
        if self.source.headers_only:
            filters["headers_only"] = True
        return ConsumerConfig(
            deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
            opt_start_seq=self.position + 1,
            ack_policy=AckPolicy.NONE,
            inactive_threshold=120.0,
            mem_storage=True,
            num_replicas=1,
            **filters,
        )

    async def _ask(self) -> None:
        """Asks for more once the last request is served and half of the buffer is free."""
        if self._asked > 0 or len(self._buffer) > self.source.buffer_messages // 2:
            return
        self._asked = self.source.buffer_messages // 2
        request = {
            "batch": self._asked,
            # Less than one whole message would be refused at once, for ever.
            "max_bytes": max(self.source.buffer_bytes, (self._client.max_payload or 0) + _HEADROOM_BYTES),
            "expires": int(_EXPIRES_S * 1e9),
            "idle_heartbeat": int(_HEARTBEAT_S * 1e9),
        }
        assert self._subscription is not None
        subject = f"$JS.API.CONSUMER.MSG.NEXT.{self.source.stream}.{self._consumer}"
        await self._client.publish(subject, json.dumps(request).encode(), reply=self._subscription.subject)

    async def _collect(self, most: int, wait_s: float, asked_to_stop: int) -> list[Received]:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait_s
        silence = loop.time() + 2 * _HEARTBEAT_S + 1
        while True:
            self._something.clear()
            while self._arrived:
                silence = loop.time() + 2 * _HEARTBEAT_S + 1
                if not await self._take(self._arrived.popleft()):
                    return []
            # After what has arrived: it may say that the server has ended the last request.
            await self._ask()
            _heed(asked_to_stop)
            if self._buffer:
                taken, self._buffer = self._buffer[:most], self._buffer[most:]
                try:
                    await self._ask()
                    _heed(asked_to_stop)
                except BaseException:
                    self._buffer = taken + self._buffer
                    raise
                return taken
            now = loop.time()
            if now >= silence:
                raise TimeoutError
            if now >= deadline or self._connects != self._client.stats["reconnects"]:
                return []
            try:
                # Short enough to notice a reconnect, long enough to cost nothing.
                async with asyncio.timeout(min(deadline, silence, now + 1.0) - now):
                    await self._something.wait()
            except TimeoutError:
                continue

    async def _take(self, message: Msg) -> bool:
        """Buffers a delivery; False when it showed that deliveries were lost, and all was reset."""
        status = (message.headers or {}).get("Status")
        if status is not None and not message.reply.startswith("$JS.ACK"):
            return await self._told(status, message)
        got = received(message)
        self._asked -= 1
        if got.delivery != self._expected:
            await self.reset(f"delivery {got.delivery} instead of {self._expected}")
            return False
        self._expected += 1
        if got.sequence > (self._buffer[-1].sequence if self._buffer else self.position):
            self._buffer.append(got)
        return True

    async def _told(self, status: str, message: Msg) -> bool:
        if status == "100":
            if message.reply:
                await self._client.publish(message.reply, b"")
            told = (message.headers or {}).get("Nats-Last-Consumer", "")
            if told.isdigit() and int(told) >= self._expected:
                await self.reset(f"delivery {self._expected} did not arrive, {told} was sent")
                return False
            return True
        if status in {"404", "408"}:
            self._asked = 0
            return True
        description = (message.headers or {}).get("Description", "")
        if "batch completed" in description.lower():
            # Counting its messages has told so already; a newer request may be under way.
            return True
        if status == "409" and "max" in description.lower():
            # The request's byte limit was reached: ask again.
            self._asked = 0
            return True
        await self.reset(f"{status} {description}")
        return False


async def position_at(client: Client, stream: str, moment: datetime) -> int:
    """The position from which a reader sees what ``stream`` stored at ``moment`` and later, and nothing before."""
    config = ConsumerConfig(
        deliver_policy=DeliverPolicy.BY_START_TIME,
        opt_start_time=moment,
        ack_policy=AckPolicy.NONE,
        inactive_threshold=5.0,
        mem_storage=True,
        num_replicas=1,
    )
    info = await client.jetstream().add_consumer(stream, config)
    await client.jsm().delete_consumer(stream, info.name)
    return info.delivered.stream_seq if info.delivered else 0
