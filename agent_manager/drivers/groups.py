"""Process groups of agents, found by the mark that each of their processes carries in its environment.

The mark, not a remembered process id, says what is ours: ids are reused, a manager may die between starting a process
and writing it down, and what is written down in a data directory is copied with it.
"""

import os
import signal
import time
from collections.abc import Callable
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
    group: int
    """Id of the process group it sits in: its leader's process id."""
    mark: Mark | None

    @property
    def leads(self) -> bool:
        """Whether it leads its process group."""
        return self.pid == self.group


def home(data: Path) -> str:
    """Names one data directory and none of its copies, wherever they lie or are moved to. It is made if need be.

    Read it once and keep it: who removes a directory under a running manager does not take its processes away from it.
    """
    data = data.resolve()
    data.mkdir(parents=True, exist_ok=True)
    found = data.stat()
    return f"{found.st_dev:x}:{found.st_ino:x}:{data}"


def group_name(tenant: str, agent: str, of: str) -> str:
    """Names one agent of the ``home`` given: two systems on a machine leave each other alone."""
    return f"{tenant}.{agent}@{of}"


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
        found.append(Member(pid, created, leader, _mark(environment)))
    return found


def _mark(environment: dict[str, str] | None) -> Mark | None:
    text = (environment or {}).get(INSTANCE)
    if text is None:
        return None
    try:
        return Mark.model_validate_json(text)
    except ValidationError:
        return None


def send(pid: int, number: signal.Signals, is_meant: Callable[[], bool]) -> bool:
    """Signals ``pid`` if ``is_meant`` says so of the process that has this id now; returns whether it got the signal.

    The process is held by a descriptor while it is asked: an id that passes to another meanwhile reaches nobody. Where there
    are no such descriptors the look comes right before the signal.
    """
    try:
        descriptor = os.pidfd_open(pid)
    except AttributeError:
        descriptor = None
    except OSError:
        return False
    try:
        if not is_meant():
            return False
        if descriptor is None:
            os.kill(pid, number)
        else:
            signal.pidfd_send_signal(descriptor, number)
    except OSError:
        return False
    finally:
        if descriptor is not None:
            os.close(descriptor)
    return True


def _is_still(member: Member, group: str) -> bool:
    """Whether ``member`` is the process that was found: it carries the mark, or sits where it sat since before the look."""
    if (_environment(member.pid) or {}).get(GROUP) == group:
        return True
    try:
        return os.getpgid(member.pid) == member.group and _created(member.pid) == member.created_at
    except OSError:
        return False


def kill(member: Member, group: str) -> bool:
    """SIGKILL to ``member`` of ``group``, never to another that has its id by now; returns whether it was sent."""
    return send(member.pid, signal.SIGKILL, lambda: _is_still(member, group))


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
            kill(member, group)
        time.sleep(0.01)


def at_home(of: str) -> dict[str, tuple[int, float] | None]:
    """The groups of every agent of a ``home`` that still has living processes, with the leader where there is one."""
    found: dict[str, tuple[int, float] | None] = {}
    for pid in psutil.pids():
        environment = _environment(pid)
        if environment is None or environment.get(GROUP, "").partition("@")[2] != of or (created := _created(pid)) is None:
            continue
        group = environment[GROUP]
        found.setdefault(group, None)
        try:
            if os.getpgid(pid) == pid:
                found[group] = pid, created
        except OSError:
            continue
    return found


def agent_of(group: str) -> str:
    """The agent's id in the name of its group."""
    return group.partition("@")[0].partition(".")[2]
