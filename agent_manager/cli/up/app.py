"""``agentops up``: the server, the topology, the services, and staying with them until told to stop."""

import asyncio
import math
import os
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import structlog
from nats.aio.client import Client

import agent_manager
from agent_manager.cli import running
from agent_manager.cli.failure import CommandFailedError
from agent_manager.cli.running import Endpoints, Login
from agent_manager.cli.up import banner, directory, leftovers, readiness, targets
from agent_manager.cli.up.display import Display
from agent_manager.cli.up.nats_server import OwnServer
from agent_manager.cli.up.plan import (
    API_PORT,
    GATEWAY_PORT,
    STOP_STAGES,
    Child,
    Options,
    Wiring,
    brings_models,
    children,
    parts,
    patience_s,
)
from agent_manager.cli.up.processes import kill_group
from agent_manager.cli.up.supervision import Supervised
from agent_manager.drivers import groups
from schemas.state import Observation
from service import logs
from service.instruments import LOOP_ERRORS
from service.ports import free_port, port_is_free
from streams import topology
from streams.apply import CannotApplyError, apply
from streams.connect import CannotConnectError, connect
from streams.kv import TypedBucket
from streams.moving import CannotMoveError
from streams.settings import NatsSettings, TopologySettings

log = structlog.get_logger(__name__)

PUBLISHED_S: Final = 12.0
"""``up.json`` is written when everything is ready, and at the latest by then."""
READY_S: Final = 25.0
"""What is not ready by then is named, and kept running."""
_NATS_STOP_S: Final = 1.0
_STATUS_S: Final = 1.0
_NATS: Final = "nats-server"


def program() -> str:
    """How this program is called here, for hints that can be copied."""
    if shutil.which("agentops"):
        return "agentops"
    beside = Path(sys.executable).parent / "agentops"
    if beside.exists():
        return os.path.relpath(beside)
    return "python -m agent_manager.cli"


@dataclass(slots=True)
class System:
    """Everything ``up`` started."""

    options: Options
    default_data: bool
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Why there is no gateway, or no API, by name."""
    display: Display = field(default_factory=Display)
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    server: OwnServer | None = None
    client: Client | None = None
    supervised: list[Supervised] = field(default_factory=list)
    tasks: list[asyncio.Task[None]] = field(default_factory=list)
    health: Counter[str] = field(default_factory=Counter)
    _home: str = field(init=False)
    """What the processes of its agents are known by."""
    _endpoints: Endpoints | None = None
    _published: bool = False

    def __post_init__(self) -> None:
        self._home = groups.home(self.options.data)

    async def run(self) -> int:
        """Starts, stays, stops; returns the exit code. Raises CommandFailedError when it cannot begin."""
        self._listen_to_signals()
        try:
            beginning = asyncio.create_task(self._begin(), name="begin")
            await self._unless_stopped(beginning)
            if not self.stop.is_set():
                await self._stay()
        finally:
            self.display.end()
            began = time.monotonic()
            self.display.status("")
            if self.supervised:
                self.display.line("stopping …")
            await self._end()
        if self.supervised:
            self.display.line(f"stopped after {time.monotonic() - began:.1f} s; data is kept in {self.options.data}")
        return 0

    def _listen_to_signals(self) -> None:
        loop = asyncio.get_running_loop()

        def asked() -> None:
            if self.stop.is_set():
                self._kill_everything()
            self.stop.set()

        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            # What was started to ignore a hang-up (nohup) goes on ignoring it.
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                loop.add_signal_handler(number, asked)

    async def _unless_stopped(self, task: asyncio.Task[None]) -> None:
        """Waits for ``task``; gives it up when asked to stop."""
        stopping = asyncio.create_task(self.stop.wait(), name="stop")
        await asyncio.wait({task, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not task.done():
            task.cancel()
        await asyncio.gather(stopping, return_exceptions=True)
        try:
            await task
        except asyncio.CancelledError:
            if not self.stop.is_set():
                raise

    async def _begin(self) -> None:
        options, environment = self.options, os.environ
        self._check_ports()
        outside = bool(environment.get("NATS_URL"))
        names = list(parts(options, environment))
        self.display.begin(([] if outside else [_NATS]) + names)
        settings, users = await self._nats(outside)
        try:
            self.client = await connect(settings, "agentops-up", patience_s=10)
        except CannotConnectError as error:
            raise CommandFailedError(str(error)) from error
        try:
            await apply(self.client, partitions=TopologySettings().partitions)
        except (CannotApplyError, CannotMoveError) as error:
            raise CommandFailedError(str(error)) from error
        self.display.ready(_NATS)
        ports = {name: free_port() for name in names}
        wiring = Wiring(Path(agent_manager.__path__[0]).parent.resolve(), settings.url, users, ports)
        plan = children(options, wiring, environment)
        self._endpoints = self._described(settings, users, plan)
        self.supervised = [Supervised(child, options.data / "logs", self.display.line, self._publish) for child in plan]
        for one in self.supervised:
            self._keep(one.keep(), one.child.name)
        if self.server is not None:
            self._keep(self.server.keep(), _NATS)
        if options.demo:
            self._keep(self._guarded(self._targets, "targets"), "targets")
        self._keep(self._guarded(self._watch_health, "health"), "health")
        waiting = asyncio.create_task(readiness.wait(self.supervised, READY_S, self._told), name="readiness")
        try:
            # Whoever finds up.json may use what it names; a part that is slow must not hide the others for long.
            await asyncio.wait({waiting}, timeout=PUBLISHED_S)
            self._published = True
            self._publish()
            missing = await waiting
        except readiness.CannotStartError as error:
            raise CommandFailedError(str(error)) from error
        finally:
            waiting.cancel()
        self.display.end()
        self.display.line(banner.banner(self._facts(settings, missing, outside)))
        if missing:
            self._keep(self._late([one for one in self.supervised if one.child.name in missing]), "late")

    async def _late(self, parts: list[Supervised]) -> None:
        """Tells when those are ready that were not when it was said that AgentOps runs."""
        try:
            await readiness.wait(parts, math.inf, self._told)
        except readiness.CannotStartError as error:
            # By now the others are at work, and go on.
            self.display.line(str(error))
            return
        self.display.line(f"all ready after {self.display.lasted_s():.0f} s")

    def _check_ports(self) -> None:
        port = self.options.dashboard_port
        if port is not None and not port_is_free(port):
            raise CommandFailedError(
                f"port {port} for the dashboard is taken",
                "Stop what listens there, choose another with --dashboard-port (make run ARGS='--dashboard-port 8801'), or leave the "
                "page out with --no-dashboard",
            )
        for name, taken in (("gateway", self.options.gateway_port), ("api", self.options.api_port)):
            if taken is not None and not port_is_free(taken):
                raise CommandFailedError(
                    f"port {taken} for the {name} is taken",
                    f"Stop what listens there, choose another with --{name}-port, or leave it out with --no-{name}",
                )

    async def _nats(self, outside: bool) -> tuple[NatsSettings, dict[str, Login] | None]:
        if outside:
            return NatsSettings(), None
        self.server = OwnServer(self.options.data / "nats", self.options.nats_port, self.display.line, self._publish)
        await self.server.start()
        return self.server.settings(), self.server.users()

    def _described(self, settings: NatsSettings, users: dict[str, Login] | None, plan: tuple[Child, ...]) -> Endpoints:
        if users is None and settings.user is not None and settings.password is not None:
            users = {"operator": Login(settings.user, settings.password.get_secret_value())}
        port, gateway, api = self.options.dashboard_port, self.options.gateway_port, self.options.api_port
        return Endpoints(
            nats_url=settings.shown_url(),
            data=str(self.options.data),
            pid=os.getpid(),
            monitor_url=self.server.server.monitor_url if self.server is not None else None,
            dashboard_url=f"http://127.0.0.1:{port}" if port is not None else None,
            gateway_url=f"http://127.0.0.1:{gateway}" if gateway is not None else None,
            api_url=f"http://127.0.0.1:{api}" if api is not None else None,
            demo=self.options.demo,
            users=users or {},
            health={child.name: child.health_url for child in plan if child.health_url is not None},
        )

    def _publish(self) -> None:
        """Writes ``up.json`` with the process ids of now."""
        if self._endpoints is None or not self._published or self.stop.is_set():
            return
        found = {one.child.name: pid for one in self.supervised if (pid := one.pid()) is not None}
        monitor = None
        if self.server is not None:
            monitor = self.server.server.monitor_url
            if (pid := self.server.pid()) is not None:
                found[_NATS] = pid
        running.write(self.options.data, replace(self._endpoints, processes=found, monitor_url=monitor))

    def _keep(self, work: Coroutine[Any, Any, None], name: str) -> None:
        self.tasks.append(asyncio.create_task(work, name=name))

    async def _guarded(self, work: Any, name: str) -> None:
        while True:
            try:
                await work()
            except Exception as error:
                LOOP_ERRORS.labels(f"up.{name}").inc()
                log.exception("up.loop_failed", loop=name, error=repr(error))
            await asyncio.sleep(2)

    async def _targets(self) -> None:
        assert self.client is not None

        def changed(_: dict[str, str]) -> None:
            log.debug("up.targets_changed")

        await targets.keep(self.client, self.options.data / "targets.json", changed)

    async def _watch_health(self) -> None:
        assert self.client is not None
        bucket = await TypedBucket.open(self.client, topology.OBSERVATIONS, Observation)
        seen: dict[str, str] = {}
        async for entry in bucket.watch():
            if entry.value is None:
                seen.pop(entry.key, None)
            else:
                seen[entry.key] = "stopped" if entry.value.status == "stopped" else entry.value.health
            self.health = Counter(seen.values())

    def _told(self, part: str, seen: readiness.Ready | readiness.NotReady) -> None:
        if isinstance(seen, readiness.Ready):
            self.display.ready(part)
        else:
            self.display.waiting(part, seen.reason)

    def _facts(self, settings: NatsSettings, missing: dict[str, str], outside: bool) -> banner.Facts:
        model = None
        if self.options.demo:
            own = brings_models(self.options, os.environ)
            model = (
                "a local model server (set OPENAI_API_KEY, and OPENAI_BASE_URL, for a real one)"
                if own
                else os.environ.get("OPENAI_BASE_URL", "OpenAI")
            )
        port, gateway, api = self.options.dashboard_port, self.options.gateway_port, self.options.api_port
        return banner.Facts(
            command=program(), data=self.options.data, default_data=self.default_data, nats_url=settings.shown_url(), own_nats=not outside,
            dashboard_url=f"http://127.0.0.1:{port}" if port is not None else None, demo=self.options.demo, model=model, not_ready=missing,
            gateway=_offered(gateway, "", self.left_out.get("gateway")),
            api=_offered(api, " --role viewer", self.left_out.get("api")),
        )  # fmt: skip

    async def _stay(self) -> None:
        """Until asked to stop; the line at the bottom tells how it is."""
        began = time.monotonic()
        while not self.stop.is_set():
            living = sum(one.pid() is not None for one in self.supervised) + (
                self.server is not None and self.server.pid() is not None
            )
            wanted = len(self.supervised) + (self.server is not None)
            down = [one.child.name for one in self.supervised if one.pid() is None]
            trouble = f"{', '.join(down)} down" if down else None
            self.display.status(banner.status(living, wanted, self.health, time.monotonic() - began, trouble))
            for task in self.tasks:
                if task.done() and not task.cancelled() and (error := task.exception()) is not None:
                    raise CommandFailedError(f"supervision of {task.get_name()} failed: {error!r}") from error
            try:
                async with asyncio.timeout(_STATUS_S):
                    await self.stop.wait()
            except TimeoutError:
                continue

    async def _end(self) -> None:
        """Those who ask first, then the manager with its agents, the processors, the model server, at last NATS."""
        self.stop.set()
        began = time.monotonic()
        for stage in range(len(STOP_STAGES)):
            within_s = patience_s(stage, time.monotonic() - began)
            staged = [one for one in self.supervised if one.child.stage == stage]
            told = await asyncio.gather(*(one.stop(within_s) for one in staged))
            for one, by_itself in zip(staged, told, strict=True):
                if not by_itself:
                    self.display.line(f"{one.child.name} did not stop within {within_s:.1f} s and was killed")
            if stage == 1 and self.supervised and (left := await asyncio.to_thread(leftovers.kill_agents, self._home)):
                self.display.line(f"agents that were still running were killed: {', '.join(left)}")
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        if self.client is not None:
            try:
                async with asyncio.timeout(0.5):
                    await self.client.close()
            except TimeoutError:
                pass
        if self.server is not None:
            await self.server.stop(_NATS_STOP_S)
        running.remove(self.options.data)

    def _kill_everything(self) -> None:
        """A second Ctrl-C: nothing is waited for."""
        for one in self.supervised:
            if (pid := one.pid()) is not None:
                kill_group(pid)
        leftovers.kill_agents(self._home)


def _port(name: str, given: int | None, usual: int, *, left_out: bool) -> tuple[int | None, str]:
    """Where it listens, and what is said where it does not."""
    if left_out:
        return None, f"not started (--no-{name})"
    if given is None and not port_is_free(usual):
        return None, f"not started: port {usual} is taken (--{name}-port)"
    return given or usual, ""


def _offered(port: int | None, options: str, why_not: str | None) -> str:
    if port is None:
        return why_not or "not started"
    return f"http://127.0.0.1:{port} (agentops keys create NAME --tenant TENANT{options})"


def start(
    *, demo: bool, data: Path, nats_port: int | None, dashboard_port: int | None, agents: Path | None,
    gateway_port: int | None = None, no_gateway: bool = False, api_port: int | None = None, no_api: bool = False,
) -> None:  # fmt: skip
    """Runs the system on ``data`` until Ctrl-C; raises CommandFailedError when it cannot begin.

    Without a port of their own gateway and API have their usual ones, or are left out where those are taken: the system is of use
    without them.
    """
    if agents is not None and not agents.is_dir():
        raise CommandFailedError(f"the folder of agents {agents} does not exist", "Give one with --agents, or leave it out")
    prepared = directory.prepare(data)
    with directory.held(prepared):
        logs.configure("up", level=os.environ.get("AGENTOPS_LOG_LEVEL", "ERROR"))
        gateway, why_no_gateway = _port("gateway", gateway_port, GATEWAY_PORT, left_out=no_gateway)
        api, why_no_api = _port("api", api_port, API_PORT, left_out=no_api)
        options = Options(
            prepared, demo, nats_port, dashboard_port, gateway, api, agents.resolve() if agents is not None else None
        )
        left_out = {"gateway": why_no_gateway, "api": why_no_api}

        async def whole() -> int:
            return await System(options, default_data=data == Path("data"), left_out=left_out).run()

        asyncio.run(whole())
