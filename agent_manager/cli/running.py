"""``up.json``: what a running ``agentops up`` tells whoever has the data directory."""

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

FILE: Final = "up.json"
LOCK: Final = "up.lock"


@dataclass(frozen=True, slots=True)
class Login:
    """A NATS user of the embedded server."""

    user: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Where the parts of a running system are."""

    nats_url: str
    data: str
    pid: int
    """Of ``agentops up`` itself."""
    monitor_url: str | None = None
    dashboard_url: str | None = None
    gateway_url: str | None = None
    api_url: str | None = None
    demo: bool = False
    users: Mapping[str, Login] = field(default_factory=dict)
    health: Mapping[str, str] = field(default_factory=dict)
    """Health door by service."""
    processes: Mapping[str, int] = field(default_factory=dict)
    """Process id by service; services are restarted under new ids."""


def write(directory: Path, endpoints: Endpoints) -> None:
    """Replaces ``up.json`` whole; only its owner may read it, it holds passwords."""
    path = directory / FILE
    fresh = path.with_suffix(".new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(json.dumps(asdict(endpoints), indent=1) + "\n")
    fresh.replace(path)


def remove(directory: Path) -> None:
    """The system is no longer running."""
    (directory / FILE).unlink(missing_ok=True)


class UnreadableError(ValueError):
    """``up.json`` is there but cannot be read as such."""


def parse(text: str) -> Endpoints:
    """What ``up.json`` says; raises UnreadableError."""
    try:
        said: dict[str, Any] = json.loads(text)
        users = {name: Login(login["user"], login["password"]) for name, login in said.get("users", {}).items()}
        known = {name: said[name] for name in Endpoints.__slots__ if name in said and name != "users"}
        return Endpoints(users=users, **known)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        msg = f"{type(error).__name__}: {error}"
        raise UnreadableError(msg) from error


def read(directory: Path) -> Endpoints | None:
    """The running system of ``directory``; None where none was left running. Raises UnreadableError, PermissionError."""
    try:
        text = (directory / FILE).read_text(encoding="utf-8")
    except (FileNotFoundError, NotADirectoryError):
        return None
    return parse(text)


def alive(pid: int) -> bool:
    """Whether a process with this id exists."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
