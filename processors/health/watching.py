"""One life of the health processor: from a restored checkpoint on, read, judge, write, tell."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

import nats.errors
import nats.js.errors
import structlog
from nats.aio.client import Client
from pydantic import ValidationError

from processors.health.attention import Attention, interrupted, look
from processors.health.checkpoints import Checkpoints
from processors.health.closing import PATIENCE_S, Closing, is_record
from processors.health.fleet import Fleet, Placed
from processors.health.judging import Changed
from processors.health.settings import HealthSettings
from processors.health.state import ReadUpTo, observation
from processors.health.telling import status_changed, waves
from processors.standby import Turn
from schemas.events import AcceptedEvent, Event
from schemas.state import Observation
from service.instruments import AGENTS, HEALTH_CHANGES, LAG_MESSAGES, LOOP_ERRORS, READER_RESETS
from streams import progress, subjects, topology
from streams.kv import TypedBucket, agent_key
from streams.messages import CONTENT_TYPE, JSON, Received
from streams.micro_batches import lines
from streams.publish import publish_until_stored
from streams.reader import OrderedReader, Source, position_at

log = structlog.get_logger(__name__)

_NAME: Final = "health"
_FILTERS: Final = (
    subjects.events_of("heartbeat"), subjects.events_of("agent"), subjects.events_of("fault"), subjects.COVERED_VALIDATE,
)  # fmt: skip
_TICK_S: Final = 0.25
_FLUSH_S: Final = 0.1
_MEASURE_S: Final = 1.0
_CONFIRM: Final = timedelta(seconds=0.5)
_BEHIND: Final = timedelta(seconds=1)
_FIRST_LOOK_BACK: Final = timedelta(hours=1)
"""Without a checkpoint: an agent that said nothing for this long is unknown until it speaks."""
_CHECKPOINT_AFTER_CHANGE_S: Final = 1.0
_TOGETHER: Final = 256


def _now() -> datetime:
    return datetime.now(UTC)


class Watching:
    """Reads, judges and writes in turn; nothing is queued, so nothing can overflow but EVENTS itself."""

    def __init__(
        self, client: Client, settings: HealthSettings, observations: TypedBucket[Observation], checkpoints: Checkpoints,
        fleet: Fleet, position: int, turn: Turn,
    ) -> None:  # fmt: skip
        self.listening = False
        """Whether everything stored has been read once."""
        self._client = client
        self._settings = settings
        self._observations = observations
        self._checkpoints = checkpoints
        self._fleet = fleet
        self._turn = turn
        self._reader = OrderedReader(client, Source(topology.EVENTS, _FILTERS), position)
        self._closing = Closing()
        self._attention = Attention(reconnects=client.stats["reconnects"])
        self._suspected: dict[str, datetime] = {}
        self._at_once: set[str] = set()
        self._read_up_to = position
        self._saved_up_to = -1
        self._saved_at = self._flushed_at = asyncio.get_running_loop().time()
        self._changed = False
        self._resets = 0
        self._left_aside = 0
        self._measured_at = self._looked_at = 0.0

    @classmethod
    async def begin(cls, client: Client, settings: HealthSettings, turn: Turn) -> "Watching":
        """Goes on from the last checkpoint; without one, from an hour ago."""
        checkpoints = await Checkpoints.open(client)
        fleet = Fleet(settings.limits(), settings.max_agents)
        saved, agents = await checkpoints.load()
        last = (await client.jsm().stream_info(topology.EVENTS)).state.last_seq
        if saved is None:
            position = await position_at(client, topology.EVENTS, _now() - _FIRST_LOOK_BACK)
        elif saved.sequence <= last:
            position = saved.sequence
            fleet.restore(agents)
        else:
            # EVENTS was made anew: positions mean nothing any more, what is known of the agents still does.
            position = 0
            fleet.restore(agent.model_copy(update={"applied": 0}) for agent in agents)
            log.warning("health.stream_replaced", saved=saved.sequence, last=last)
        log.info("health.restored", agents=len(fleet.agents), position=position)
        observations = await TypedBucket.open(client, topology.OBSERVATIONS, Observation)
        return cls(client, settings, observations, checkpoints, fleet, position, turn)

    async def close(self) -> None:
        """Writes what is not written yet and stops reading."""
        await self._write(len(self._fleet.agents))
        await self._checkpoint()
        await self._reader.close()

    async def step(self) -> None:
        """Reads what there is, waiting a quarter of a second at most, and does all that follows from it."""
        wait_s = PATIENCE_S if self._closing.held or self._fleet.stale else _TICK_S
        messages = await self._reader.fetch(1000, wait_s)
        loop_s = asyncio.get_running_loop().time()
        ready = self._closing.take(messages, loop_s)
        if ready:
            up_to = ready[-1].sequence
            await self._tell(self._fleet.read(self._parse(ready), up_to))
            self._read_up_to = up_to
        self._measure(loop_s)
        await self._listen(messages, loop_s)
        await self._write(self._granted(loop_s))
        await self._checkpoint_if_due()

    def _parse(self, messages: Sequence[Received]) -> list[Placed]:
        found: list[Placed] = []
        for message in messages:
            if is_record(message):
                continue
            for line in lines(message.data):
                try:
                    found.append(Placed(message.sequence, AcceptedEvent.model_validate_json(line)))
                except ValidationError as error:
                    LOOP_ERRORS.labels(_NAME).inc()
                    log.error("event.unreadable", subject=message.subject, sequence=message.sequence, error=str(error)[:300])
        return found

    async def _tell(self, changes: Sequence[Changed]) -> None:
        """Observation first, for those who watch; then the event, for those who need every change. In order."""
        for change in changes:
            self._changed = True
            agent = change.agent
            key = agent_key(agent.tenant_id, agent.agent_id)
            self._at_once.add(key)
            log.info(
                "agent.status_changed", tenant_id=agent.tenant_id, agent_id=agent.agent_id, health=agent.health,
                status=agent.status, previous_health=change.previous_health, previous_status=change.previous_status,
                reason=agent.reason, cause=change.cause,
            )  # fmt: skip
            if agent.health != change.previous_health:
                HEALTH_CHANGES.labels(agent.health).inc()
        await self._write(0)
        for together in waves(changes, _TOGETHER):
            await self._turn.mine()
            async with asyncio.TaskGroup() as group:
                for change in together:
                    group.create_task(self._publish(status_changed(change)))

    async def _publish(self, event: Event) -> None:
        subject = subjects.telemetry(event.tenant.tenant_id, event.run.agent_id, event.kind)
        data = event.model_dump_json(exclude_none=True).encode()
        message_id = str(event.event_id)
        await publish_until_stored(self._client, subject, data, message_id=message_id, headers={CONTENT_TYPE: JSON})

    def _measure(self, loop_s: float) -> None:
        if loop_s - self._measured_at < _MEASURE_S:
            return
        self._measured_at = loop_s
        LAG_MESSAGES.labels(_NAME).set(self._reader.pending)
        if self._fleet.left_aside > self._left_aside:
            log.warning("health.agents_left_aside", events=self._fleet.left_aside - self._left_aside, most=self._fleet.most)
            self._left_aside = self._fleet.left_aside
        if self._reader.resets > self._resets:
            READER_RESETS.labels(_NAME).inc(self._reader.resets - self._resets)
            self._resets = self._reader.resets
        by_health = Counter(agent.health for agent in self._fleet.agents.values())
        for health in ("HEALTHY", "UNHEALTHY", "RECOVERING", "STUCK"):
            AGENTS.labels(health).set(by_health[health])

    async def _listen(self, messages: Sequence[Received], loop_s: float) -> None:
        """Judges silence, if we have heard everything."""
        now = _now()
        close_behind = bool(messages) and now - messages[-1].stored_at < timedelta(seconds=1)
        caught_up = (self._reader.caught_up and not self._closing.held) or close_behind
        before = self._attention
        self._attention = look(
            before, now, caught_up=caught_up, connected=self._client.is_connected, reconnects=self._client.stats["reconnects"]
        )
        since = self._attention.since
        if since is None:
            self._suspected.clear()
            return
        if since != before.since:
            log.info("health.listening", why=self._attention.why)
        self.listening = True
        if loop_s - self._looked_at < _TICK_S:
            return
        self._looked_at = loop_s
        silent = self._fleet.silent(now, since)
        self._suspected = {key: self._suspected.get(key, now) for key in silent}
        # Twice, half a second apart: after a pause of the server answers come before the heartbeats that waited with us.
        confirmed = [key for key, first in self._suspected.items() if now - first >= _CONFIRM]
        if not confirmed:
            return
        behind = await self._why_not_trusted()
        if behind is not None:
            log.warning("health.silence_not_judged", agents=len(confirmed), why=behind)
            self._attention = interrupted(self._attention, now, behind)
            return
        for key in confirmed:
            await self._tell(self._fleet.declare_absent(key, now, since))

    async def _why_not_trusted(self) -> str | None:
        """Why silence in EVENTS is no proof now: NATS does not answer, or heartbeats wait for validate in TELEMETRY."""
        try:
            async with asyncio.timeout(1.0):
                waiting = await progress.waiting(self._client)
        except nats.js.errors.NotFoundError:
            return None
        except (nats.errors.Error, TimeoutError, OSError) as error:
            return f"NATS does not answer ({type(error).__name__})"
        if waiting.oldest is not None and _now() - waiting.oldest > _BEHIND:
            return (
                f"validate is behind: the oldest of {waiting.messages} messages in TELEMETRY is of {waiting.oldest.isoformat()}"
            )
        return None

    def _granted(self, loop_s: float) -> int:
        """How many observations may be written for fresh numbers now; none within a tenth of a second of the last."""
        passed = loop_s - self._flushed_at
        if passed < _FLUSH_S:
            return 0
        self._flushed_at = loop_s
        return max(1, int(min(passed, 1.0) * self._settings.writes_per_s))

    async def _write(self, granted: int) -> None:
        """Writes observations: all changes of health, and up to ``granted`` that only have fresh numbers."""
        regular = [key for key in list(self._fleet.stale)[:granted] if key not in self._at_once]
        waiting = [*self._at_once, *regular]
        for start in range(0, len(waiting), _TOGETHER):
            await self._turn.mine()
            written = waiting[start : start + _TOGETHER]
            failed = await self._observations.put_all({key: observation(self._fleet.agents[key]) for key in written})
            for key in written:
                if key not in failed:
                    self._at_once.discard(key)
                    self._fleet.stale.pop(key, None)
            if failed:
                # They stay marked, and are written with the next round.
                log.warning("observation.not_written", agents=len(failed), first=repr(next(iter(failed.items()))))

    async def _checkpoint_if_due(self) -> None:
        waited = asyncio.get_running_loop().time() - self._saved_at
        if waited >= (_CHECKPOINT_AFTER_CHANGE_S if self._changed else self._settings.checkpoint_s):
            await self._checkpoint()

    async def _checkpoint(self) -> None:
        self._saved_at = asyncio.get_running_loop().time()
        keys = list(self._fleet.unsaved)
        if not keys and self._saved_up_to == self._read_up_to:
            return
        position = self._read_up_to
        await self._turn.mine()
        await self._checkpoints.save(self._fleet.agents, keys, ReadUpTo(sequence=position, at=_now()))
        self._fleet.unsaved.difference_update(keys)
        self._saved_up_to = position
        self._changed = False
