"""Which processes make up the system, with what environment, in what order they stop. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from agent_manager.cli.running import Login

PROCESSOR_GROUPS: Final = (("validate",), ("aggregate",), ("cost", "health", "budget", "alerts", "notify"))
"""Which processors share a process: the warehouse alone, because it is the heavy one."""

MANAGER: Final = "agent-manager"
DASHBOARD: Final = "dashboard"
GATEWAY: Final = "gateway"
GATEWAY_PORT: Final = 8810
"""Where agents without sidecars send their events, unless told otherwise."""
API: Final = "api"
API_PORT: Final = 8820
"""Where the REST API is, unless told otherwise."""
MODEL_SERVER: Final = "model-server"
DRIVER: Final = "driver"

STOP_STAGES: Final = (1.2, 4.5, 2.0, 0.5)
"""Seconds each stage has at least before it is killed: those who ask, the manager with its agents, the processors, the model
server. The NATS server follows; all of it stays within ten seconds."""


def patience_s(stage: int, elapsed_s: float) -> float:
    """Seconds for ``stage``, which begins ``elapsed_s`` after the stop: its own, and what those before it left over.

    A warehouse that has much to write down needs more than its own, and those before it seldom use all of theirs.
    """
    return max(STOP_STAGES[stage], sum(STOP_STAGES[: stage + 1]) - elapsed_s)


@dataclass(frozen=True, slots=True)
class Options:
    """What was typed."""

    data: Path
    """Absolute."""
    demo: bool = False
    nats_port: int | None = None
    dashboard_port: int | None = 8800
    """None: no page."""
    gateway_port: int | None = None
    """None: no gateway."""
    api_port: int | None = None
    """None: no REST API."""
    agents: Path | None = None


@dataclass(frozen=True, slots=True)
class Answering:
    """Ready when this address answers 200."""

    url: str


@dataclass(frozen=True, slots=True)
class Listening:
    """Ready when this port takes connections."""

    port: int


@dataclass(frozen=True, slots=True)
class Alive:
    """Ready when it runs."""


Readiness = Answering | Listening | Alive


@dataclass(frozen=True, slots=True)
class Child:
    """One process."""

    name: str
    arguments: tuple[str, ...]
    """After the Python interpreter."""
    environment: Mapping[str, str] = field(repr=False)
    """Whole."""
    ready: Readiness
    stage: Literal[0, 1, 2, 3]
    """Index into STOP_STAGES."""
    health_url: str | None = None


def parts(options: Options, environment: Mapping[str, str]) -> tuple[str, ...]:
    """Names of the processes, in starting order."""
    names = ["processors-" + "-".join(group) for group in PROCESSOR_GROUPS]
    if brings_models(options, environment):
        names.append(MODEL_SERVER)
    names.append(MANAGER)
    if options.dashboard_port is not None:
        names.append(DASHBOARD)
    if options.gateway_port is not None:
        names.append(GATEWAY)
    if options.api_port is not None:
        names.append(API)
    if options.demo:
        names.append(DRIVER)
    return tuple(names)


def brings_models(options: Options, environment: Mapping[str, str]) -> bool:
    """Whether the demo needs a model server of its own: nobody gave a key for a real one."""
    return options.demo and not environment.get("OPENAI_API_KEY")


@dataclass(frozen=True, slots=True)
class Wiring:
    """What only the running system knows."""

    root: Path
    """The folder that holds the packages."""
    nats_url: str
    users: Mapping[str, Login] | None
    """None: an outside server; its login stays in the environment."""
    ports: Mapping[str, int]
    """A free port for each part: its health door, or where it listens."""


def _for(user: str, options: Options, wiring: Wiring, environment: Mapping[str, str]) -> dict[str, str]:
    """The environment of a process that is ``user`` at NATS."""
    given = dict(environment)
    # Fewer malloc arenas: threads of DuckDB and polars would otherwise keep tens of megabytes each.
    given.setdefault("MALLOC_ARENA_MAX", "2")
    given["PYTHONPATH"] = ":".join(filter(None, [str(wiring.root), environment.get("PYTHONPATH", "")]))
    given["AGENTOPS_DATA"] = str(options.data)
    if wiring.users is not None:
        for name in [name for name in given if name.startswith("NATS_")]:
            del given[name]
        login = wiring.users[user]
        given |= {"NATS_URL": wiring.nats_url, "NATS_USER": login.user, "NATS_PASSWORD": login.password}
    return given


def _door(port: int) -> str:
    return f"http://127.0.0.1:{port}"


def _manager_environment(
    options: Options, wiring: Wiring, base: Mapping[str, str], environment: Mapping[str, str]
) -> dict[str, str]:
    given = dict(base) | {"AGENTOPS_STOP_AGENTS": "1"}
    # Agents' own shutdown must fit into the manager's stage.
    given.setdefault("AGENTOPS_STOP_WITHIN_S", str(STOP_STAGES[1] - 1))
    folders = [str(options.agents)] if options.agents is not None else []
    if options.demo:
        folders.append(str(wiring.root / "examples" / "agents"))
    if folders:
        given["AGENTOPS_AGENTS"] = ":".join(dict.fromkeys(folders))
    if wiring.users is not None and (sidecar := wiring.users.get("sidecar")) is not None:
        given |= {"AGENTOPS_SIDECAR_NATS_USER": sidecar.user, "AGENTOPS_SIDECAR_NATS_PASSWORD": sidecar.password}
    if brings_models(options, environment):
        given |= {"OPENAI_BASE_URL": f"{_door(wiring.ports[MODEL_SERVER])}/v1", "OPENAI_API_KEY": "local-demo"}
    elif options.demo:
        given.setdefault("OPENAI_BASE_URL", "https://api.openai.com/v1")
    return given


def children(options: Options, wiring: Wiring, environment: Mapping[str, str]) -> tuple[Child, ...]:
    """Every process, in starting order."""
    system = _for("system", options, wiring, environment)
    found = []
    for name in parts(options, environment):
        port = wiring.ports.get(name, 0)
        doored = system | {"AGENTOPS_HEALTH_PORT": str(port)}
        if name == MANAGER:
            given = _manager_environment(options, wiring, doored, environment)
            found.append(Child(name, ("-m", "agent_manager"), given, Answering(f"{_door(port)}/readyz"), 1, _door(port)))
        elif name == DASHBOARD:
            page = _for("dashboard", options, wiring, environment) | {"AGENTOPS_DASHBOARD_PORT": str(options.dashboard_port)}
            url = _door(options.dashboard_port or 0)
            found.append(
                Child(name, ("-m", "dashboard", "--port", str(options.dashboard_port)), page, Answering(f"{url}/readyz"), 0, url)
            )
        elif name == GATEWAY:
            door = _for(GATEWAY, options, wiring, environment)
            url = _door(options.gateway_port or 0)
            arguments = ("-m", "sidecar.gateway", "--port", str(options.gateway_port))
            found.append(Child(name, arguments, door, Answering(f"{url}/readyz"), 0, url))
        elif name == API:
            url = _door(options.api_port or 0)
            given = _for(API, options, wiring, environment)
            found.append(
                Child(
                    name, ("-m", "agent_manager.api", "--port", str(options.api_port)), given, Answering(f"{url}/readyz"), 0, url
                )
            )
        elif name == MODEL_SERVER:
            found.append(
                Child(
                    name,
                    ("-m", "examples.model_server", "--port", str(port), "--speed", "2"),
                    _without_nats(system),
                    Listening(port),
                    3,
                )
            )
        elif name == DRIVER:
            targets = str(options.data / "targets.json")
            found.append(Child(name, ("-m", "examples.driver", "--targets", targets), _without_nats(system), Alive(), 0))
        else:
            group = name.removeprefix("processors-").split("-")
            found.append(Child(name, ("-m", "processors", *group), doored, Answering(f"{_door(port)}/readyz"), 2, _door(port)))
    return tuple(found)


def _without_nats(environment: Mapping[str, str]) -> dict[str, str]:
    """For parts that have no business with NATS: not even a password."""
    return {name: value for name, value in environment.items() if not name.startswith("NATS_")}
