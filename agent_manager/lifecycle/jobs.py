"""One command on its way through an agent's queue, and what becomes of it."""

import asyncio
from dataclasses import dataclass, field
from typing import Any, Literal

from schemas.commands import Command

Code = Literal["invalid", "unknown_agent", "expired", "failed", "refused", "timeout", "unknown_command"]


@dataclass(frozen=True, slots=True)
class Done:
    """Carried out."""

    result: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Refused:
    """Not carried out, or not to the end; ``message`` says why."""

    code: Code
    message: str
    details: dict[str, Any] = field(default_factory=dict)


Outcome = Done | Refused


@dataclass(slots=True)
class Job:
    """A command waiting for its turn."""

    command: Command
    by: str
    """The pinned user token of its subject."""
    identity: str
    """Names this command for ever: what it causes is derived from it, so that twice is as good as once."""
    outcome: asyncio.Future[Outcome]
