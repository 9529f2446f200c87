"""Hearing agents that announce themselves, and keeping what was heard in the bucket ``sightings``."""

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

import nats.errors
import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg

from agent_manager.discovery import announcements
from agent_manager.registry.register import Register
from agent_manager.waiting import Opened
from schemas.versions import Sighting
from service.instruments import LOOP_ERRORS
from streams import subjects
from streams.kv import agent_key

log = structlog.get_logger(__name__)

MOST: Final = 5_000
"""Agents remembered; what announces itself beyond it is counted in the log and left aside."""
_AGAIN: Final = timedelta(seconds=10)
"""A sighting that says nothing new is written this often."""
_WRITE_S: Final = 0.5


class Sightings:
    """Listens to heartbeats, asks now and then who is there, and writes what changed. Nothing it hears changes the registry."""

    def __init__(
        self,
        client: Client,
        bucket: Opened[Sighting],
        register: Register,
        tenant: str,
        interval_s: float,
        clock: Callable[[], datetime],
    ) -> None:
        self._client = client
        self._bucket = bucket.bucket
        self._register = register
        self._tenant = tenant
        self._interval_s = interval_s
        self._clock = clock
        self._known = dict(bucket.present)
        self._written = {key: sighting.last_seen for key, sighting in self._known.items()}
        self._changed: set[str] = set()
        self._beyond = 0

    async def run(self) -> None:
        """For ever."""
        inbox = self._client.new_inbox()
        beats = await self._client.subscribe(subjects.ANNOUNCED, cb=self._beat)
        answers = await self._client.subscribe(inbox, cb=self._answer)
        asking = asyncio.create_task(self._ask(inbox), name="sightings-ask")
        try:
            while True:
                await asyncio.sleep(_WRITE_S)
                await self._write()
        finally:
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
            for subscription in (beats, answers):
                if not self._client.is_closed:
                    await subscription.unsubscribe()

    async def _ask(self, inbox: str) -> None:
        while True:
            try:
                await self._client.publish(subjects.ANNOUNCED_SERVICE, b"", reply=inbox)
            except (nats.errors.Error, OSError) as error:
                LOOP_ERRORS.labels("sightings").inc()
                log.debug("sightings.not_asked", error=repr(error))
            await asyncio.sleep(self._interval_s)

    async def _beat(self, message: Msg) -> None:
        self._saw(announcements.heartbeat(message.data, tenant=self._tenant, now=self._clock()))

    async def _answer(self, message: Msg) -> None:
        self._saw(announcements.service(message.data, tenant=self._tenant, now=self._clock()))

    def _saw(self, seen: Sighting | None) -> None:
        if seen is None:
            return
        key = agent_key(seen.tenant_id, seen.agent_id)
        before = self._known.get(key)
        if before is None and len(self._known) >= MOST:
            self._beyond += 1
            if self._beyond == 1:
                log.warning("sightings.full", most=MOST)
            return
        after = announcements.merged(before, seen)
        self._known[key] = after
        written = self._written.get(key)
        if before is None or written is None or _said(before) != _said(after) or after.last_seen - written >= _AGAIN:
            self._changed.add(key)

    async def _write(self) -> None:
        changed, self._changed = self._changed, set()
        # One that is registered here by the same id is managed: its sidecar tells more than its announcement.
        wanted = {key: self._known[key] for key in changed if self._register.record(key) is None}
        if not wanted:
            return
        failed = await self._bucket.put_all(wanted)
        self._changed |= failed.keys()
        now = self._clock()
        self._written |= {key: sighting.last_seen for key, sighting in wanted.items() if key not in failed}
        horizon = now - timedelta(days=1)
        for key in [key for key, sighting in self._known.items() if sighting.last_seen < horizon]:
            self._known.pop(key)
            self._written.pop(key, None)


def _said(sighting: Sighting) -> tuple[object, ...]:
    return sighting.instance_id, sighting.version, sighting.description, sighting.interval_s
