"""The agent as its sidecar sees it: a command of ours, or an address that somebody else serves."""

import os
from collections.abc import Mapping
from datetime import datetime
from typing import Final

from sidecar.process import AgentProcess, Ended, state
from sidecar.settings import SidecarSettings

_OWN_RIGHTS: Final = frozenset({"NATS_USER", "NATS_PASSWORD", "NATS_TOKEN", "NATS_CREDENTIALS", "NATS_TLS_KEY"})
"""The sidecar may speak for the agent; the agent does not get its rights."""
_OWN_SETTINGS: Final = "AGENTOPS_SIDECAR_"
_DOOR: Final = "AGENTOPS_SIDECAR_URL"
_OTLP_ENDPOINT: Final = "OTEL_EXPORTER_OTLP_ENDPOINT"


def telemetry(settings: SidecarSettings, inherited: Mapping[str, str], door_url: str) -> dict[str, str]:
    """What OpenTelemetry's SDKs read, as far as the operator has not said it: a collector of theirs stays theirs.

    An endpoint that is the door of a sidecar around this one is nobody's choice.
    """
    told = {"OTEL_SERVICE_NAME": settings.agent_id}
    if inherited.get(_OTLP_ENDPOINT) in {None, "", inherited.get(_DOOR)}:
        told |= {_OTLP_ENDPOINT: door_url, "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}
        return {name: value for name, value in told.items() if name.startswith("OTEL_EXPORTER") or name not in inherited}
    return {name: value for name, value in told.items() if name not in inherited}


def environment(
    settings: SidecarSettings, inherited: Mapping[str, str], *, nats_url: str, door_url: str, port: int
) -> dict[str, str]:
    """What the agent's process is told: what was inherited without the sidecar's own, and who it is."""
    given = {name: value for name, value in inherited.items() if name not in _OWN_RIGHTS and not name.startswith(_OWN_SETTINGS)}
    return (
        given
        | telemetry(settings, inherited, door_url)
        | {
            "AGENT_ID": settings.agent_id,
            "AGENT_TYPE": settings.agent_type,
            "AGENT_NAME": settings.shown_name,
            "AGENT_VERSION": settings.version,
            "NATS_URL": nats_url,
            _DOOR: door_url,
            "AGENTOPS_TENANT": settings.tenant,
            "AGENTOPS_WORKSPACE": settings.workspace or "",
            "AGENTOPS_PROJECT": settings.project or "",
            "PORT": str(port),
        }
    )


class Agent:
    """One agent. Its process, where there is one, is begun once; a sidecar never restarts it."""

    def __init__(self, settings: SidecarSettings, began_at: datetime) -> None:
        self._settings = settings
        self._began_at = began_at
        self.process: AgentProcess | None = None
        self.stopping = False

    async def start(self, *, nats_url: str, door_url: str, port: int) -> None:
        """Its process runs or has ended; nothing where it runs elsewhere."""
        if self._settings.url is None:
            told = environment(self._settings, os.environ, nats_url=nats_url, door_url=door_url, port=port)
            log_path = self._settings.agent_directory / "agent.log"
            self.process = AgentProcess(self._settings.command, told, self._settings.working_directory, log_path)
            await self.process.start()

    @property
    def ended(self) -> Ended | None:
        """How its process ended, if it did."""
        return None if self.process is None else self.process.ended

    @property
    def last_pid(self) -> int | None:
        """Its process, alive or not."""
        return self._settings.pid if self.process is None else self.process.pid

    @property
    def started_at(self) -> datetime | None:
        """When its process, or else the watch over it, began."""
        return self._began_at if self.process is None else self.process.started_at

    def pid(self) -> int | None:
        """Its process, if there is one to signal."""
        pid = self.last_pid
        if pid is None or self.ended is not None:
            return None
        return pid if self.process is not None or state(pid) != "no process" else None

    def away(self) -> str | None:
        """Why it cannot be asked anything, if so."""
        if self.stopping:
            return "the agent is being stopped"
        return None if self.ended is None else f"the agent's process ended: {self.ended.how}"
