"""One sidecar, put together: agent, door, proxy, probes, faults, heart, spool, NATS."""

import asyncio
import os
from collections.abc import Coroutine
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import orjson
import structlog

from schemas.budgets import BudgetFlag
from schemas.sections import Tenant
from service.door import HealthDoor
from service.ports import free_port
from service.signals import stop_event
from sidecar import progress, reports
from sidecar.agent import Agent
from sidecar.content import IN_FORCE, NATS, PolicyMemory
from sidecar.control import FaultWatch
from sidecar.denials import Denials
from sidecar.door import Door
from sidecar.enforcement import Enforcer
from sidecar.farewell import restarting
from sidecar.fault_memory import FaultMemory
from sidecar.flags import FlagWatch
from sidecar.heartbeats import Heart
from sidecar.intake import SpoolIntake
from sidecar.listener import PATIENCE_S, CannotStartError, Listener, reachable
from sidecar.log_capture import LogCapture
from sidecar.metering.calls import Owner
from sidecar.metering.parts import Metering
from sidecar.metering.providers import UnknownUpstreamError
from sidecar.otlp.doors import OtlpDoors
from sidecar.otlp.sources import Source, attributed
from sidecar.patience import Patience
from sidecar.probing import Prober
from sidecar.process import AgentProcess
from sidecar.progress import Progress
from sidecar.proxy import Proxy
from sidecar.reporter import Reporter
from sidecar.settings import SidecarSettings
from sidecar.shipping import Shipper
from sidecar.spool import Spool, SpoolBusyError
from streams.content import PolicyWatch
from streams.settings import NatsSettings
from streams.topology import BUDGET_FLAGS
from streams.waiting import Nats

log = structlog.get_logger(__name__)

_FLUSH_S: Final = 2.0
_LASTING: Final = frozenset({
    "shipping", "faults", "probes", "heart", "failures", "nats", "metering", "metering-telling",
})  # fmt: skip
"""Tasks that end only with the sidecar."""


class Sidecar:
    """``start``, then ``run`` until it is time, then ``stop``."""

    def __init__(self, settings: SidecarSettings, nats_settings: NatsSettings) -> None:
        self._settings = settings
        self._nats_settings = nats_settings
        self._began_at = datetime.now(UTC)
        self._agent = Agent(settings, self._began_at, lambda data: self._log_capture.hear(data))  # noqa: PLW0108
        try:
            upstreams = settings.upstreams(os.environ)
        except UnknownUpstreamError as error:
            raise CannotStartError(str(error)) from error
        self._directory = settings.agent_directory
        self._tasks: list[asyncio.Task[None]] = []
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            self._spool = Spool.open(
                settings.spool_directory, settings.spool_max_bytes, sync=settings.spool_sync, patience_s=PATIENCE_S
            )
        except (OSError, SpoolBusyError) as error:
            raise CannotStartError(f"{error}; or choose another data directory with --data") from error
        self._agent_port = settings.port or (free_port() if settings.url is None else 0)
        target = settings.url or f"http://127.0.0.1:{self._agent_port}"
        self._nats = Nats(nats_settings, f"sidecar-{settings.agent_id}")
        self._shipper = Shipper(
            self._spool, self._nats, settings.tenant, settings.agent_id, settings.spool_directory / "refused.ndjson"
        )
        self._progress = Progress(progress.Patience(settings.stuck_after_s, settings.stuck_repeats))
        self._heart = Heart(settings.heartbeat_s, lambda: self._reporter.beat())  # noqa: PLW0108
        # The proxy's address is part of every report, so its port must be known before the proxy listens.
        port = settings.proxy_port or free_port(settings.host)
        self._identity = reports.Identity(
            tenant=Tenant(tenant_id=settings.tenant, workspace_id=settings.workspace, project_id=settings.project),
            agent_id=settings.agent_id,
            name=settings.shown_name,
            version=settings.version,
            agent_type=settings.agent_type,
            proxy_url=f"http://{settings.advertise or reachable(settings.host)}:{port}",
        )
        self._log_capture = LogCapture(
            self._identity,
            self._shipper.report,
            level=settings.log_level,
            per_s=settings.log_lines_per_s,
            burst=settings.log_burst,
        )
        self._enforcer = Enforcer(
            self._identity,
            FaultMemory(self._directory / "faults.json"),
            self._agent.pid,
            self._shipper.report,
            self._heart.changed,
        )
        self._prober = Prober(target, settings.asked_probes, self._agent.pid, self._heart.changed, grace_s=settings.start_grace_s)
        self._denials = Denials(
            settings.tenant,
            settings.agent_id,
            workspace=settings.workspace,
            project=settings.project,
            path=self._directory / "denials.json",
        )
        self._policies = PolicyMemory(self._directory / "content.json")
        self._policies.recall()
        NATS.there = lambda: self._nats.client is not None
        self._proxy = Proxy(
            target, self._enforcer, self._agent.away, lambda: self._reporter.agent_status() == "starting", self._denials
        )
        self._metering: Metering | None = None
        self._metering_listener: Listener | None = None
        if upstreams:
            owner = Owner(self._identity.tenant, settings.agent_id)
            self._metering = Metering(
                upstreams, owner, self._enforcer, self._denials, SpoolIntake(self._shipper), self._directory
            )
            self._metering_listener = Listener(
                self._metering.application(),
                settings.host,
                settings.metering_port,
                "metering proxy",
                bears=Patience(connections=None),
                auto_decompress=False,
                handler_cancellation=True,
            )
        self._health_door = HealthDoor("sidecar", self._waiting_for)
        whose = Source(settings.tenant, settings.agent_id, settings.workspace, settings.project)
        told = SpoolIntake(self._shipper, self._progress)
        self._otlp = OtlpDoors(told, lambda headers: attributed(whose, headers))
        door = Door(settings.tenant, settings.agent_id, told, self._health_door).application()
        door.add_routes(self._otlp.routes())
        self._door_listener = Listener(door, settings.host, settings.door_port, "door")
        self._otlp_listener = (
            None
            if settings.otlp_port is None
            else Listener(self._otlp.application(), settings.host, settings.otlp_port, "OTLP door")
        )
        self._otlp_grpc_port: int | None = None
        self._proxy_listener = Listener(
            self._proxy.application(),
            settings.host,
            port,
            "proxy",
            bears=Patience(connections=None),
            auto_decompress=False,
            handler_cancellation=True,
        )
        self._reporter = Reporter(
            self._identity,
            self._agent,
            self._prober,
            self._proxy,
            self._enforcer,
            self._shipper,
            self._nats,
            self._progress,
            heartbeat_s=settings.heartbeat_s,
            door_url=self._door_url,
        )
        self._faults = FaultWatch(self._nats, settings.tenant, settings.agent_id, self._enforcer.ask)

    def _waiting_for(self) -> dict[str, str]:
        missing = {}
        if self._nats.client is None:
            missing["nats"] = "not connected; events wait on disk"
        if (ended := self._agent.ended) is not None:
            missing["agent"] = f"its process ended: {ended.how}"
        return missing

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        self._tasks = [task for task in self._tasks if not task.done()]
        self._tasks.append(asyncio.create_task(work, name=name))

    def _door_url(self) -> str:
        return f"http://{reachable(self._settings.host)}:{self._door_listener.port}"

    def _listeners(self) -> list[Listener]:
        every = (self._proxy_listener, self._door_listener, self._otlp_listener, self._metering_listener)
        return [one for one in every if one is not None]

    def _models(self) -> dict[str, str]:
        """Where the agent's models are, as it is told."""
        if self._metering is None or self._metering_listener is None:
            return {}
        return self._metering.environment(f"http://{reachable(self._settings.host)}:{self._metering_listener.port}")

    def _write_run_file(self) -> None:
        known = {
            "pid": os.getpid(),
            "agent_pid": self._agent.pid(),
            "proxy_port": self._proxy_listener.port,
            "door_port": self._door_listener.port,
            "otlp_port": None if self._otlp_listener is None else self._otlp_listener.port,
            "otlp_grpc_port": self._otlp_grpc_port,
            "agent_port": self._agent_port or None,
            "metering_port": None if self._metering_listener is None else self._metering_listener.port,
            "started_at": self._began_at.isoformat(),
        }
        _replace(self._directory / "sidecar.json", orjson.dumps(known))

    async def start(self) -> None:
        """Door and proxy listen, the agent runs; NATS is sought in the background. Raises CannotStartError."""
        structlog.contextvars.bind_contextvars(agent_id=self._settings.agent_id, tenant_id=self._settings.tenant)
        try:
            await self._door_listener.start()
            await self._proxy_listener.start()
            if self._otlp_listener is not None:
                await self._otlp_listener.start()
            if self._metering_listener is not None:
                await self._metering_listener.start()
            if (grpc_port := self._settings.otlp_grpc_port) is not None:
                self._otlp_grpc_port = await self._otlp.open_grpc(self._settings.host, grpc_port)
        except CannotStartError:
            for listener in self._listeners():
                await listener.stop()
            self._spool.close()
            raise
        self._enforcer.resume()
        try:
            await self._begin()
        except OSError as error:
            # The disk, most likely: an agent that nobody watches must not go on.
            self._agent.stopping = True
            if self._agent.process is not None:
                await self._agent.process.stop(self._settings.stop_timeout_s)
                self._agent.process.close()
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            for listener in self._listeners():
                await listener.stop()
            await self._otlp.close()
            self._spool.close()
            raise CannotStartError(f"the sidecar could not begin: {error}; its agent was stopped") from error
        log.info(
            "sidecar.started",
            pid=os.getpid(),
            proxy_port=self._proxy_listener.port,
            door_port=self._door_listener.port,
            agent_port=self._agent_port or None,
            metering=list(self._settings.metering) or None,
        )

    async def _begin(self) -> None:
        """The agent runs, and everything that accompanies it."""
        await self._agent.start(
            nats_url=self._nats_settings.shown_url(), door_url=self._door_url(), port=self._agent_port, models=self._models()
        )
        if self._agent.process is None:
            self._reporter.agent_event("agent.started", "starting", f"watching {self._settings.url}")
        else:
            if self._agent.process.pid is not None:
                why = self._settings.restarted
                self._reporter.agent_event("agent.started", "starting", why or None, mark=reports.RESTARTED if why else None)
            self._spawn(self._watch(self._agent.process), "agent-watch")
        self._write_run_file()
        for work, name in (
            (self._shipper.run(), "shipping"),
            (self._enforcer.run(), "faults"),
            (self._prober.run(), "probes"),
            (self._heart.run(), "heart"),
            (self._reporter.tell_failures(), "failures"),
            (self._follow_nats(), "nats"),
            *(() if self._metering is None else self._metering.works()),
        ):
            self._spawn(work, name)

    async def _follow_nats(self) -> None:
        client = await self._nats.connect()
        await self._reporter.topics.listen(client)
        self._reporter.tell_again()
        async with asyncio.TaskGroup() as group:
            group.create_task(self._faults.run(client), name="faults-follow")
            group.create_task(
                PolicyWatch(IN_FORCE, self._settings.tenant, self._policies.write).run(client), name="content-follow"
            )
            watch = FlagWatch(self._settings.tenant, BUDGET_FLAGS, BudgetFlag, self._denials)
            group.create_task(watch.run(client), name="denials-follow")
            if self._metering is not None:
                group.create_task(self._metering.follow(client), name="policies-follow")

    async def _watch(self, process: AgentProcess) -> None:
        ended = await process.wait()
        if self._agent.stopping:
            return
        self._reporter.agent_event("agent.stopped", "stopped" if ended.clean else "error", ended.error)
        self._write_run_file()
        self._heart.changed()
        self._reporter.tell_status("HEALTHY" if ended.clean else "UNHEALTHY", ended.how)

    async def run(self, until: asyncio.Event) -> str | None:
        """Returns when it is time to stop: None when asked, else what died. Half a sidecar would look alive."""
        waiting = asyncio.create_task(until.wait(), name="stop")
        lasting = [task for task in self._tasks if task.get_name() in _LASTING]
        done, _ = await asyncio.wait({waiting, *lasting}, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        for task in done - {waiting}:
            log.error("sidecar.task_died", task=task.get_name(), error=repr(task.exception()))
            return f"the sidecar failed: {task.get_name()}"
        return None

    async def stop(self, died: str | None = None) -> None:
        """The agent has stopped, its last events are with NATS or in the spool, nothing is open. ``died``: what ended us."""
        again = restarting(self._directory) if died is None else None
        reason = died or again or reports.STOPPED_BY_COMMAND
        self._agent.stopping = True
        log.info("sidecar.stopping")
        await self._proxy_listener.refuse()
        self._enforcer.release()
        already_told = self._agent.ended is not None
        if self._agent.process is not None:
            await self._agent.process.stop(self._settings.stop_timeout_s)
        self._log_capture.close()
        self._reporter.failed_requests(last=True)
        if self._metering is not None and self._metering_listener is not None:
            await self._metering_listener.stop()
            await self._metering.close()
        # One that had crashed is told of again when it is stopped on purpose: the silence that follows is no trouble.
        if not already_told or died is None:
            self._reporter.agent_event("agent.stopped", "stopped", reason, mark=reports.RESTARTING if again else None)
        await self._reporter.topics.tell_status("stopped", {"reason": reason})
        for listener in self._listeners():
            await listener.stop()
        await self._otlp.close()
        if not await self._shipper.flush(_FLUSH_S):
            log.warning("sidecar.unflushed", waiting_bytes=self._shipper.waiting_bytes)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._nats.close()
        if self._agent.process is not None:
            self._agent.process.close()
        self._spool.close()
        (self._directory / "sidecar.json").unlink(missing_ok=True)
        log.info("sidecar.stopped")


def _replace(path: Path, data: bytes) -> None:
    draft = path.with_suffix(".new")
    draft.write_bytes(data)
    draft.replace(path)


async def serve(settings: SidecarSettings, nats_settings: NatsSettings) -> bool:
    """Runs one sidecar until SIGTERM or SIGINT; whether that was why it ended. Raises CannotStartError."""
    until = stop_event()
    sidecar = Sidecar(settings, nats_settings)
    await sidecar.start()
    died = await sidecar.run(until)
    await sidecar.stop(died)
    return died is None
