"""Commands to the agent manager and its answers."""

from typing import Any, Literal

from pydantic import Field, JsonValue

from schemas.model import Identifier, Instant, Lenient, Name, Text, Token, Wire
from schemas.sections import FaultKind

CommandName = Literal[
    "start", "stop", "restart", "recover", "status", "inject_fault", "clear_faults", "set_healing", "set_maintenance",
    "register", "update", "delete", "promote", "rollback", "canary",
]  # fmt: skip
"""``recover`` clears the agent's faults, restarts it and verifies; ``set_healing`` takes ``{"enabled": bool}``, ``set_maintenance``
``{"until": moment or null}``; those from
``register`` on change the registry, with the parameters of ``schemas.versions``."""


class Command(Wire):
    """Something asked of one agent. Who asked is the user token of its subject, never a field."""

    command_id: Identifier
    command: CommandName
    agent_id: Token
    params: dict[str, JsonValue] = {}
    timestamp: Instant
    expires_at: Instant
    issued_by: Name | None = None
    """A note for people; not what is authorised or audited as the sender."""


class FaultParams(Wire):
    """``params`` of ``inject_fault``."""

    kind: FaultKind
    duration_s: float = Field(default=300.0, gt=0, le=86_400)
    latency_ms: float | None = Field(default=None, ge=0, le=600_000)
    jitter_ms: float | None = Field(default=None, ge=0, le=600_000)
    rate: float | None = Field(default=None, ge=0, le=1)
    status_code: int | None = Field(default=None, ge=400, le=599)
    retry_after_s: float | None = Field(default=None, ge=0, le=86_400)
    intensity: float | None = Field(default=None, gt=0, le=1e9)
    """``throttle``: bytes a second; ``truncate``: bytes that come; ``cpu_pressure``: cores; ``memory_pressure``: megabytes."""
    seed: int | None = Field(default=None, ge=0)
    """Makes the share of requests that ``rate`` strikes the same ones every time."""
    begins_in_s: float | None = Field(default=None, gt=0, le=86_400)
    """Not in force before; ``duration_s`` counts from then."""
    reason: Text | None = None


class CommandError(Lenient):
    """Why a command was not carried out."""

    code: Literal["invalid", "unknown_agent", "expired", "failed", "refused", "timeout", "unknown_command"]
    message: Text
    details: dict[str, Any] = {}


class CommandResponse(Lenient):
    """What became of a command."""

    status: Literal["success", "error"]
    command: str
    agent_id: str
    command_id: Identifier
    result: dict[str, Any] | None = None
    error: CommandError | None = None
    timestamp: Instant


class AuditRecord(Lenient):
    """One line of the audit trail: a command and its outcome, or something done automatically."""

    audit_id: Identifier
    at: Instant
    tenant_id: Token
    agent_id: Token
    actor: Name
    """The pinned user token of the command's subject, or ``healing``, ``reconcile``, ``discovery``."""
    action: Name
    params: dict[str, Any] = {}
    outcome: Literal["success", "error"]
    reason: Text = ""
    command_id: Identifier | None = None
    duration_ms: float | None = None
