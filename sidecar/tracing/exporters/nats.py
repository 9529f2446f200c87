"""Straight to NATS, each message with its PubAck: for agents without a sidecar that may publish themselves."""

import asyncio
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sidecar.frames import Record
from sidecar.messages import MIXED, message
from sidecar.tracing.events import Made
from sidecar.tracing.exporters.exporter import Again, Delivered, Outcome
from streams.connect import CannotConnectError, connect
from streams.publish import NotStoredError, publish
from streams.settings import NatsSettings

if TYPE_CHECKING:
    from nats.aio.client import Client


class Nats:
    """Publishes on ``telemetry.``, as a sidecar does; ``settings`` are ``NATS_URL`` and so on where none are given.

    The connection lives in an event loop of its own, in a thread of its own, so that the server's pings are answered
    between batches too.
    """

    name = "nats"
    most_bytes = 900_000

    def __init__(self, settings: NatsSettings | None = None, *, timeout_s: float = 5.0) -> None:
        self._settings = settings or NatsSettings()
        self._timeout_s = timeout_s
        self._loop: asyncio.AbstractEventLoop | None = None
        self._client: Client | None = None

    def export(self, batch: Sequence[Made]) -> Outcome:
        try:
            self._run(self._publish(batch))
        except (CannotConnectError, NotStoredError, TimeoutError) as error:
            return Again(f"{self._settings.shown_url()}: {type(error).__name__}: {error}")
        return Delivered()

    async def _publish(self, batch: Sequence[Made]) -> None:
        if self._client is None:
            self._client = await connect(self._settings, "agent-tracer", patience_s=self._timeout_s)
        tenant, agent = batch[0].event["tenant"]["tenant_id"], batch[0].event["run"]["agent_id"]
        records = [
            Record(made.kind if made.event["run"]["agent_id"] == agent else MIXED, made.event_id, made.line) for made in batch
        ]
        sent = message(tenant, agent, records)
        await publish(
            self._client, sent.subject, sent.data, message_id=sent.message_id, headers=sent.headers, timeout_s=self._timeout_s
        )

    def _run(self, work: Any) -> None:
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            threading.Thread(target=_serve, args=(self._loop,), name="agentops-nats-loop", daemon=True).start()
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            future.result(3 * self._timeout_s)
        except TimeoutError:
            future.cancel()
            raise

    def close(self) -> None:
        loop, self._loop = self._loop, None
        client, self._client = self._client, None
        if loop is None:
            return
        try:
            if client is not None:
                asyncio.run_coroutine_threadsafe(client.close(), loop).result(self._timeout_s)
        finally:
            loop.call_soon_threadsafe(loop.stop)

    def forked(self) -> None:
        # The loop's thread and its socket are the parent's.
        self._loop = self._client = None


def _serve(loop: asyncio.AbstractEventLoop) -> None:
    loop.run_forever()
    loop.close()
