"""Validate: reads TELEMETRY in order, judges, covers what it judged in EVENTS, and purges what is covered."""

import asyncio
import time
from datetime import datetime, timedelta
from typing import Final

import nats.errors
import structlog
from faststream.nats import NatsBroker
from nats.aio.client import Client
from nats.js.api import RetentionPolicy
from pydantic_settings import BaseSettings, SettingsConfigDict

from processors.covered_loop import CoveredLoop, Hop, Pace
from processors.duplicates.index import DuplicateIndex
from processors.leases import Leases
from processors.leasing import fair_share, to_give_back
from processors.runner import HaltedError, Processor, ProcessorContext
from processors.validate.judging import Limits
from processors.validate.memory import Memory
from processors.validate.partition import NAME, Judgement, PartitionWork, RepartitionedError
from processors.validate.policies import PolicyService
from processors.validate.purging import Purger
from processors.validate.quota import DeadQuota
from schemas.policies import PolicyFlag
from service.instruments import LAG_MESSAGES
from streams import subjects, topology
from streams.changing import RecordChanges
from streams.content import Policies, PolicyWatch
from streams.reader import Source

log = structlog.get_logger(__name__)

_AGAIN_S: Final = 0.5
_WATCH_S: Final = 0.25
_LOOK_S: Final = 5.0
"""How often an instance looks whether there are more partitions than there were."""


class ValidateSettings(BaseSettings):
    """Every field is the environment variable ``AGENTOPS_VALIDATE_<FIELD>``."""

    model_config = SettingsConfigDict(env_prefix="AGENTOPS_VALIDATE_", frozen=True, use_attribute_docstrings=True, extra="ignore")

    late_after_s: float = 3600.0
    """An event older than this on arrival is flagged ``late``."""
    future_tolerance_s: float = 300.0
    """An event further ahead than this is flagged ``from_the_future``: clocks differ by less."""
    dead_bytes_per_tenant_hour: int = 64 * 1024**2
    """Original bytes of rejected events kept for each tenant in an hour; beyond it their hash alone."""
    pace_s: float = 0.03
    """Batches follow each other at least so far apart: after a quiet spell an event leaves at once, a steady trickle shares
    batches. Each costs the server about as much as a hundred events do."""
    fetch_messages: int = 1000
    """Most messages judged for one batch."""
    batch_bytes: int = 2 * 1024**2
    """Most input bytes judged for one batch (at least one message): what keeps the loop responsive."""
    partition: int | None = None
    """The one partition of TELEMETRY this instance works on. Without it instances share the partitions out among themselves."""


class Validate:
    """The processor. Of each partition one instance is at work, another stands by."""

    name = NAME

    def __init__(self, context: ProcessorContext, settings: ValidateSettings) -> None:
        self._context = context
        self._settings = settings
        self._limits = Limits(
            late_after=timedelta(seconds=settings.late_after_s), future_tolerance=timedelta(seconds=settings.future_tolerance_s),
            duplicate_horizon=topology.EVENTS_AGE,
        )  # fmt: skip
        self._quota = DeadQuota(settings.dead_bytes_per_tenant_hour)
        self._memory = Memory(DuplicateIndex(context.data_directory / "index" / f"{NAME}-0"))
        self._policies = Policies()
        self._policy_watch: asyncio.Task[None] | None = None
        self._policy_service: PolicyService | None = None
        self._denials: RecordChanges[PolicyFlag] | None = None
        self._client: Client | None = None
        self._leases: Leases | None = None
        self._loops: dict[int, CoveredLoop] = {}
        self._waiting: dict[str, str] = {}
        self._stopping = asyncio.Event()
        self._ended = asyncio.Event()
        self._ended.set()

    def waiting_for(self) -> dict[str, str]:
        """What keeps it from its work. Standing by is work."""
        found = dict(self._waiting)
        for number, loop in self._loops.items():
            found |= {part if len(self._loops) == 1 else f"{part} {number}": why for part, why in loop.waiting.items()}
        if self._client is None or not self._client.is_connected:
            found["nats"] = "not connected"
        return found

    def standing(self) -> dict[str, str]:
        """Which partitions this instance works on, and for which it stands by."""
        return {f"partition {number}": loop.standing() for number, loop in self._loops.items()}

    async def start(self) -> None:
        """Connects, and begins to hear of the other instances."""
        self._stopping.clear()
        self._waiting = {"telemetry": "not looked at yet"}
        client = self._client = await self._context.connect(NAME)
        self._quota.fit(client.max_payload)
        self._memory.start(client)
        self._leases = Leases(client, NAME, self._context.instance)
        await self._leases.start()
        self._policy_service = PolicyService(client)
        await self._policy_service.start()
        self._denials = RecordChanges(client, subjects.POLICIES, topology.POLICY_FLAGS, PolicyFlag, "policy_id")
        await self._denials.start()
        LAG_MESSAGES.labels(NAME).set_function(lambda: sum(loop.lag for loop in self._loops.values()))

    async def stop(self) -> None:
        """Finishes the batches at hand, purges what is covered, gives its partitions back, closes."""
        self._stopping.set()
        await self._stop_loops()
        await self._ended.wait()
        leases, self._leases = self._leases, None
        if leases is not None:
            await leases.stop()
        await self._memory.stop()
        service, self._policy_service = self._policy_service, None
        if service is not None:
            await service.stop()
        denials, self._denials = self._denials, None
        if denials is not None:
            await denials.stop()
        client, self._client = self._client, None
        if client is not None and not client.is_closed:
            await client.close()

    async def _stop_loops(self) -> None:
        await asyncio.gather(*(loop.stop() for loop in self._loops.values()))

    async def run(self) -> None:
        """Judges until stopped."""
        self._ended.clear()
        try:
            await self._follow_policies()
            while not self._stopping.is_set():
                partitions, created = await self._look()
                if partitions:
                    await self._work(partitions, created)
        finally:
            if self._policy_watch is not None:
                self._policy_watch.cancel()
                await asyncio.wait({self._policy_watch})
            self._ended.set()

    async def _follow_policies(self) -> None:
        """Judges by the policies in force, from the first event on: returns once they are known, or it is asked to stop."""
        assert self._client is not None
        watch = PolicyWatch(self._policies)
        self._policy_watch = asyncio.create_task(watch.run(self._client), name=f"{NAME}-content")
        self._waiting = {"content": "the policies are not read yet"}
        stopping = asyncio.create_task(self._stopping.wait())
        known = asyncio.create_task(watch.known.wait())
        _, pending = await asyncio.wait({stopping, known}, return_when=asyncio.FIRST_COMPLETED)
        for task in pending:
            task.cancel()

    async def _look(self) -> tuple[int, datetime | None]:
        """Into how many partitions TELEMETRY is cut, and when it was made; none when asked to stop."""
        assert self._client is not None
        while not self._stopping.is_set():
            try:
                info = await self._client.jsm().stream_info(topology.TELEMETRY)
            except (nats.errors.Error, TimeoutError, OSError) as error:
                self._waiting = {"telemetry": f"{type(error).__name__}: {error}"}
                await asyncio.sleep(_AGAIN_S)
                continue
            if info.config.retention != RetentionPolicy.LIMITS:
                raise HaltedError(f"TELEMETRY has retention {info.config.retention}, not limits: run `agentops streams apply`")
            self._waiting = {}
            return topology.partitions_of(info.config), info.created
        return 0, None

    def _mine(self, partitions: int) -> list[int]:
        """The partitions this instance is for."""
        only = self._settings.partition
        if only is None:
            return list(range(partitions))
        if only >= partitions:
            raise HaltedError(f"AGENTOPS_VALIDATE_PARTITION is {only}, but TELEMETRY has partitions 0 to {partitions - 1}")
        return [only]

    def _loop(self, client: Client, leases: Leases, number: int, partitions: int, shared: Judgement) -> CoveredLoop:
        sharing = partitions > 1 and self._settings.partition is None

        def may_take() -> bool:
            return not sharing or len(leases.held()) < fair_share(partitions, leases.instances())

        def tell(text: str) -> None:
            loop.waiting = {"index": text}

        work = PartitionWork(client, number, partitions, shared, may_take, tell)
        hop = Hop(
            NAME, number, Source(topology.TELEMETRY, subjects.of_partition(number) if partitions > 1 else ()), topology.EVENTS,
            if_made_anew="What arrives would be purged unread", contiguous=partitions == 1,
        )  # fmt: skip
        pace = Pace(self._settings.pace_s, self._settings.fetch_messages, self._settings.batch_bytes)
        loop = CoveredLoop(client, hop, pace, leases, work)
        work.writer = loop.writer
        return loop

    async def _work(self, partitions: int, created: datetime | None) -> None:
        """Works on its share of the partitions, until it is asked to stop, or there are more of them."""
        client, leases = self._client, self._leases
        assert client is not None
        assert leases is not None
        purger = Purger(client, created)
        shared = Judgement(self._context.instance, self._limits, self._quota, self._memory, purger, self._policies)
        self._loops = {number: self._loop(client, leases, number, partitions, shared) for number in self._mine(partitions)}
        log.info("validate.partitions", of=partitions, ours=list(self._loops))
        if len(self._loops) > 1:
            await leases.show()
        tasks = {asyncio.create_task(loop.run(), name=f"{NAME}-{number}") for number, loop in self._loops.items()}
        tasks.add(asyncio.create_task(self._watch(client, partitions, created, leases, purger), name=f"{NAME}-watch"))
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            await self._stop_loops()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            await purger.finish()
        for task in tasks:
            if not task.cancelled() and (error := task.exception()) is not None and not isinstance(error, RepartitionedError):
                raise error

    async def _watch(self, client: Client, partitions: int, created: datetime | None, leases: Leases, purger: Purger) -> None:
        """Gives back what is more than a fair share; ends when TELEMETRY is no longer what it was. Raises HaltedError."""
        looked_at = time.monotonic()
        while True:
            await asyncio.sleep(_WATCH_S)
            if purger.made_anew is not None:
                raise HaltedError(purger.made_anew)
            if len(self._loops) > 1:
                held = {number: self._loops[number].active for number in leases.held() if number in self._loops}
                for number in to_give_back(held, fair_share(partitions, leases.instances())):
                    self._loops[number].give_back()
            if time.monotonic() - looked_at < _LOOK_S:
                continue
            looked_at = time.monotonic()
            try:
                info = await client.jsm().stream_info(topology.TELEMETRY)
            except (nats.errors.Error, TimeoutError, OSError):
                continue
            if topology.partitions_of(info.config) != partitions or info.created != created:
                return


def attach(broker: NatsBroker, context: ProcessorContext) -> Processor:
    """The processor with its settings from the environment. It reads in batches and in order, which the broker does not."""
    del broker
    return Validate(context, ValidateSettings())
