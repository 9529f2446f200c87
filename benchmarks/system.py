"""The real system for a measurement: embedded NATS and the processors as child processes, as ``agentops up`` runs them."""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import nats.errors
import orjson
import psutil
from nats.aio.client import Client
from nats.aio.msg import Msg

from agent_manager.cli.up.plan import PROCESSOR_GROUPS
from benchmarks.publishing import Publisher
from benchmarks.workload import MIX
from schemas.events import KIND_OF, KINDS
from service.signals import die_with_parent
from streams import subjects
from streams.apply import apply
from streams.connect import connect
from streams.embedded import EmbeddedServer
from streams.messages import EVENT_COUNT

AGGREGATE: Final = "aggregate"
_CAUSED: Final = tuple(kind for kind in KINDS if kind not in {KIND_OF[event_type] for event_type, _ in MIX})
"""Kinds of events the workload has none of: those of them that come are our own services'."""
_STEERING: Final = ("NATS_", "AGENTOPS_")


class NoAnswerError(RuntimeError):
    """A query was refused or not answered. The message says which and why."""


@dataclass(frozen=True, slots=True)
class Applied:
    """How far the warehouse is."""

    events: int
    ledger_entries: int


@dataclass(slots=True)
class System:
    """Started by ``start``, gone after ``stop``; everything it writes is in ``directory``."""

    directory: Path
    groups: tuple[tuple[str, ...], ...] = PROCESSOR_GROUPS
    prepare: Callable[[Client], Awaitable[None]] | None = None
    """Called when the server runs and has no streams yet."""
    server: EmbeddedServer = field(init=False)
    children: dict[str, asyncio.subprocess.Process] = field(default_factory=dict)
    caused: int = 0
    """Events our own services have added to EVENTS: agents that fell silent, alerts, budgets."""
    _client: Client | None = None
    _publisher: Publisher | None = None

    @property
    def client(self) -> Client:
        """A connection with every right."""
        assert self._client is not None, "start() first"
        return self._client

    @property
    def publisher(self) -> Publisher:
        """Publishes the load."""
        assert self._publisher is not None, "start() first"
        return self._publisher

    async def start(self) -> None:
        """Returns when the warehouse answers and every processor is ready."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self.server = EmbeddedServer(self.directory / "nats", dies_with_parent=True)
        await self.server.start()
        self._client = await connect(self.server.settings(), "benchmark")
        if self.prepare is not None:
            await self.prepare(self.client)
        await apply(self.client)
        for kind in _CAUSED:
            await self.client.subscribe(subjects.events_of(kind), cb=self._count)
        self._publisher = await Publisher.connect(self.server.settings())
        for group in self.groups:
            await self.start_group(group)
        if any("aggregate" in group for group in self.groups):
            await self.answering()

    async def _count(self, message: Msg) -> None:
        self.caused += int((message.headers or {}).get(EVENT_COUNT, "1"))

    def environment(self) -> dict[str, str]:
        """Of each process, as ``agentops up`` gives it."""
        settings = self.server.settings()
        assert settings.password is not None
        own = {name: value for name, value in os.environ.items() if not name.startswith(_STEERING)}
        return (
            {"MALLOC_ARENA_MAX": "2"}
            | own
            | {
                "NATS_URL": settings.url,
                "NATS_USER": "system",
                "NATS_PASSWORD": settings.password.get_secret_value(),
                "AGENTOPS_DATA": str(self.directory),
                "AGENTOPS_LOG_FORMAT": "json",
            }
        )

    async def start_group(self, group: tuple[str, ...]) -> None:
        """Starts the child process of ``group``."""
        name = "-".join(group)
        with (self.directory / f"{name}.log").open("ab") as log:
            self.children[name] = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "processors", *group, env=self.environment(), stdout=log, stderr=log,
                start_new_session=True, preexec_fn=die_with_parent,
            )  # fmt: skip

    async def stop_group(self, name: str, patience_s: float = 20) -> None:
        """Asks one process to stop, and waits until it has."""
        child = self.children.pop(name)
        child.terminate()
        async with asyncio.timeout(patience_s):
            await child.wait()

    async def answering(self, patience_s: float = 30.0) -> None:
        """Waits until the warehouse answers."""
        deadline = asyncio.get_running_loop().time() + patience_s
        while await self.applied() is None:
            if asyncio.get_running_loop().time() > deadline:
                msg = f"the warehouse did not answer within {patience_s:g} s; see the logs in {self.directory}"
                raise TimeoutError(msg)
            await asyncio.sleep(0.05)

    async def ask(self, name: str, **parameters: Any) -> dict[str, Any] | None:
        """The answer of a named query, or None while nobody answers."""
        try:
            reply = await self.client.request(subjects.query(name), orjson.dumps(parameters), timeout=5)
        except (nats.errors.NoRespondersError, nats.errors.TimeoutError):
            return None
        answer: dict[str, Any] = orjson.loads(reply.data)
        return answer

    async def applied(self) -> Applied | None:
        """How many events and ledger entries are committed in the warehouse."""
        answer = await self.ask("status")
        if answer is None or "rows" not in answer:
            return None
        counts = {row["stream"]: int(row["events"]) for row in answer["rows"]}
        return Applied(counts.get("EVENTS", 0), counts.get("LEDGER", 0))

    async def asked(self, name: str, **parameters: Any) -> dict[str, Any]:
        """The answer of a named query. Raises NoAnswerError."""
        answer = await self.ask(name, **parameters)
        if answer is None:
            raise NoAnswerError(f"{name}: nobody answered within 5 s")
        if "rows" not in answer:
            raise NoAnswerError(f"{name}: {answer.get('message', answer)}")
        return answer

    async def ours(self) -> Applied | None:
        """How many of the load's own events are committed, at least: all that our services had caused by now are taken off."""
        applied = await self.applied()
        return None if applied is None else Applied(applied.events - self.caused, applied.ledger_entries)

    def usage(self) -> dict[str, psutil.Process]:
        """The processes of the system by name."""
        assert self.server.process is not None
        every = {name: child.pid for name, child in self.children.items()} | {"nats-server": self.server.process.pid}
        return {name: psutil.Process(pid) for name, pid in every.items()}

    async def stop(self) -> None:
        """Ends every process."""
        for child in self.children.values():
            if child.returncode is None:
                child.terminate()
        for child in self.children.values():
            try:
                async with asyncio.timeout(8):
                    await child.wait()
            except TimeoutError:
                child.kill()
                await child.wait()
        if self._publisher is not None:
            await self._publisher.close()
        if self._client is not None:
            await self._client.close()
        await self.server.stop()
