"""From bytes on a subject to a command, or to a clear no. Pure."""

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, get_args

from pydantic import ConfigDict, JsonValue, ValidationError

from agent_manager.lifecycle.jobs import Code
from schemas.commands import Command, CommandName
from schemas.errors import FieldError, field_errors
from schemas.ids import derived_id, is_token
from schemas.model import Identifier, Instant, Lenient, Name, Token

MOST_BYTES: Final = 64 * 1024
"""A command is small; what is larger is refused, so that its audit record always fits."""
_TOKENS: Final = 4
LASTING: Final = timedelta(seconds=60)
"""How long a command from the bridge stays good when it does not say."""


@dataclass(frozen=True, slots=True)
class Sender:
    """What the subject says: whose agent, who asks, which agent."""

    tenant: str
    user: str
    agent: str


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Not a command. ``command_id`` is its own where it has a usable one, else derived."""

    code: Code
    message: str
    command_id: str
    command: str
    agent_id: str
    errors: tuple[FieldError, ...] = ()


def sender(subject: str) -> Sender:
    """The three tokens of ``command.<tenant>.<user>.<agent_id>``."""
    parts = subject.split(".")
    if len(parts) != _TOKENS:
        return Sender("unknown", "unknown", "unknown")
    return Sender(*(part if is_token(part) else "unknown" for part in parts[1:]))


def identity(subject: str, command_id: str) -> str:
    """Names a command for ever. The subject is part of it: nobody can spend another sender's command id."""
    return str(derived_id("command", subject, command_id))


def _loose(body: bytes) -> dict[str, Any]:
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def read(body: bytes, subject: str, fallback_id: str) -> Command | Unreadable:
    """The command in ``body``; ``fallback_id`` names it where it does not name itself usably."""
    asked = sender(subject)
    loose = _loose(body)
    given = loose.get("command_id")
    command_id = given if isinstance(given, str) and is_token(given) else fallback_id
    name = loose.get("command")
    # It is told in the audit record, which takes no NUL and no half characters.
    shown = name[:64] if isinstance(name, str) and name and name.isprintable() else "unknown"
    if len(body) > MOST_BYTES:
        return Unreadable("invalid", f"{len(body)} bytes; at most {MOST_BYTES}", command_id, shown, asked.agent)
    if isinstance(name, str) and name not in get_args(CommandName):
        known = ", ".join(get_args(CommandName))
        return Unreadable("unknown_command", f"no command {shown!r}; there are {known}", command_id, shown, asked.agent)
    try:
        command = Command.model_validate_json(body)
    except ValidationError as error:
        errors = field_errors(error)
        message = "; ".join(one.told() for one in errors[:3])
        return Unreadable("invalid", message, command_id, shown, asked.agent, errors)
    if not is_token(command.command_id):
        problem = FieldError(loc="$.command_id", msg="use 1 to 64 of A-Z a-z 0-9 _ -", value=command.command_id[:120])
        return Unreadable("invalid", "$.command_id cannot stand in a subject", command_id, shown, asked.agent, (problem,))
    if command.agent_id != asked.agent:
        problem = FieldError(loc="$.agent_id", msg=f"the subject names {asked.agent}", value=command.agent_id)
        return Unreadable("invalid", "$.agent_id differs from the subject", command_id, shown, asked.agent, (problem,))
    return command


class BridgeCommand(Lenient):
    """The documented request on ``agent.manager.command``; everything but command and agent may be left out."""

    model_config = ConfigDict(strict=True)

    command: Name
    agent_id: Token
    params: dict[str, JsonValue] = {}
    timestamp: Instant | None = None
    command_id: Identifier | None = None
    expires_at: Instant | None = None
    tenant_id: Token | None = None
    """Needed only when two tenants have an agent of this name."""


def complete(asked: BridgeCommand, command_id: str, now: datetime) -> dict[str, Any]:
    """The same as a full command, JSON-like, still to be judged."""
    expires = asked.expires_at or now + LASTING
    return {
        "command_id": command_id,
        "command": asked.command,
        "agent_id": asked.agent_id,
        "params": asked.params,
        "timestamp": (asked.timestamp or now).isoformat(),
        "expires_at": expires.isoformat(),
    }
