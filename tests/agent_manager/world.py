"""A manager on a real nats-server, with stand-in leaders, and what a test needs to command and watch it."""

import asyncio
import json
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import yaml
from nats.aio.client import Client

from agent_manager.app import Manager
from agent_manager.drivers import groups
from agent_manager.drivers.command_line import CommandLine
from agent_manager.drivers.driver import Ports
from agent_manager.settings import ManagerSettings
from schemas.commands import AuditRecord, CommandResponse
from schemas.sections import AgentStatus, HealthStatus
from schemas.state import AgentRecord, AgentState, FaultSet, Observation
from streams import subjects, topology
from streams.embedded import EmbeddedServer
from streams.kv import TypedBucket
from tests.conftest import until

LEADER = Path(__file__).with_name("leader.py")
TENANT = "acme"


def line(record: AgentRecord, ports: Ports, data: Path) -> list[str]:
    return [sys.executable, "-I", "-S", str(LEADER), record.agent_id, str(ports.door), str(data)]


def now() -> datetime:
    return datetime.now(UTC)


def write_manifest(folder: Path, agent: str, **more: Any) -> Path:
    path = folder / agent / "agent.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    content = {"agent_id": agent, "command": ["python", "-c", "pass"], "tenant": {"tenant_id": TENANT}} | more
    path.write_text(yaml.safe_dump(content))
    return path


@dataclass(slots=True)
class World:
    """One data directory, one agents folder, one NATS; managers come and go."""

    server: EmbeddedServer
    client: Client
    data: Path
    agents: Path
    options: dict[str, Any] = field(default_factory=dict)
    line: CommandLine = line
    clock: Callable[[], datetime] = now
    """The manager's clock."""
    manager: Manager | None = None
    _stop: asyncio.Event | None = None
    _task: asyncio.Task[None] | None = None

    def settings(self) -> ManagerSettings:
        quick: dict[str, Any] = {
            "data": self.data,
            "agents": str(self.agents),
            "discovery_interval_s": 0.1,
            "grace_s": 0.2,
            "start_patience_s": 5.0,
            "verify_s": 3.0,
            "tick_s": 0.2,
        }
        return ManagerSettings(**(quick | self.options))

    async def start(self) -> None:
        self.manager = manager = Manager(self.settings(), self.server.settings(), line=self.line, clock=self.clock)
        self._stop = asyncio.Event()
        self._task = asyncio.create_task(manager.run(self._stop))
        task = self._task

        def ready() -> bool:
            if task.done():
                task.result()
            return not manager.waiting_for()

        await until(ready, "the manager is ready")

    async def stop(self) -> None:
        if self._task is not None and self._stop is not None:
            self._stop.set()
            await self._task
        self._task = None

    async def close(self) -> None:
        """Ends everything; nothing of any agent may be left behind."""
        await self.stop()
        for folder in (self.data / "agents").glob("*"):
            await asyncio.to_thread(groups.clear, self.group(folder.name))

    def group(self, agent: str) -> str:
        return groups.group_name(TENANT, agent, groups.home(self.data))

    def members(self, agent: str) -> list[int]:
        return [member.pid for member in groups.members(self.group(agent))]

    def launches(self, agent: str) -> list[str]:
        path = self.data / "agents" / agent / "launches"
        return path.read_text().splitlines() if path.exists() else []

    async def state(self, agent: str) -> AgentState | None:
        bucket = await TypedBucket.open(self.client, topology.AGENT_STATES, AgentState)
        entry = await bucket.get(f"{TENANT}.{agent}")
        return entry.value if entry else None

    async def faults(self, agent: str) -> list[str]:
        bucket = await TypedBucket.open(self.client, topology.FAULTS, FaultSet)
        entry = await bucket.get(f"{TENANT}.{agent}")
        return [fault.kind for fault in entry.value.faults] if entry and entry.value else []

    async def becomes(self, agent: str, status: AgentStatus, within_s: float = 10.0) -> AgentState:
        async def reached() -> bool:
            state = await self.state(agent)
            return state is not None and state.status == status

        await until(reached, f"{agent} is {status}", within_s)
        state = await self.state(agent)
        assert state is not None
        return state

    async def judged(
        self, agent: str, health: HealthStatus, status: AgentStatus = "running", *, since: datetime | None = None, **more: Any
    ) -> None:
        """Says about ``agent`` what the health processor would."""
        bucket = await TypedBucket.open(self.client, topology.OBSERVATIONS, Observation)
        at = now()
        more = {"last_heartbeat": at, "updated_at": at} | more
        value = Observation(agent_id=agent, tenant_id=TENANT, health=health, status=status, since=since or at, **more)
        await bucket.put(f"{TENANT}.{agent}", value)

    def request(self, command: str, agent: str, lasting_s: float = 30.0, **params: Any) -> dict[str, Any]:
        return {
            "command_id": uuid4().hex,
            "command": command,
            "agent_id": agent,
            "params": params,
            "timestamp": now().isoformat(),
            "expires_at": (now() + timedelta(seconds=lasting_s)).isoformat(),
        }

    async def tell(
        self, command: str, agent: str, user: str = "tester", within_s: float = 20.0, **params: Any
    ) -> CommandResponse:
        return await self.send(self.request(command, agent, **params), user=user, within_s=within_s)

    async def send(self, body: dict[str, Any], user: str = "tester", within_s: float = 20.0) -> CommandResponse:
        answers = await self.client.subscribe(subjects.command_response(body["command_id"]))
        await self.publish(body, user)
        try:
            message = await answers.next_msg(timeout=within_s)
        finally:
            await answers.unsubscribe()
        return CommandResponse.model_validate_json(message.data)

    async def publish(self, body: dict[str, Any], user: str = "tester") -> None:
        subject = subjects.command(TENANT, user, body["agent_id"])
        await self.client.jetstream().publish(subject, json.dumps(body).encode())

    async def audit(self) -> list[AuditRecord]:
        found = []
        subscription = await self.client.jetstream().subscribe(subjects.ALL_AUDIT, ordered_consumer=True)
        try:
            while True:
                message = await subscription.next_msg(timeout=0.3)
                found.append(AuditRecord.model_validate_json(message.data))
        except TimeoutError:
            return found
        finally:
            await subscription.unsubscribe()

    async def audited(self, command_id: str) -> AuditRecord:
        found: list[AuditRecord] = []

        async def recorded() -> bool:
            found[:] = [record for record in await self.audit() if record.command_id == command_id]
            return bool(found)

        await until(recorded, f"command {command_id} is in the audit trail")
        assert len(found) == 1
        return found[0]
