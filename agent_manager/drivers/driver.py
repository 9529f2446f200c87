"""What every driver can do. An instance is one run of an agent, from its start to its end."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from schemas.state import AgentRecord, AgentState


class LaunchError(Exception):
    """An agent could not be started. The message says why; trying again helps once that is mended."""


@dataclass(frozen=True, slots=True)
class Ports:
    """Where one instance listens, all on loopback."""

    agent: int
    proxy: int
    """The sidecar, answering for the agent."""
    door: int
    """The sidecar's own door: health, events."""

    @property
    def proxy_url(self) -> str:
        """Where requests for the agent go."""
        return f"http://127.0.0.1:{self.proxy}"

    @property
    def door_url(self) -> str:
        """Where the sidecar itself answers."""
        return f"http://127.0.0.1:{self.door}"


@dataclass(frozen=True, slots=True)
class Instance:
    """One run of an agent."""

    tenant_id: str
    agent_id: str
    instance_id: str
    pid: int
    """Of the leader of its process group."""
    created_at: float
    """When that process was created, as the system says: tells it from a later one with the same id."""
    started_at: datetime
    ports: Ports
    version: str


@dataclass(frozen=True, slots=True)
class Exit:
    """How an instance ended."""

    at: datetime
    reason: str
    code: int | None = None
    """None when it was killed by a signal, or was not our child."""
    signal: str | None = None


class Driver(Protocol):
    """Runs agents. One instance of an agent at a time; nothing of it is left behind."""

    async def start(
        self, record: AgentRecord, instance_id: str, remembered: AgentState | None, *, restarted: str = ""
    ) -> Instance:
        """Starts ``record``, first clearing away whatever is left of it; raises LaunchError. ``restarted``: why again."""

    async def stop(self, instance: Instance, patience_s: float, *, restarting: str = "") -> Exit:
        """Ends ``instance`` and everything in its group: asked first, made to after ``patience_s``.

        ``restarting``: why another instance follows at once; empty where none does.
        """

    def observe(self, instance: Instance) -> Exit | None:
        """How ``instance`` ended, or None while it lives."""

    async def adopt(self, tenant: str, agent: str, remembered: AgentState | None) -> Instance | None:
        """The instance that an earlier manager started and that still runs, if any."""

    async def close(self) -> None:
        """Lets go of everything; instances run on."""


ExitNotice = Callable[[Instance], None]
"""Called as soon as an instance is seen to have ended."""
