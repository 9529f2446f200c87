"""Process groups of agents, found by the mark that each of their processes carries in its environment.

The mark, not a remembered process id, says what is ours: ids are reused, and a manager may die between starting a
process and writing it down.
"""

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psutil
from pydantic import BaseModel, ConfigDict, ValidationError

from agent_manager.drivers.driver import Ports

GROUP: Final = "AGENTOPS_GROUP"
INSTANCE: Final = "AGENTOPS_INSTANCE"


class Mark(BaseModel):
    """What the environment of a leader tells of its instance."""

    model_config = ConfigDict(frozen=True)

    instance_id: str
    started_at: float
    agent_port: int
    proxy_port: int
    door_port: int
    version: str

    @property
    def ports(self) -> Ports:
        """Where it listens."""
        return Ports(self.agent_port, self.proxy_port, self.door_port)


@dataclass(frozen=True, slots=True)
class Member:
    """One process of an agent's group."""

    pid: int
    created_at: float
    leads: bool
    mark: Mark | None


def group_name(tenant: str, agent: str, data: Path) -> str:
    """Names one agent of one data directory: two systems on a machine leave each other alone."""
    return f"{tenant}.{agent}@{data}"


def _environment(pid: int) -> dict[str, str] | None:
    try:
        return psutil.Process(pid).environ()
    except (psutil.Error, OSError):
        return None


def _created(pid: int) -> float | None:
    """When ``pid`` was created; None when it is gone or a zombie."""
    try:
        process = psutil.Process(pid)
        return None if process.status() == psutil.STATUS_ZOMBIE else process.create_time()
    except (psutil.Error, OSError):
        return None


def created_at(pid: int) -> float | None:
    """When the living process ``pid`` was created; None when there is none."""
    return _created(pid)


def members(group: str, *, also_led_by: tuple[int, float] | None = None) -> list[Member]:
    """Every living process that carries the mark ``group``, or sits in the process group of the leader named.

    ``also_led_by`` is the id and creation time of a leader just seen: its group counts even without the mark, unless
    its id belongs to another process by now.
    """
    if also_led_by is not None and (now_there := _created(also_led_by[0])) is not None and abs(now_there - also_led_by[1]) > 2:
        also_led_by = None
    found = []
    for pid in psutil.pids():
        environment = _environment(pid)
        marked = environment is not None and environment.get(GROUP) == group
        try:
            leader = os.getpgid(pid)
        except OSError:
            continue
        led = also_led_by is not None and leader == also_led_by[0]
        if not (marked or led) or (created := _created(pid)) is None:
            continue
        if not marked and also_led_by is not None and created < also_led_by[1] - 2:
            continue
        found.append(Member(pid, created, leads=leader == pid, mark=_mark(environment)))
    return found


def _mark(environment: dict[str, str] | None) -> Mark | None:
    text = (environment or {}).get(INSTANCE)
    if text is None:
        return None
    try:
        return Mark.model_validate_json(text)
    except ValidationError:
        return None


def clear(group: str, *, also_led_by: tuple[int, float] | None = None, within_s: float = 3.0) -> int:
    """SIGKILL to every member until none is left; returns how many there were. Blocks: call it in a thread."""
    killed: set[int] = set()
    deadline = time.monotonic() + within_s
    while True:
        left = members(group, also_led_by=also_led_by)
        if not left or time.monotonic() > deadline:
            return len(killed)
        for member in left:
            killed.add(member.pid)
            try:
                os.kill(member.pid, signal.SIGKILL)
            except OSError:
                continue
        time.sleep(0.01)
