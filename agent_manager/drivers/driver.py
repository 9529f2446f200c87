"""What every driver can do. An instance is one run of an agent, from its start to its end."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, ClassVar, Protocol, TypeVar

from schemas.state import AgentRecord, AgentState, DriverName


class LaunchError(Exception):
    """An agent could not be started. The message says why; trying again helps once that is mended."""


class StopError(Exception):
    """An agent could not be stopped, and runs on. The message says why; trying again helps once that is mended."""


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
    """One run of an agent. Each driver adds what it knows it by."""

    driver: ClassVar[DriverName]

    tenant_id: str
    agent_id: str
    instance_id: str
    started_at: datetime
    version: str


@dataclass(frozen=True, slots=True)
class Exit:
    """How an instance ended."""

    at: datetime
    reason: str
    code: int | None = None
    """None when it was killed by a signal, or was not our child."""
    signal: str | None = None


Own = TypeVar("Own", bound=Instance)


class Driver(Protocol[Own]):
    """Runs agents, one instance of each at a time; nothing of it is left behind. What it holds of an instance is its own."""

    async def start(self, record: AgentRecord, instance_id: str, remembered: AgentState | None, /, *, restarted: str = "") -> Own:
        """Starts ``record``, first clearing away whatever is left of it; raises LaunchError. ``restarted``: why again.

        Asked twice, one runs. It need not serve yet: ``answers`` says when.
        """

    async def stop(self, instance: Own, patience_s: float, /, *, restarting: str = "") -> Exit:
        """Ends ``instance`` and everything of it: asked first, made to after ``patience_s``; raises StopError.

        ``restarting``: why another instance follows at once; empty where none does.
        """

    def observe(self, instance: Own) -> Exit | None:
        """How ``instance`` ended, or None while it lives."""

    async def answers(self, instance: Own) -> bool:
        """Whether ``instance`` has come up."""

    def told(self, instance: Own) -> dict[str, Any]:
        """The fields of AgentState that say where ``instance`` runs, as of now."""

    async def adopt(self, record: AgentRecord, remembered: AgentState | None) -> Own | None:
        """The instance that an earlier manager started and that still runs, if any. Waits for nobody long."""

    async def close(self) -> None:
        """Lets go of everything; instances run on."""


ExitNotice = Callable[[Instance], None]
"""Called as soon as something new is known of an instance: above all that it has ended."""
