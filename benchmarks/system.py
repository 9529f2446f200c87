"""The real system for a measurement: embedded NATS and the processors as child processes, as ``agentops up`` runs them."""

import asyncio
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nats.errors
import orjson
import psutil
from nats.aio.client import Client

from agent_manager.cli.up.plan import PROCESSOR_GROUPS
from streams import subjects
from streams.apply import apply
from streams.connect import connect
from streams.embedded import EmbeddedServer


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
    server: EmbeddedServer = field(init=False)
    children: dict[str, asyncio.subprocess.Process] = field(default_factory=dict)
    _client: Client | None = None

    @property
    def client(self) -> Client:
        """A connection with every right."""
        assert self._client is not None, "start() first"
        return self._client

    async def start(self) -> None:
        """Returns when the warehouse answers and every processor is ready."""
        self.server = EmbeddedServer(self.directory / "nats")
        await self.server.start()
        self._client = await connect(self.server.settings(), "benchmark")
        await apply(self.client)
        for group in self.groups:
            await self.start_group(group)
        if any("aggregate" in group for group in self.groups):
            await self.answering()

    async def start_group(self, group: tuple[str, ...]) -> None:
        """Starts the child process of ``group``."""
        settings = self.server.settings()
        assert settings.password is not None
        environment = os.environ | {
            "NATS_URL": settings.url,
            "NATS_USER": "system",
            "NATS_PASSWORD": settings.password.get_secret_value(),
            "AGENTOPS_DATA": str(self.directory),
            "AGENTOPS_LOG_FORMAT": "json",
        }
        name = "-".join(group)
        with (self.directory / f"{name}.log").open("ab") as log:
            self.children[name] = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "processors", *group, env=environment, stdout=log, stderr=log, start_new_session=True
            )

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
        if self._client is not None:
            await self._client.close()
        await self.server.stop()
