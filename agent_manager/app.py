"""The manager service: composed, run, stopped."""

import argparse
import asyncio
import os
import random
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import nats.errors
import nats.js.errors
import structlog
from faststream.nats import NatsBroker
from nats.aio.client import Client

from agent_manager.alone import AlreadyRunningError, alone
from agent_manager.commands import subscribers
from agent_manager.commands.actions import carry_out
from agent_manager.commands.bridge import Bridge
from agent_manager.commands.desk import Desk
from agent_manager.discovery.folders import Folders
from agent_manager.discovery.lookout import Lookout
from agent_manager.discovery.sightings import Sightings
from agent_manager.drivers.cloud_run.loading import Loading
from agent_manager.drivers.command_line import CommandLine, sidecar
from agent_manager.drivers.driver import Instance
from agent_manager.drivers.kinds import Kinds
from agent_manager.drivers.local import LocalDriver
from agent_manager.healing.calm import Calm
from agent_manager.healing.hearing import Flags, Hearing
from agent_manager.healing.roll import FleetLimits, Roll
from agent_manager.healing.wakefulness import Away, ClockJumped, Wakefulness
from agent_manager.journal import Journal, JournalError
from agent_manager.lifecycle.agent import Timings, World
from agent_manager.lifecycle.book import Book
from agent_manager.lifecycle.fleet import Fleet
from agent_manager.outbox import Outbox
from agent_manager.registry.register import Register
from agent_manager.registry.trials import Trials
from agent_manager.settings import ManagerSettings
from agent_manager.waiting import Buckets, Waiting
from service import logs
from service.door import HealthDoor
from service.instruments import LOOP_ERRORS
from service.leaving import UNUSABLE
from service.running import end, run
from service.signals import stop_event
from streams import topology
from streams.broker import broker
from streams.settings import NatsSettings

log = structlog.get_logger(__name__)

Result = TypeVar("Result")


def _now() -> datetime:
    return datetime.now(UTC)


class Manager:
    """The running service. ``line`` builds the command line of the process that leads an agent's group."""

    def __init__(
        self, settings: ManagerSettings, nats: NatsSettings, *, line: CommandLine = sidecar, clock: Callable[[], datetime] = _now
    ) -> None:
        self._settings = settings
        self._nats = nats
        self._line = line
        self._clock = clock
        self._waiting = Waiting()
        self._calm = Calm(timedelta(seconds=settings.grace_s), clock)
        self._reconnected = asyncio.Event()
        self._fleet: Fleet | None = None

    def waiting_for(self) -> dict[str, str]:
        """What keeps it from its work, by part; empty when ready."""
        if self._waiting.on:
            return dict(self._waiting.on)
        if self._calm.client is None or not self._calm.client.is_connected:
            return {"nats": "disconnected"}
        return {}

    async def run(self, stop: asyncio.Event) -> None:
        """Works until ``stop``; agents run on unless the settings say otherwise."""
        settings = self._settings
        data = settings.data.resolve()
        async with AsyncExitStack() as stack:
            stack.enter_context(alone(data))
            journal = Journal.open(data / "manager" / "journal.sqlite")
            stack.callback(journal.close)
            door = HealthDoor("agent_manager", self.waiting_for, settings.health_host, settings.health_port)
            port = await door.start()
            stack.push_async_callback(door.stop)
            log.info(
                "manager.started",
                health_url=f"http://{settings.health_host}:{port}",
                data=str(data),
                agents=[str(folder) for folder in settings.directories()],
            )
            client = await _unless(stop, self._waiting.for_nats(self._nats, self._reconnect))
            if client is None:
                return
            stack.push_async_callback(_close, client)
            self._calm.client = client
            self._calm.disturbed()
            buckets = await _unless(stop, self._waiting.for_buckets(client))
            if buckets is None:
                return
            await self._work(stop, stack, client, journal, buckets, data)

    async def _reconnect(self) -> None:
        self._calm.disturbed()
        self._reconnected.set()

    def _was_away(self, found: Away | ClockJumped) -> None:
        log.warning("manager.was_away", what=str(found))
        if isinstance(found, ClockJumped) and self._fleet is not None:
            self._fleet.clock_jumped(found.by)
        self._calm.disturbed()

    async def _work(
        self, stop: asyncio.Event, stack: AsyncExitStack, client: Client, journal: Journal, buckets: Buckets, data: Path
    ) -> None:
        settings = self._settings
        records = Book(topology.REGISTRY, buckets.registry.bucket, buckets.registry.present)
        versions = Book(topology.RELEASES, buckets.releases.bucket, buckets.releases.present)
        states = Book(topology.AGENT_STATES, buckets.states.bucket, buckets.states.present)
        fault_sets = Book(topology.FAULTS, buckets.faults.bucket, buckets.faults.present)
        flags = Flags(buckets.flags.bucket, buckets.flags.present)
        outbox = Outbox(client, journal)
        register = Register(records, versions, outbox)

        def noticed(instance: Instance) -> None:
            if self._fleet is not None and (keeper := self._fleet.find(instance.tenant_id, instance.agent_id)) is not None:
                keeper.agent.wake.set()

        def operating(tenant: str, agent: str, operation: str | None) -> None:
            if self._fleet is not None and (keeper := self._fleet.find(tenant, agent)) is not None:
                keeper.agent.note(operation=operation)

        async def local() -> LocalDriver:
            return LocalDriver(data, dict(os.environ), settings.for_sidecars(self._nats), noticed, self._line)

        cloud_run = Loading(
            settings.cloud_run_endpoint, settings.cloud_run_patience_s, settings.cloud_run_poll_s, noticed, operating, _now
        )  # fmt: skip
        driver = Kinds({"local": local, "cloud_run": cloud_run})
        stack.push_async_callback(driver.close)
        world = World(
            driver=driver,
            states=states,
            faults=fault_sets,
            outbox=outbox,
            registry=register,
            timings=Timings(
                tick=timedelta(seconds=settings.tick_s),
                patience=timedelta(seconds=settings.start_patience_s),
                verify=timedelta(seconds=settings.verify_s),
            ),
            data=data,
            clock=self._clock,
            draw=random.random,
            calm=self._calm,
            awake_since=lambda: self._calm.since,
            roll=Roll(FleetLimits(settings.fleet_share, settings.fleet_least, timedelta(seconds=settings.fleet_trial_s))),
            flags=flags.present,
        )
        self._fleet = fleet = Fleet(world, carry_out)
        for record in buckets.registry.present.values():
            await fleet.remembered(record)
        for key, observation in buckets.observations.present.items():
            fleet.heard(key, observation)
        folders = Folders(settings.directories(), settings.tenant)
        lookout = Lookout(folders, register, fleet, settings.discovery_interval_s, self._clock)
        lookout.look()

        desk = Desk(client, fleet, journal, outbox)
        nats_broker = broker(self._nats, "agent_manager-commands", graceful_timeout_s=1.0)
        subscribers.attach(nats_broker, desk, Bridge(desk, self._clock()))
        loops: dict[str, Callable[[], Awaitable[None]]] = {
            "registry": records.run,
            "releases": versions.run,
            "trials": Trials(fleet, timedelta(seconds=settings.good_after_s), settings.tick_s).run,
            "sightings": Sightings(client, buckets.sightings, register, settings.tenant, settings.sighting_interval_s, _now).run,
            "agent_states": states.run,
            "faults": fault_sets.run,
            "outbox": outbox.run,
            "renew": desk.renew,
            "hearing": Hearing(buckets.observations.bucket, fleet, self._reconnected).run,
            "flags": flags.run,
            "discovery": lookout.run,
            "wakefulness": Wakefulness(self._clock, time.monotonic, self._was_away).run,
        }
        tasks = [asyncio.create_task(_for_ever(name, loop), name=f"manager-{name}") for name, loop in loops.items()]
        fleet.begin()
        subscribing = asyncio.create_task(self._subscribe(client, nats_broker), name="manager-subscribe")
        try:
            await stop.wait()
        finally:
            log.info("manager.stopping", agents="stop too" if settings.stop_agents else "run on")
            await end([subscribing], 1.0)
            await _within(2.0, nats_broker.stop(), "broker")
            await desk.close()
            await fleet.close()
            if settings.stop_agents:
                await fleet.stop_agents(settings.stop_within_s)
            stored = [states.stored(key, 1.0) for key in states.known()]
            await asyncio.gather(*stored, outbox.drained(1.0))
            await end(tasks, 2.0)
            log.info("manager.stopped")

    async def _subscribe(self, client: Client, nats_broker: NatsBroker) -> None:
        while True:
            try:
                await subscribers.begin(client, nats_broker)
            except (nats.errors.Error, TimeoutError, OSError) as error:
                LOOP_ERRORS.labels("subscribe").inc()
                self._waiting("commands", repr(error))
                await asyncio.sleep(0.5)
                continue
            self._waiting.over()
            log.info("manager.ready")
            await subscribers.keep(client)


async def _unless(stop: asyncio.Event, work: Coroutine[Any, Any, Result]) -> Result | None:
    """``work``'s result, or None when asked to stop first."""
    task = asyncio.create_task(work)
    asked = asyncio.create_task(stop.wait())
    try:
        await asyncio.wait({task, asked}, return_when=asyncio.FIRST_COMPLETED)
        return task.result() if task.done() else None
    finally:
        for each in (task, asked):
            each.cancel()
        await asyncio.gather(task, asked, return_exceptions=True)


async def _for_ever(name: str, loop: Callable[[], Awaitable[None]]) -> None:
    while True:
        try:
            await loop()
        except Exception:
            LOOP_ERRORS.labels(name).inc()
            log.exception("loop.failed", loop=name)
        await asyncio.sleep(0.5)


async def _within(seconds: float, work: Awaitable[None], what: str) -> None:
    try:
        async with asyncio.timeout(seconds):
            await work
    except (nats.errors.Error, TimeoutError, OSError) as error:
        log.warning("manager.stop_incomplete", what=what, error=repr(error))


async def _close(client: Client) -> None:
    await _within(1.0, client.close(), "nats")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs until SIGTERM or SIGINT; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m agent_manager", description="Run the agent manager.")
    parser.add_argument("--data", metavar="DIR", help="data directory (default: AGENTOPS_DATA or ./data)")
    parser.add_argument("--agents", metavar="DIRS", help="folders with agents, separated like PATH (default: AGENTOPS_AGENTS)")
    parser.add_argument("--health-port", type=int, metavar="N", help="health door; 0 takes any (default: AGENTOPS_HEALTH_PORT)")
    given = {name: value for name, value in vars(parser.parse_args(arguments)).items() if value is not None}
    settings = ManagerSettings(**given)
    logs.configure("agent_manager")

    async def serve() -> None:
        await Manager(settings, NatsSettings()).run(stop_event())

    try:
        run(serve())
    except (AlreadyRunningError, JournalError, OSError) as error:
        print(f"agent_manager: {error}", file=sys.stderr)
        return UNUSABLE if isinstance(error, JournalError) else 1
    return 0
