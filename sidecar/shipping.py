"""From the spool to NATS: in order, each batch kept until its PubAck.

A batch whose PubAck was lost is published again, byte for byte and under the same message id, also by the next sidecar.
"""

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import structlog

from schemas.events import Event
from service.instruments import LOOP_ERRORS, SPOOL_BYTES, SPOOL_DROPPED
from sidecar.frames import Record
from sidecar.messages import Message, message
from sidecar.reports import record
from sidecar.spool import Batch, Full, Spool, Stored
from streams.micro_batches import MAX_BATCH_BYTES, MAX_BATCH_LINES
from streams.publish import NotStoredError, publish
from streams.waiting import Nats

log = structlog.get_logger(__name__)

_ACK_S: Final = 3.0
_FIRST_PAUSE_S: Final = 0.05
_LONGEST_PAUSE_S: Final = 2.0
_AWAY_POLL_S: Final = 0.05
_HEADERS_BYTES: Final = 4096
OWN_SHARE: Final = 0.8
"""Heartbeats and the like fill the spool only so far: the rest is the agent's own events'."""


class Shipper:
    """Takes records in, and brings them to NATS one batch at a time."""

    def __init__(self, spool: Spool, nats: Nats, tenant: str, agent: str, refused: Path) -> None:
        self._spool = spool
        self._nats = nats
        self._tenant = tenant
        self._agent = agent
        self._refused = refused
        self._arrived = asyncio.Event()
        self._emptied = asyncio.Event()

    @property
    def waiting_bytes(self) -> int:
        """Bytes not yet stored by NATS."""
        return self._spool.waiting_bytes

    @property
    def dropped(self) -> dict[str, int]:
        """How many events of each kind were given up since this agent's spool began."""
        return dict(self._spool.drops.by_kind)

    def submit(self, records: Sequence[Record], *, share: float = 1.0) -> Stored | Full:
        """All of ``records`` are on their way, or none is."""
        outcome = self._spool.append(records, share=share)
        if isinstance(outcome, Stored):
            self._emptied.clear()
            self._arrived.set()
            for kind, count in outcome.displaced:
                SPOOL_DROPPED.labels(kind).inc(count)
            SPOOL_BYTES.set(self._spool.waiting_bytes)
        return outcome

    def report(self, event: Event) -> None:
        """An event of the sidecar's own: dropped and counted where there is no room."""
        share = OWN_SHARE if event.kind in {"heartbeat", "metric", "log"} else 1.0
        outcome = self.submit([record(event)], share=share)
        if isinstance(outcome, Full):
            self._spool.drops.add({event.kind: 1})
            SPOOL_DROPPED.labels(event.kind).inc()
            log.error("event.dropped", event_id=str(event.event_id), kind=event.kind, reason=outcome.reason)

    async def run(self) -> None:
        """Ships until cancelled."""
        while True:
            try:
                await self._ship_all()
                await self._arrived.wait()
            except Exception:
                LOOP_ERRORS.labels("shipping").inc()
                log.exception("shipping.failed")
                await asyncio.sleep(1.0)

    async def _ship_all(self) -> None:
        while True:
            self._arrived.clear()
            most = MAX_BATCH_BYTES
            if (client := self._nats.client) is not None:
                most = min(most, client.max_payload - _HEADERS_BYTES)
            batch = self._spool.take(most, MAX_BATCH_LINES)
            if batch is None:
                self._emptied.set()
                return
            if batch.records:
                await self._ship(batch)
            self._spool.remove(batch)
            SPOOL_BYTES.set(self._spool.waiting_bytes)

    async def _ship(self, batch: Batch) -> None:
        out = message(self._tenant, self._agent, batch.records)
        pause = _FIRST_PAUSE_S
        while True:
            client = self._nats.client
            if client is None:
                await asyncio.sleep(_AWAY_POLL_S)
                continue
            if len(out.data) + _HEADERS_BYTES > client.max_payload:
                self._set_aside(out, client.max_payload)
                return
            try:
                await publish(client, out.subject, out.data, message_id=out.message_id, headers=out.headers, timeout_s=_ACK_S)
            except NotStoredError as error:
                log.warning("shipping.again", message_id=out.message_id, records=len(batch.records), error=str(error))
                await asyncio.sleep(pause)
                pause = min(_LONGEST_PAUSE_S, pause * 2)
            else:
                return

    def _set_aside(self, out: Message, most: int) -> None:
        """Kept in a file, because this server will never take it and what is behind it must not wait."""
        with self._refused.open("ab") as kept:
            kept.write(out.data + b"\n")
        SPOOL_DROPPED.labels("too_large").inc()
        log.error(
            "shipping.too_large",
            message_id=out.message_id,
            bytes=len(out.data),
            max_payload=most,
            kept_in=str(self._refused),
        )

    async def flush(self, within_s: float) -> bool:
        """Whether everything was stored within ``within_s``."""
        deadline = time.monotonic() + within_s
        while self._spool.waiting_bytes and (left := deadline - time.monotonic()) > 0:
            try:
                async with asyncio.timeout(left):
                    await self._emptied.wait()
            except TimeoutError:
                break
        return not self._spool.waiting_bytes
