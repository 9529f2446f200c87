"""What a browser may ask for, read strictly: everything from a tab is a stranger's word."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from pydantic import JsonValue, ValidationError

from schemas.commands import Command, CommandName, FaultParams
from schemas.ids import is_token
from schemas.model import Identifier, Wire

LATENCY_MS: Final = 2500.0
"""What *Inject latency* adds to every request."""
FAULT_S: Final = 300.0
"""How long an injected fault lasts unless cleared."""
EXPIRES: Final = timedelta(seconds=60)
"""A command nobody picked up by then is gone, and said to be."""


@dataclass(frozen=True, slots=True)
class Order:
    """A button: what to command of which agent, and how to say it."""

    tenant: str
    agent_id: str
    command: CommandName
    params: dict[str, JsonValue]
    doing: str
    done: str

    @property
    def key(self) -> str:
        """``<tenant>.<agent_id>``."""
        return f"{self.tenant}.{self.agent_id}"

    def message(self, command_id: str, now: datetime) -> Command:
        """The command as it goes over the wire."""
        return Command(
            command_id=command_id,
            command=self.command,
            agent_id=self.agent_id,
            params=self.params,
            timestamp=now,
            expires_at=now + EXPIRES,
            issued_by="dashboard",
        )


@dataclass(frozen=True, slots=True)
class Acknowledge:
    """A person has seen an alert."""

    alert_id: str


@dataclass(frozen=True, slots=True)
class Painted:
    """The tab has drawn frame ``sequence``."""

    sequence: int


@dataclass(frozen=True, slots=True)
class Nonsense:
    """Nothing a page of ours would send."""

    reason: str


class _FromTab(Wire):
    painted: int | None = None
    action: Identifier | None = None
    agent: Identifier | None = None
    alert: Identifier | None = None


def _fault(params: FaultParams) -> dict[str, JsonValue]:
    return params.model_dump(mode="json", exclude_none=True)


def _orders() -> dict[str, tuple[CommandName, dict[str, JsonValue], str, str]]:
    latency = FaultParams(kind="latency", latency_ms=LATENCY_MS, duration_s=FAULT_S, reason="injected from the dashboard")
    error = FaultParams(kind="error", rate=1.0, duration_s=FAULT_S, reason="injected from the dashboard")
    return {
        "inject-latency": ("inject_fault", _fault(latency), "Injecting latency", "Latency injected"),
        "inject-error": ("inject_fault", _fault(error), "Injecting errors", "Errors injected"),
        "clear": ("clear_faults", {}, "Clearing faults", "Faults cleared"),
        "recover": ("recover", {}, "Recovering", "Recovered"),
        "start": ("start", {}, "Starting", "Started"),
        "stop": ("stop", {}, "Stopping", "Stopped"),
        "restart": ("restart", {}, "Restarting", "Restarted"),
        "healing-on": ("set_healing", {"enabled": True}, "Switching self-healing on", "Self-healing on"),
        "healing-off": ("set_healing", {"enabled": False}, "Switching self-healing off", "Self-healing off"),
    }


ORDERS: Final = _orders()


def read(said: Any) -> Order | Acknowledge | Painted | Nonsense:
    """What a message from a tab asks for."""
    if not isinstance(said, Mapping):
        return Nonsense("not an object")
    try:
        given = _FromTab.model_validate(dict(said))
    except ValidationError as error:
        return Nonsense(f"{error.error_count()} fields are wrong")
    if given.painted is not None:
        return Painted(given.painted)
    if given.action == "acknowledge" and given.alert is not None:
        return Acknowledge(given.alert)
    tenant, _, agent_id = (given.agent or "").partition(".")
    if given.action not in ORDERS:
        return Nonsense("no such action")
    if not (is_token(tenant) and is_token(agent_id)):
        return Nonsense("no such agent")
    command, params, doing, done = ORDERS[given.action]
    return Order(tenant, agent_id, command, dict(params), doing, done)
