"""One process, some processors: connected, supervised, restarted one by one, stopped together in time."""

import asyncio
import importlib
import os
import random
import socket
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol, runtime_checkable

import structlog
from faststream.nats import NatsBroker
from nats.aio.client import Client
from pydantic_settings import BaseSettings, SettingsConfigDict

from service.door import HealthDoor
from service.instruments import FENCED, LOOP_ERRORS
from service.leaving import CANNOT_START
from service.memory import suit_batches
from service.signals import stop_event
from streams.broker import broker
from streams.connect import connect
from streams.covering import FencedError
from streams.settings import NatsSettings

log = structlog.get_logger(__name__)

ALL: Final = ("validate", "cost", "aggregate", "health", "budget", "alerts", "notify")
"""Every processor, in the order in which data flows."""

_FIRST_PAUSE_S: Final = 0.5
_LONGEST_PAUSE_S: Final = 30.0
_HEALTHY_AFTER_S: Final = 60.0
_CANCELLED_MOST: Final = 10


class HaltedError(Exception):
    """A processor will not go on, because going on would do harm. Trying again does not help: a person must look.

    The runner leaves it stopped and not ready, with this message as the reason; its neighbours go on.
    """


class Processor(Protocol):
    """One processor as the runner sees it. After ``stop`` it may be started again, and begins from what is stored."""

    @property
    def name(self) -> str:
        """Its folder's name."""

    async def start(self) -> None:
        """Makes ready to work; NATS is connected. Undone by ``stop``."""

    async def run(self) -> None:
        """Works until ``stop`` is called or it is cancelled. Waits transient trouble out."""

    async def stop(self) -> None:
        """Stops pulling, finishes what it holds, acknowledges, closes. Safe after a ``start`` that failed."""

    def waiting_for(self) -> dict[str, str]:
        """What keeps it from its work, by part; empty when ready."""


@runtime_checkable
class StandsBy(Protocol):
    """A processor of which one instance at a time is at work; the others are ready to take over."""

    def standing(self) -> dict[str, str]:
        """``active`` or ``standby`` by part, with the reason."""


@dataclass(frozen=True, slots=True)
class ProcessorContext:
    """What the process gives each of its processors."""

    data_directory: Path
    instance: str
    """Names this process in coverage records and logs."""
    connect: Callable[[str], Awaitable[Client]]
    """A connection of the processor's own, named so in NATS' monitoring; who asks for it closes it."""


Attach = Callable[[NatsBroker, ProcessorContext], Processor]


class RunnerSettings(BaseSettings):
    """Of the process as a whole. Every field is the environment variable ``AGENTOPS_<FIELD>``."""

    model_config = SettingsConfigDict(env_prefix="AGENTOPS_", frozen=True, use_attribute_docstrings=True, extra="ignore")

    data: Path = Path("data")
    """Where indexes and the warehouse lie."""
    health_host: str = "127.0.0.1"
    """Where the health door listens; ``0.0.0.0`` in a container."""
    health_port: int = 0
    """0 takes any free port and logs it."""
    nats_patience_s: float = 30.0
    """How long to wait for NATS at the start; once connected, for ever."""
    stop_s: float = 4.0
    """What a processor may take to finish when asked to stop, before it is cancelled."""


def pause_s(failures: int, chance: float) -> float:
    """How long to wait before the next start after ``failures`` in a row (1 …); ``chance`` in [0, 1) spreads it."""
    longest = min(_LONGEST_PAUSE_S, _FIRST_PAUSE_S * 2.0 ** min(failures - 1, 16))
    return longest * (0.5 + chance / 2)


def load(name: str) -> Attach:
    """The ``attach`` of one processor; imports that processor alone, so that memory stays low."""
    module = importlib.import_module(f"processors.{name}.app")
    attach: Attach = module.attach
    return attach


@dataclass(slots=True)
class Supervised:
    """Keeps one processor at work: what it raises is logged and counted, and it is started again."""

    processor: Processor
    _trouble: str | None = field(default="not started yet", init=False)
    _stopping: bool = field(default=False, init=False)

    def waiting_for(self) -> dict[str, str]:
        """Its readiness, each part named after it."""
        name = self.processor.name
        if self._trouble is not None:
            return {name: self._trouble}
        return {f"{name}.{part}": why for part, why in self.processor.waiting_for().items()}

    def standing(self) -> dict[str, str]:
        """Whether it is at work or stands by, each part named after it."""
        if not isinstance(self.processor, StandsBy):
            return {}
        return {f"{self.processor.name}.{part}": how for part, how in self.processor.standing().items()}

    async def keep(self) -> None:
        """Runs the processor until ``stop``; returns early only when it halted."""
        name, failures = self.processor.name, 0
        while not self._stopping:
            began = time.monotonic()
            try:
                await self.processor.start()
                self._trouble = None
                log.info("processor.started", processor=name)
                await self.processor.run()
                if self._stopping:
                    return
                self._trouble = "ended by itself"
                log.error("processor.ended", processor=name)
            except HaltedError as error:
                self._trouble = f"{'halted: ' if self._trouble is None else CANNOT_START}{error}"
                log.critical("processor.halted", processor=name, reason=str(error))
                await self._close()
                return
            except FencedError as error:
                FENCED.labels(name).inc()
                self._trouble = str(error)
                log.warning("processor.fenced", processor=name, reason=str(error))
            except Exception as error:
                LOOP_ERRORS.labels(name).inc()
                self._trouble = f"{type(error).__name__}: {error}"
                log.exception("processor.crashed", processor=name)
            await self._close()
            failures = 1 if time.monotonic() - began > _HEALTHY_AFTER_S else failures + 1
            await asyncio.sleep(pause_s(failures, random.random()))

    async def _close(self) -> None:
        try:
            async with asyncio.timeout(5):
                await self.processor.stop()
        except Exception:
            LOOP_ERRORS.labels(self.processor.name).inc()
            log.exception("processor.stop_failed", processor=self.processor.name)

    async def stop(self, task: asyncio.Task[None], within_s: float) -> None:
        """Asks, waits, and cancels what has not ended ``within_s``."""
        self._stopping = True
        try:
            async with asyncio.timeout(within_s):
                await self.processor.stop()
        except TimeoutError:
            log.warning("processor.stop_slow", processor=self.processor.name, after_s=within_s)
        except Exception:
            log.exception("processor.stop_failed", processor=self.processor.name)
        await asyncio.wait({task}, timeout=0.3)
        for _ in range(_CANCELLED_MOST):
            if task.done():
                break
            # More than once: on Python 3.11 nats-py may lose a cancellation that meets an arriving reply.
            task.cancel()
            await asyncio.wait({task}, timeout=0.1)
        if not task.done():
            log.error("processor.not_cancelled", processor=self.processor.name)
        elif not task.cancelled() and (error := task.exception()) is not None:
            log.error("processor.stop_failed", processor=self.processor.name, error=repr(error))


async def serve(names: Sequence[str], settings: RunnerSettings, nats: NatsSettings, *, stop: asyncio.Event | None = None) -> None:
    """Runs the named processors until ``stop`` (default: SIGTERM or SIGINT).

    Raises CannotConnectError when NATS cannot be reached at the start, OSError when the health port is taken.
    """
    stop = stop or stop_event()
    title = "processors-" + "-".join(names) if len(names) < len(ALL) else "processors"
    settings.data.mkdir(parents=True, exist_ok=True)
    # A client that cannot get in the first time would try for ever inside the broker, in silence.
    await (await connect(nats, f"{title}-check", patience_s=settings.nats_patience_s)).close()

    async def own_connection(name: str) -> Client:
        return await connect(nats, name, patience_s=settings.nats_patience_s)

    context = ProcessorContext(settings.data, f"{socket.gethostname()}-{os.getpid()}", own_connection)
    nats_broker = broker(nats, title)
    supervised = [Supervised(load(name)(nats_broker, context)) for name in names]

    def waiting_for() -> dict[str, str]:
        return {part: why for each in supervised for part, why in each.waiting_for().items()}

    def standing() -> dict[str, str]:
        return {part: how for each in supervised for part, how in each.standing().items()}

    door = HealthDoor(title, waiting_for, settings.health_host, settings.health_port, standing)
    port = await door.start()
    log.info("processors.started", names=list(names), health_url=f"http://{settings.health_host}:{port}", data=str(settings.data))
    await nats_broker.start()
    suit_batches()
    tasks = [(each, asyncio.create_task(each.keep(), name=each.processor.name)) for each in supervised]
    try:
        await stop.wait()
    finally:
        log.info("processors.stopping", names=list(names))
        await asyncio.gather(*(each.stop(task, settings.stop_s) for each, task in tasks))
        try:
            async with asyncio.timeout(0.5):
                await nats_broker.stop()
        except Exception:
            log.exception("broker.stop_failed")
        await door.stop()
        log.info("processors.stopped", names=list(names))
