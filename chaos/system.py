"""The system under chaos: NATS and every processor in a process of its own, supervised by what supervises ``agentops up``."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import nats.errors
import orjson
from nats.aio.client import Client

from agent_manager.cli.up.nats_server import OwnServer
from agent_manager.cli.up.plan import Alive, Child
from agent_manager.cli.up.supervision import Supervised
from benchmarks.workload import TENANTS
from chaos.schedule import SERVER
from processors.runner import ALL
from schemas.content import ContentPolicy
from streams import subjects, topology
from streams.apply import apply
from streams.connect import connect
from streams.kv import TypedBucket

ROOT: Final = Path(__file__).resolve().parents[1]
_STEERING: Final = ("NATS_", "AGENTOPS_", "OPENAI_")


@dataclass(frozen=True, slots=True)
class Load:
    """What the producers are asked for."""

    producers: tuple[str, ...]
    seed: int
    rate: float
    """Events a second, of all of them."""
    late_s: float


@dataclass(frozen=True, slots=True)
class Applied:
    """How far the warehouse is."""

    sequences: Mapping[str, int]
    """Last sequence by stream."""
    events: int
    entries: int


@dataclass(slots=True)
class System:
    """Started by ``start``, gone after ``stop``; everything it writes is in ``data``."""

    data: Path
    say: Callable[[str], None]
    server: OwnServer = field(init=False)
    children: dict[str, Supervised] = field(default_factory=dict)
    _tasks: dict[str, asyncio.Task[None]] = field(default_factory=dict)
    _client: Client | None = None

    @property
    def client(self) -> Client:
        """A connection with every right."""
        assert self._client is not None, "start() first"
        return self._client

    @property
    def journals(self) -> Path:
        """Where the producers write down what was acknowledged."""
        return self.data / "producers"

    def environment(self, data: Path | None = None) -> dict[str, str]:
        """For a process of the system, with its files in ``data``."""
        settings = self.server.settings()
        assert settings.password is not None
        given = {name: value for name, value in os.environ.items() if not name.startswith(_STEERING)}
        return given | {
            "PYTHONPATH": str(ROOT),
            "MALLOC_ARENA_MAX": "2",
            "NATS_URL": settings.url,
            "NATS_USER": "system",
            "NATS_PASSWORD": settings.password.get_secret_value(),
            "AGENTOPS_DATA": str(data or self.data),
            "AGENTOPS_LOG_FORMAT": "json",
        }

    async def start(self, patience_s: float = 60.0) -> None:
        """Returns when the warehouse answers."""
        for folder in (self.journals, self.data / "logs"):
            folder.mkdir(parents=True, exist_ok=True)
        self.server = OwnServer(self.data / "nats", None, self.say, lambda: None)
        await self.server.start()
        self._tasks[SERVER] = asyncio.create_task(self.server.keep(), name=SERVER)
        self._client = await connect(self.server.settings(), "chaos")
        await apply(self.client)
        policies = await TypedBucket.open(self.client, topology.CONTENT, ContentPolicy)
        for tenant in TENANTS:
            # The judge reads what stands in dead letters.
            await policies.put(tenant, ContentPolicy(tenant_id=tenant, mode="full"))
        for name in ALL:
            self.begin(name, ("-m", "processors", name))
        async with asyncio.timeout(patience_s):
            while await self.applied() is None:  # noqa: ASYNC110 - nobody tells when a warehouse begins to answer
                await asyncio.sleep(0.1)

    def load(self, load: Load) -> None:
        """Starts the producers."""
        for name in load.producers:
            self.begin(
                name,
                (
                    "-m", "chaos.producer", "--name", name, "--seed", str(load.seed), "--rate", str(load.rate / len(load.producers)),
                    "--directory", str(self.journals), "--late", str(load.late_s),
                ),
            )  # fmt: skip

    def begin(self, name: str, arguments: tuple[str, ...], data: Path | None = None) -> Supervised:
        """Starts a process and keeps it running."""
        child = Child(name, arguments, self.environment(data), Alive(), 2)
        kept = self.children[name] = Supervised(child, self.data / "logs", self.say, lambda: None)
        self._tasks[name] = asyncio.create_task(kept.keep(), name=name)
        return kept

    async def end(self, name: str, within_s: float) -> bool:
        """Asks a process to end and returns whether it did in time."""
        kept = self.children.pop(name)
        ended = await kept.stop(within_s)
        await self._tasks.pop(name)
        return ended

    def pid(self, name: str) -> int | None:
        """Of a process, while it runs."""
        return self.server.pid() if name == SERVER else self.children[name].pid()

    def signal(self, name: str, number: signal.Signals) -> int | None:
        """Sends ``number`` to a process; returns its id, None where it does not run."""
        pid = self.pid(name)
        if pid is None:
            return None
        if name in self.children:
            # What we kill is no crash loop: its supervisor should not lose patience with it.
            self.children[name].failures = 0
        os.kill(pid, number)
        return pid

    async def ask(self, name: str, **parameters: Any) -> dict[str, Any] | None:
        """The answer of a named query; None while nobody answers."""
        try:
            reply = await self.client.request(subjects.query(name), orjson.dumps(parameters), timeout=5)
        except (nats.errors.Error, TimeoutError, OSError):
            return None
        answer: dict[str, Any] = orjson.loads(reply.data)
        return answer if "rows" in answer else None

    async def applied(self) -> Applied | None:
        """How far the warehouse is; None while it does not answer."""
        answer = await self.ask("status")
        if answer is None:
            return None
        rows = {row["stream"]: row for row in answer["rows"]}
        counts = [int(rows[name]["events"]) if name in rows else 0 for name in (topology.EVENTS, topology.LEDGER)]
        return Applied({name: int(row["applied_sequence"]) for name, row in rows.items()}, counts[0], counts[1])

    async def command(self, *arguments: str, within_s: float = 1800.0) -> tuple[int, str]:
        """Exit code and output of ``agentops …``."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "agent_manager.cli", *arguments, env=self.environment(), cwd=ROOT,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        async with asyncio.timeout(within_s):
            out, _ = await process.communicate()
        assert process.returncode is not None
        return process.returncode, out.decode(errors="replace")

    async def stop(self) -> None:
        """Ends every process."""
        await asyncio.gather(*(self.end(name, 8.0) for name in list(self.children)))
        if self._client is not None:
            await self._client.close()
        if SERVER in self._tasks:
            await self.server.stop(8.0)
            await self._tasks.pop(SERVER)
