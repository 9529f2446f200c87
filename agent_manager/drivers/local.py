"""Agents as processes of this machine: one process group each, led by its sidecar."""

import asyncio
import os
import signal
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http import HTTPStatus
from pathlib import Path
from typing import Any, ClassVar, Final

import aiohttp
import structlog

from agent_manager.drivers import command_line, environment, groups, output, ports
from agent_manager.drivers.command_line import CommandLine
from agent_manager.drivers.driver import Exit, ExitNotice, Instance, LaunchError, Ports
from agent_manager.drivers.watching import Watch, describe
from schemas.state import AgentRecord, AgentState, DriverName

log = structlog.get_logger(__name__)

MARGIN_S = 1.0
"""The leader gets this much longer than its agent: it stops the agent first and then says goodbye."""

_RESTARTED = "AGENTOPS_SIDECAR_RESTARTED"
"""Tells a sidecar why its agent is started again."""


_DOOR_S: Final = 0.5
"""A sidecar on this machine answers at its door within this, or not yet."""


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class LocalInstance(Instance):
    """A process group of this machine."""

    driver: ClassVar[DriverName] = "local"

    pid: int
    """Of the leader of its process group."""
    created_at: float
    """When that process was created, as the system says: tells it from a later one with the same id."""
    ports: Ports


@dataclass(slots=True)
class LocalDriver:
    """Starts, stops and adopts process groups. ``notice`` is called when one ends."""

    data: Path
    """Absolute. With what the file system knows it by it marks a process as ours."""
    variables: Mapping[str, str]
    """The manager's environment: what agents inherit and what ``${…}`` is resolved from."""
    sidecar_variables: Mapping[str, str]
    """How a sidecar reaches NATS."""
    notice: ExitNotice
    line: CommandLine = command_line.sidecar
    clock: Callable[[], datetime] = _now
    _watches: dict[str, Watch] = field(default_factory=dict)
    _ports: dict[str, Ports] = field(default_factory=dict)
    _home: str = field(init=False)
    _http: aiohttp.ClientSession | None = None

    def __post_init__(self) -> None:
        self._home = groups.home(self.data)

    def _group(self, tenant: str, agent: str) -> str:
        return groups.group_name(tenant, agent, self._home)

    async def start(
        self, record: AgentRecord, instance_id: str, remembered: AgentState | None, *, restarted: str = ""
    ) -> LocalInstance:
        """Starts the group; raises LaunchError. Whatever was left of the agent is killed first."""
        key = self._group(record.tenant_id, record.agent_id)
        given = environment.resolved(record.environment, self.variables)
        if not Path(record.working_directory).is_dir():
            msg = f"its working directory {record.working_directory} does not exist"
            raise LaunchError(msg)
        if left := await asyncio.to_thread(groups.clear, key):
            log.warning("group.leftovers_killed", agent_id=record.agent_id, processes=left)
        self._ports.pop(key, None)
        chosen = ports.choose(record, remembered, {port for one in self._ports.values() for port in _all(one)})
        started_at = self.clock()
        mark = groups.Mark(
            instance_id=instance_id,
            started_at=started_at.timestamp(),
            agent_port=chosen.agent,
            proxy_port=chosen.proxy,
            door_port=chosen.door,
            version=record.version,
        )
        variables = {
            **environment.inherited(self.variables),
            **given,
            **self.sidecar_variables,
            "AGENTOPS_DATA": str(self.data),
            groups.GROUP: key,
            groups.INSTANCE: mark.model_dump_json(),
            **({_RESTARTED: restarted.replace("\0", " ")} if restarted else {}),
        }
        pid = self._spawn(self.line(record, chosen, self.data), variables, record.agent_id)
        # From here to the watch nothing awaits: a cancelled start must not lose the process.
        created = groups.created_at(pid) or started_at.timestamp()
        instance = LocalInstance(
            record.tenant_id, record.agent_id, instance_id, started_at, record.version, pid, created, chosen
        )  # fmt: skip
        self._ports[key] = chosen
        self._watch(instance, ours=True)
        return instance

    def _spawn(self, line: list[str], variables: dict[str, str], agent: str) -> int:
        try:
            path = output.prepare(self.data, agent)
            # A session of its own makes the sidecar leader of a new group, out of reach of our terminal's Ctrl-C.
            return os.posix_spawn(
                line[0],
                line,
                variables,
                setsid=True,
                setsigdef=[signal.SIGPIPE, signal.SIGXFSZ],
                setsigmask=[],
                file_actions=[
                    (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                    (os.POSIX_SPAWN_OPEN, 1, str(path), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
                    (os.POSIX_SPAWN_DUP2, 1, 2),
                ],
            )
        except OSError as error:
            msg = f"cannot be started: {error.strerror or error} ({error.filename or line[0]})"
            raise LaunchError(msg) from error
        except ValueError as error:
            msg = f"cannot be started: a command or environment value is impossible ({error})"
            raise LaunchError(msg) from error

    def _watch(self, instance: LocalInstance, *, ours: bool) -> Watch:
        watch = Watch(instance.pid, instance.created_at, ours, lambda: self.notice(instance))
        self._watches[instance.instance_id] = watch
        watch.begin()
        return watch

    def observe(self, instance: LocalInstance) -> Exit | None:
        """How ``instance`` ended, or None while it lives."""
        watch = self._watches.get(instance.instance_id)
        return describe(None, self.clock()) if watch is None else watch.poll()

    async def answers(self, instance: LocalInstance) -> bool:
        """Whether its sidecar answers at its door."""
        if self._http is None:
            self._http = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_DOOR_S))
        try:
            async with self._http.get(f"{instance.ports.door_url}/healthz") as answer:
                return answer.status == HTTPStatus.OK
        except (aiohttp.ClientError, TimeoutError, OSError):
            return False

    def told(self, instance: LocalInstance) -> dict[str, Any]:
        """Its leader and its ports."""
        return {
            "pid": instance.pid,
            "process_created_at": instance.created_at,
            "port": instance.ports.agent,
            "proxy_port": instance.ports.proxy,
            "proxy_url": instance.ports.proxy_url,
            "sidecar_url": instance.ports.door_url,
            "resource": None,
            "revision": None,
            "logs_url": None,
        }

    async def stop(self, instance: LocalInstance, patience_s: float, *, restarting: str = "") -> Exit:
        """TERM to the leader; KILL to the whole group after ``patience_s`` and a margin, and to whatever outlives the leader."""
        watch = self._watches.get(instance.instance_id)
        asked = self.clock()
        if watch is not None:
            output.leave(self.data, instance.agent_id, instance.pid, restarting)
            watch.send(signal.SIGTERM)
            try:
                async with asyncio.timeout(patience_s + MARGIN_S):
                    while watch.poll() is None:
                        try:
                            async with asyncio.timeout(0.2):
                                await watch.ended.wait()
                        except TimeoutError:
                            continue
            except TimeoutError:
                log.warning("group.killed", agent_id=instance.agent_id, pid=instance.pid, after_s=patience_s)
        key = self._group(instance.tenant_id, instance.agent_id)
        await asyncio.to_thread(groups.clear, key, also_led_by=(instance.pid, instance.created_at))
        self._ports.pop(key, None)
        self._watches.pop(instance.instance_id, None)
        if watch is None:
            return Exit(asked, "was already gone")
        if watch.poll() is None:
            try:
                async with asyncio.timeout(1):
                    await watch.ended.wait()
            except TimeoutError:
                watch.close()
        return watch.exit or describe(None, self.clock())

    async def adopt(self, record: AgentRecord, remembered: AgentState | None) -> LocalInstance | None:
        """The living group of an earlier manager. Should there be several leaders, all but the remembered one are killed."""
        key = self._group(record.tenant_id, record.agent_id)
        found = await asyncio.to_thread(groups.members, key)
        leaders = [member for member in found if member.leads and member.mark is not None]
        if not leaders:
            return None
        known = remembered.pid if remembered else None
        leaders.sort(key=lambda member: (member.pid != known, -member.created_at))
        chosen, *others = leaders
        for other in others:
            log.warning("group.second_instance_killed", agent_id=record.agent_id, pid=other.pid)
            for member in await asyncio.to_thread(groups.members, key, also_led_by=(other.pid, other.created_at)):
                if member.group == other.pid:
                    groups.kill(member, key)
        mark = chosen.mark
        assert mark is not None
        instance = LocalInstance(
            record.tenant_id, record.agent_id, mark.instance_id, datetime.fromtimestamp(mark.started_at, UTC),
            mark.version, chosen.pid, chosen.created_at, mark.ports,
        )  # fmt: skip
        self._ports[key] = mark.ports
        watch = self._watch(instance, ours=_is_child(chosen.pid))
        return None if watch.exit is not None else instance

    async def close(self) -> None:
        """Lets go; groups run on."""
        for watch in self._watches.values():
            watch.close()
        self._watches.clear()
        if self._http is not None:
            await self._http.close()
            self._http = None


def _all(chosen: Ports) -> tuple[int, int, int]:
    return chosen.agent, chosen.proxy, chosen.door


def _is_child(pid: int) -> bool:
    try:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True
