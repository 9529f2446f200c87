"""One sidecar, put together: agent, door, proxy, probes, faults, heart, spool, NATS."""

import asyncio
import os
import secrets
import socket
import time
from collections.abc import Coroutine
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal

import orjson
import structlog
from aiohttp import web

from schemas.events import Event
from schemas.ids import uuid7
from schemas.sections import AgentStatus, Tenant
from schemas.state import ProbeConfig
from service.door import HealthDoor
from service.signals import stop_event
from sidecar import reports
from sidecar.control import AgentTopics, FaultWatch
from sidecar.door import Door
from sidecar.enforcement import Enforcer
from sidecar.fault_memory import FaultMemory
from sidecar.heartbeats import Heart
from sidecar.probing import Prober
from sidecar.process import AgentProcess, Ended, state
from sidecar.proxy import Proxy
from sidecar.sampling import Sampler
from sidecar.settings import SidecarSettings
from sidecar.shipping import Nats, Shipper
from sidecar.spool import Spool, SpoolBusyError
from streams.settings import NatsSettings

log = structlog.get_logger(__name__)

_FLUSH_S: Final = 2.0
_PATIENCE_S: Final = 3.0
"""For ports and spool of a sidecar that is just ending."""
_OWN_RIGHTS: Final = ("NATS_USER", "NATS_PASSWORD", "NATS_TOKEN", "NATS_CREDENTIALS", "NATS_TLS_KEY")
"""The sidecar may speak for the agent; the agent does not get its rights."""


class CannotStartError(RuntimeError):
    """The sidecar could not begin. The message says why and what to do."""


def _new_id() -> Any:
    return uuid7(time.time_ns() // 1_000_000, secrets.randbits(74))


def free_port(host: str = "127.0.0.1") -> int:
    """A TCP port nobody listens on now."""
    with socket.socket() as found:
        found.bind((host, 0))
        port: int = found.getsockname()[1]
        return port


class _Listener:
    """One HTTP application on one port."""

    def __init__(self, application: web.Application, host: str, port: int, what: str, **options: Any) -> None:
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.5, **options)
        self._host = host
        self._what = what
        self._site: web.TCPSite | None = None
        self.port = port

    async def start(self) -> None:
        """Listens; raises CannotStartError where the port stays taken."""
        await self._runner.setup()
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            self._site = web.TCPSite(self._runner, self._host, self.port)
            try:
                await self._site.start()
            except OSError as error:
                if self.port == 0 or time.monotonic() > deadline:
                    await self._runner.cleanup()
                    raise CannotStartError(
                        f"cannot listen on {self._host}:{self.port} for the {self._what} ({error.strerror}): "
                        "stop what listens there, or choose another port"
                    ) from error
                await asyncio.sleep(0.1)
            else:
                self.port = int(self._runner.addresses[0][1])
                return

    async def refuse(self) -> None:
        """Takes no new connections; what is in flight goes on."""
        if self._site is not None:
            await self._site.stop()
            self._site = None

    async def stop(self) -> None:
        """Closes."""
        await self._runner.cleanup()


class Sidecar:
    """``start``, then ``run`` until it is time, then ``stop``."""

    def __init__(self, settings: SidecarSettings, nats_settings: NatsSettings) -> None:
        self._settings = settings
        self._nats_settings = nats_settings
        self._began_at = datetime.now(UTC)
        self._directory = settings.agent_directory
        self._tasks: list[asyncio.Task[None]] = []
        self._told: tuple[str, str] | None = None
        self._stopping = False
        self._agent: AgentProcess | None = None
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            self._spool = Spool.open(
                settings.spool_directory, settings.spool_max_bytes, sync=settings.spool_sync, patience_s=_PATIENCE_S
            )
        except (OSError, SpoolBusyError) as error:
            raise CannotStartError(f"{error}; or choose another data directory with --data") from error
        self._agent_port = settings.port or (free_port() if settings.url is None else 0)
        self._target = settings.url or f"http://127.0.0.1:{self._agent_port}"
        self._nats = Nats(nats_settings, f"sidecar-{settings.agent_id}")
        self._shipper = Shipper(
            self._spool, self._nats, settings.tenant, settings.agent_id, settings.spool_directory / "refused.ndjson"
        )
        self._sampler = Sampler()
        self._heart = Heart(settings.heartbeat_s, self._beat)
        # The proxy's address is part of every report, so its port must be known before the proxy listens.
        port = settings.proxy_port or free_port(settings.host)
        self._identity = reports.Identity(
            tenant=Tenant(tenant_id=settings.tenant, workspace_id=settings.workspace, project_id=settings.project),
            agent_id=settings.agent_id,
            name=settings.name or settings.agent_id,
            version=settings.version,
            agent_type=settings.agent_type,
            proxy_url=f"http://{settings.advertise or settings.host}:{port}",
        )
        self._enforcer = Enforcer(
            self._identity, FaultMemory(self._directory / "faults.json"), self._pid, self._shipper.report, self._heart.changed
        )
        self._prober = Prober(
            self._target, self._probes(), self._pid, self._heart.changed, grace_s=settings.start_grace_s
        )  # fmt: skip
        self._proxy = Proxy(self._target, self._enforcer, self._away, lambda: self._agent_status() == "starting")
        self._health_door = HealthDoor("sidecar", self._waiting_for)
        door = Door(settings.tenant, self._shipper, self._health_door)
        self._door_listener = _Listener(door.application(), settings.host, settings.door_port, "door")
        self._proxy_listener = _Listener(
            self._proxy.application(), settings.host, port, "proxy", auto_decompress=False, handler_cancellation=True
        )
        self._topics = AgentTopics(self._nats, settings.agent_id, self.status)
        self._faults = FaultWatch(self._nats, settings.tenant, settings.agent_id, self._enforcer.ask)

    def _probes(self) -> tuple[ProbeConfig, ...]:
        if self._settings.probes:
            return self._settings.probes
        has_process = self._settings.url is None or self._settings.pid is not None
        return (ProbeConfig(kind="process" if has_process else "tcp"),)

    # What is so now

    def _ended(self) -> Ended | None:
        return None if self._agent is None else self._agent.ended

    def _pid(self) -> int | None:
        if self._settings.url is not None:
            pid = self._settings.pid
            return pid if pid is not None and state(pid) != "no process" else None
        if self._agent is None or self._agent.ended is not None:
            return None
        return self._agent.pid

    def _away(self) -> str | None:
        if self._stopping:
            return "the agent is being stopped"
        ended = self._ended()
        return None if ended is None else f"the agent's process ended: {ended.how}"

    def _waiting_for(self) -> dict[str, str]:
        missing = {}
        if self._nats.client is None:
            missing["nats"] = "not connected; events wait on disk"
        if (ended := self._ended()) is not None:
            missing["agent"] = f"its process ended: {ended.how}"
        return missing

    def _agent_status(self) -> AgentStatus:
        ended = self._ended()
        if ended is not None:
            return "stopped" if ended.clean else "error"
        return "starting" if self._prober.health(None).starting else "running"

    def status(self) -> dict[str, Any]:
        """What the sidecar knows at this moment, for ``agent.<id>.query``."""
        ended = self._ended()
        health = self._prober.health(None if ended is None else ended.how)
        traffic = self._proxy.traffic()
        return {
            "status": self._agent_status(),
            "health": health.status,
            "reason": health.reason,
            "pid": self._pid(),
            "sidecar_pid": os.getpid(),
            "name": self._identity.name,
            "version": self._identity.version,
            "proxy_url": self._identity.proxy_url,
            "door_url": f"http://{self._settings.host}:{self._door_listener.port}",
            "checks": [check.model_dump(mode="json", exclude_none=True) for check in self._prober.checks()],
            "faults": [item.fault.model_dump(mode="json", exclude_none=True) for item in self._enforcer.active],
            "requests": traffic.requests,
            "latency_ms": traffic.latency_ms,
            "error_rate": traffic.error_rate,
            "spool_bytes": self._shipper.waiting_bytes,
            "started_at": self._began_at.isoformat(),
        }

    # Reports

    def _report_agent(
        self,
        kind: Literal["agent.started", "agent.stopped"],
        status: AgentStatus,
        *,
        ended: Ended | None = None,
        reason: str | None = None,
    ) -> None:
        agent = self._agent
        section = self._identity.agent(
            status,
            pid=self._settings.pid if agent is None else agent.pid,
            started_at=self._began_at if agent is None else agent.started_at,
            ended=ended,
            reason=reason,
        )
        event = self._identity.event(kind, _new_id(), datetime.now(UTC), agent=section)
        log.info(kind, event_id=str(event.event_id), pid=section.pid, exit_code=section.exit_code, signal=section.signal)
        self._shipper.report(event)

    def _heartbeat(self, at: datetime) -> Event:
        ended = self._ended()
        found = self._prober.health(None if ended is None else ended.how)
        usage = self._sampler.sample(self._pid())
        agent = self._agent
        return self._identity.event(
            "agent.heartbeat",
            _new_id(),
            at,
            agent=self._identity.agent(
                self._agent_status(),
                pid=self._pid(),
                started_at=self._began_at if agent is None else agent.started_at,
                ended=ended,
            ),
            health=reports.health(found, self._prober.checks(), self._enforcer.kinds(), self._settings.heartbeat_s),
            metrics=reports.metrics(
                self._proxy.traffic(),
                self._proxy.in_flight,
                usage,
                self._shipper.waiting_bytes,
                self._shipper.dropped,
            ),
        )

    def _beat(self) -> None:
        ended = self._ended()
        if self._stopping or (ended is not None and ended.clean):
            # An agent that ended well has no heart; its end was reported.
            return
        at = datetime.now(UTC)
        event = self._heartbeat(at)
        self._shipper.report(event)
        assert event.health is not None
        assert event.metrics is not None
        metrics = event.metrics.model_dump(mode="json", exclude_none=True)
        self._spawn(self._topics.tell_metrics(metrics, at), "tell-metrics")
        self._tell_status(event.health.status, event.health.reason)

    def _tell_status(self, health: str, reason: str | None) -> None:
        told = (self._agent_status(), health)
        if told != self._told:
            self._told = told
            metadata = {"health": health, "reason": reason, "pid": self._pid(), "version": self._identity.version}
            self._spawn(self._topics.tell_status(told[0], metadata), "tell-status")

    # Life

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        self._tasks = [task for task in self._tasks if not task.done()]
        self._tasks.append(asyncio.create_task(work, name=name))

    def _environment(self) -> dict[str, str]:
        given = {name: value for name, value in os.environ.items() if name not in _OWN_RIGHTS}
        settings = self._settings
        given.update(
            AGENT_ID=settings.agent_id,
            AGENT_TYPE=settings.agent_type,
            AGENT_NAME=self._identity.name,
            AGENT_VERSION=settings.version,
            NATS_URL=self._nats_settings.shown_url(),
            AGENTOPS_SIDECAR_URL=f"http://127.0.0.1:{self._door_listener.port}",
            AGENTOPS_TENANT=settings.tenant,
            AGENTOPS_WORKSPACE=settings.workspace or "",
            AGENTOPS_PROJECT=settings.project or "",
            PORT=str(self._agent_port),
        )
        return given

    def _write_run_file(self) -> None:
        known = {
            "pid": os.getpid(),
            "agent_pid": self._pid(),
            "proxy_port": self._proxy_listener.port,
            "door_port": self._door_listener.port,
            "agent_port": self._agent_port or None,
            "started_at": self._began_at.isoformat(),
        }
        _replace(self._directory / "sidecar.json", orjson.dumps(known))

    async def start(self) -> None:
        """Door and proxy listen, the agent runs; NATS is sought in the background. Raises CannotStartError."""
        structlog.contextvars.bind_contextvars(agent_id=self._settings.agent_id, tenant_id=self._settings.tenant)
        try:
            await self._door_listener.start()
            await self._proxy_listener.start()
        except CannotStartError:
            await self._door_listener.stop()
            self._spool.close()
            raise
        self._enforcer.resume()
        if self._settings.url is None:
            self._agent = AgentProcess(
                self._settings.command, self._environment(), self._settings.working_directory, self._directory / "agent.log"
            )
            await self._agent.start()
            if self._agent.pid is not None:
                self._report_agent("agent.started", "running")
            self._spawn(self._watch_agent(self._agent), "agent-watch")
        else:
            self._report_agent("agent.started", "running", reason=f"watching {self._settings.url}")
        self._write_run_file()
        for work, name in (
            (self._shipper.run(), "shipping"),
            (self._enforcer.run(), "faults"),
            (self._prober.run(), "probes"),
            (self._heart.run(), "heart"),
            (self._follow_nats(), "nats"),
        ):
            self._spawn(work, name)
        log.info(
            "sidecar.started",
            pid=os.getpid(),
            proxy_port=self._proxy_listener.port,
            door_port=self._door_listener.port,
            agent_port=self._agent_port or None,
        )

    async def _follow_nats(self) -> None:
        client = await self._nats.connect()
        await self._topics.listen(client)
        self._told = None
        await self._faults.run(client)

    async def _watch_agent(self, agent: AgentProcess) -> None:
        ended = await agent.wait()
        if self._stopping:
            return
        status: AgentStatus = "stopped" if ended.clean else "error"
        self._report_agent("agent.stopped", status, ended=ended, reason=ended.error)
        self._write_run_file()
        self._heart.changed()
        self._tell_status("HEALTHY" if ended.clean else "UNHEALTHY", ended.how)

    async def run(self, until: asyncio.Event) -> None:
        """Returns when it is time to stop. A task that dies takes the sidecar with it: half a sidecar looks alive."""
        waiting = asyncio.create_task(until.wait(), name="stop")
        lasting = [task for task in self._tasks if task.get_name() in {"shipping", "faults", "probes", "heart", "nats"}]
        done, _ = await asyncio.wait({waiting, *lasting}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        for task in done - {waiting}:
            log.error("sidecar.task_died", task=task.get_name(), error=repr(task.exception()))

    async def stop(self) -> None:
        """The agent has stopped, its last events are with NATS or in the spool, nothing is open."""
        self._stopping = True
        log.info("sidecar.stopping")
        await self._proxy_listener.refuse()
        self._enforcer.release()
        if self._agent is not None:
            already = self._agent.ended is not None
            ended = await self._agent.stop(self._settings.stop_timeout_s)
            if not already:
                self._report_agent("agent.stopped", "stopped", ended=ended, reason=reports.STOPPED_BY_COMMAND)
        else:
            self._report_agent("agent.stopped", "stopped", reason=reports.STOPPED_BY_COMMAND)
        await self._topics.tell_status("stopped", {"reason": reports.STOPPED_BY_COMMAND})
        await self._proxy_listener.stop()
        await self._door_listener.stop()
        if not await self._shipper.flush(_FLUSH_S):
            log.warning("sidecar.unflushed", waiting_bytes=self._shipper.waiting_bytes)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._nats.close()
        if self._agent is not None:
            self._agent.close()
        self._spool.close()
        (self._directory / "sidecar.json").unlink(missing_ok=True)
        log.info("sidecar.stopped")


def _replace(path: Path, data: bytes) -> None:
    draft = path.with_suffix(".new")
    draft.write_bytes(data)
    draft.replace(path)


async def serve(settings: SidecarSettings, nats_settings: NatsSettings) -> None:
    """Runs one sidecar until SIGTERM or SIGINT. Raises CannotStartError."""
    until = stop_event()
    sidecar = Sidecar(settings, nats_settings)
    await sidecar.start()
    await sidecar.run(until)
    await sidecar.stop()
