"""Taking what is covered out of TELEMETRY: about once a second, never past what the stored records say."""

import asyncio
from dataclasses import dataclass
from datetime import datetime
from typing import Final

import nats.errors
import nats.js.errors
import structlog
from nats.aio.client import Client
from nats.js.api import StreamInfo

from service.instruments import LOOP_ERRORS
from streams import progress, topology

log = structlog.get_logger(__name__)

_EVERY_S: Final = 1.0
_CROWDED_EVERY_S: Final = 0.1
_CROWDED: Final = 0.5
"""Past this share of its limit the stream is purged more often: publishers must not be refused for what is covered already."""
_LAST_S: Final = 2.0


@dataclass(frozen=True, slots=True)
class Purge:
    """Everything up to ``up_to`` may go."""

    up_to: int


@dataclass(frozen=True, slots=True)
class Keep:
    """Nothing may go."""

    reason: str


@dataclass(frozen=True, slots=True)
class MadeAnew:
    """Another stream than the one that was covered: nothing in it may go."""

    reason: str


def decide(
    first: int, last: int, created: datetime | None, expected: datetime | None, covered: list[int]
) -> Purge | Keep | MadeAnew:
    """What may go of a stream from ``first`` to ``last``, by how far each partition is covered.

    ``last`` must have been read before the number of partitions: what came later may belong to a partition not asked.
    """
    if expected is not None and created is not None and created != expected:
        return MadeAnew(f"TELEMETRY was made anew at {created:%Y-%m-%dT%H:%M:%SZ} while validate was at work")
    up_to = min(last, *covered)
    return Purge(up_to) if up_to >= max(1, first) else Keep("nothing covered is left")


class Purger:
    """Purges in the background from the first ``covered`` on, until ``finish``. A new one for every TELEMETRY."""

    def __init__(self, client: Client, created: datetime | None) -> None:
        self._client = client
        self._created = created
        self._covered = self._done = 0
        self._every_s = _EVERY_S
        self._something = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self.made_anew: str | None = None
        """Why this TELEMETRY must be left alone, once that is known."""

    def covered(self, position: int) -> None:
        """A batch up to ``position`` is stored."""
        self._covered = max(self._covered, position)
        self._something.set()
        if self._task is None:
            self._task = asyncio.create_task(self._keep(), name="validate-purge")

    async def finish(self) -> None:
        """Purges what is left, where NATS answers within two seconds; the next instance would do it as well."""
        task, self._task = self._task, None
        if task is None:
            return
        task.cancel()
        await asyncio.wait({task})
        try:
            async with asyncio.timeout(_LAST_S):
                if self._covered > self._done and self._client.is_connected:
                    await self._purge(self._covered)
        except TimeoutError:
            log.warning("telemetry.not_purged", covered=self._covered)

    async def _keep(self) -> None:
        while self.made_anew is None:
            await self._something.wait()
            self._something.clear()
            await self._purge(self._covered)
            if self._covered > self._done:
                self._something.set()
            await asyncio.sleep(self._every_s)

    async def _look(self) -> StreamInfo:
        return await self._client.jsm().stream_info(topology.TELEMETRY)

    async def _purge(self, told: int) -> None:
        try:
            before = await self._look()
            info = await self._look()
            partitions = topology.partitions_of(info.config)
            covered = [await progress.covered(self._client, partition) for partition in range(partitions)]
            answer = decide(before.state.first_seq, before.state.last_seq, info.created, self._created, covered)
            if isinstance(answer, MadeAnew):
                self.made_anew = answer.reason
                log.critical("telemetry.made_anew", reason=answer.reason)
                return
            if isinstance(answer, Purge):
                await self._client.jsm().purge_stream(topology.TELEMETRY, seq=answer.up_to + 1)
                log.debug("telemetry.purged", up_to=answer.up_to)
                self._done = max(self._done, min(told, answer.up_to))
            elif min(covered) >= told:
                self._done = max(self._done, told)
            limit = info.config.max_bytes or 0
            self._every_s = _CROWDED_EVERY_S if 0 < _CROWDED * limit < info.state.bytes else _EVERY_S
        except (nats.errors.Error, nats.js.errors.Error, TimeoutError, OSError) as error:
            LOOP_ERRORS.labels("validate.purge").inc()
            log.warning("telemetry.purge_again", error=repr(error))
