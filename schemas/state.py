"""Values of the shared key-value buckets. Keys are ``<tenant>.<agent_id>`` unless said otherwise."""

from typing import Annotated, Literal

from pydantic import Field, JsonValue

from schemas.maintenance import MaintenanceWindow
from schemas.model import Count, Finite, Identifier, Instant, Lenient, Name, Text, Token
from schemas.sections import AgentStatus, Check, Fault, HealthStatus, Metrics

MeteredRoute = Literal[
    "openai", "anthropic", "gemini", "vertex", "openrouter", "azure", "bedrock", "groq", "mistral", "deepseek", "cerebras", "xai",
]  # fmt: skip
"""Model providers whose calls a sidecar can meter."""


DriverName = Literal["local", "cloud_run"]
"""What runs agents: processes of the manager's machine, or Google Cloud Run."""


class ProbeConfig(Lenient):
    """How the sidecar asks whether the agent is alive."""

    kind: Literal["http", "tcp", "process"]
    path: Name = "/health"
    """For http."""
    interval_s: Annotated[float, Field(gt=0, le=3600)] = 1.0
    timeout_s: Annotated[float, Field(gt=0, le=60)] = 2.0
    failure_threshold: Annotated[int, Field(ge=1, le=100)] = 3
    success_threshold: Annotated[int, Field(ge=1, le=100)] = 1


class HealingConfig(Lenient):
    """Whether and how an unhealthy agent is healed."""

    enabled: bool = True
    max_restarts: Annotated[int, Field(ge=1, le=1000)] = 5
    """Restarts in ``window_s`` after which the manager gives up and alerts a person."""
    window_s: Annotated[float, Field(gt=0)] = 300.0
    backoff_initial_s: Annotated[float, Field(ge=0)] = 1.0
    backoff_max_s: Annotated[float, Field(gt=0)] = 300.0
    reset_after_s: Annotated[float, Field(gt=0)] = 600.0
    """A healthy spell of this length forgets earlier restarts."""
    restart_when_stuck: bool = False
    """Whether an agent that is STUCK is restarted; otherwise people are only told."""


class StuckConfig(Lenient):
    """When an agent that beats counts as STUCK: it has a run open and gets nowhere. As its sidecar sees it."""

    after_s: Annotated[float, Field(ge=0, le=86_400)] = 600.0
    """None of its work has moved for so long; 0: that is never held against it."""
    repeats: Annotated[int, Field(ge=0, le=10_000)] = 20
    """The same step, or the same few in turn, repeated more often than that; 0: that is never held against it."""


GoogleProject = Annotated[str, Field(pattern=r"^(?:[a-z0-9.-]{1,63}:)?[a-z0-9-]{1,63}$")]
GoogleRegion = Annotated[str, Field(pattern=r"^[a-z0-9-]{1,63}$")]
CloudRunName = Annotated[str, Field(pattern=r"^[a-z](?:[-a-z0-9]{0,47}[a-z0-9])?$")]


class CloudRunConfig(Lenient):
    """Which Cloud Run resource an agent is. It is made once by whoever deploys the agent; the manager runs it."""

    project: GoogleProject
    region: GoogleRegion
    service: CloudRunName | None = None
    """Of an agent that answers requests. Either this or ``worker_pool``."""
    worker_pool: CloudRunName | None = None
    """Of an agent that only consumes."""
    instances: Annotated[int, Field(ge=1, le=1000)] = 1
    """How many containers run while the agent is started."""
    start_timeout_s: Annotated[float, Field(gt=0, le=3600)] = 240.0
    """A start or restart has this long to come up: images are pulled and containers probed."""


class AgentRecord(Lenient):
    """Registry (bucket ``registry``, history kept): what an agent is, as its manifest says."""

    agent_id: Token
    tenant_id: Token
    workspace_id: Token | None = None
    project_id: Token | None = None
    name: Name
    version: Name
    agent_type: Name = "service"
    description: Text = ""
    driver: DriverName = "local"
    command: tuple[str, ...] = ()
    """What a local agent is started with; Cloud Run starts what its container says."""
    cloud_run: CloudRunConfig | None = None
    working_directory: str
    environment: dict[str, str] = {}
    """Values may name secrets as ``${VARIABLE}``; they are resolved in the manager, never stored."""
    port: Annotated[int, Field(ge=0, le=65535)] = 0
    """The agent's own port; 0 lets the manager choose one."""
    proxy_port: Annotated[int, Field(ge=0, le=65535)] = 0
    """Where the sidecar answers for it; 0 lets the manager choose one and keep it."""
    metering: tuple[MeteredRoute, ...] = ()
    """Providers whose calls the sidecar meters: it tells the agent its own address in place of theirs."""
    probes: tuple[ProbeConfig, ...] = ()
    heartbeat_interval_s: Annotated[float, Field(gt=0, le=3600)] = 5.0
    healing: HealingConfig = HealingConfig()
    stuck: StuckConfig = StuckConfig()
    autostart: bool = True
    stop_timeout_s: Annotated[float, Field(gt=0, le=600)] = 5.0
    tags: tuple[Name, ...] = ()
    owner: Name | None = None
    environment_name: Name = "dev"
    model_type: Name | None = None
    """The model it mostly asks, as people name it."""
    provider: Name | None = None
    """Who serves that model."""
    capabilities: tuple[Name, ...] = ()
    """What it can do, for whoever looks for an agent that can."""
    dependencies: tuple[Token, ...] = ()
    """Ids of the agents, of the same tenant, that it needs."""
    configuration: dict[str, JsonValue] = {}
    """Its own settings, as it reads them; never secrets."""
    changelog: Text = ""
    """What is new in this version."""
    maintenance: tuple[MaintenanceWindow, ...] = ()
    """When it is not healed, because people are at work on it."""
    metadata: dict[str, JsonValue] = {}
    created_at: Instant | None = None
    """When the registry first heard of it."""
    updated_at: Instant
    updated_by: Name


class Incident(Lenient):
    """One unhealthy spell: when it began, was noticed, acted on, and ended."""

    began_at: Instant
    detected_at: Instant
    reason: Text
    acted_at: Instant | None = None
    action: Name | None = None
    recovered_at: Instant | None = None
    time_to_detect_s: Finite | None = None
    time_to_recover_s: Finite | None = None


class AgentState(Lenient):
    """Bucket ``agent_states``, written by the manager alone: what it wants and what it sees."""

    agent_id: Token
    tenant_id: Token
    desired: Literal["running", "stopped"]
    status: AgentStatus
    reason: Text = ""
    instance_id: Identifier | None = None
    pid: Count | None = None
    """Process id of the sidecar that leads the agent's process group."""
    process_created_at: Finite | None = None
    """Start time of that process, to tell it from a later one with the same id."""
    port: Count | None = None
    proxy_port: Count | None = None
    proxy_url: Name | None = None
    sidecar_url: Name | None = None
    resource: Name | None = None
    """Full name of the Cloud Run service or worker pool that it is."""
    revision: Name | None = None
    """The revision that serves there."""
    operation: Name | None = None
    """The long-running operation at Google that is under way for it; the next manager goes on waiting for it."""
    logs_url: Text | None = None
    """Where its logs are read, when not in the manager's data directory."""
    started_at: Instant | None = None
    restarts: Count = 0
    recent_restarts: tuple[Instant, ...] = ()
    gave_up: bool = False
    healing_enabled: bool = True
    maintenance_until: Instant | None = None
    """Until when a person asked that it be left alone."""
    withheld: Text | None = None
    """Why it is in trouble and yet not restarted now."""
    version: Name
    incident: Incident | None = None
    """The current or latest unhealthy spell."""
    updated_at: Instant


class Observation(Lenient):
    """Bucket ``observations``, written by the health processor alone: how an agent is."""

    agent_id: Token
    tenant_id: Token
    health: HealthStatus
    status: AgentStatus
    reason: Text = ""
    since: Instant
    """When ``health`` last changed."""
    last_heartbeat: Instant | None = None
    heartbeat_interval_s: Finite = 5.0
    pid: Count | None = None
    """The agent's own process."""
    version: Name | None = None
    name: Name | None = None
    metrics: Metrics = Metrics()
    checks: tuple[Check, ...] = ()
    active_faults: tuple[str, ...] = ()
    proxy_url: Name | None = None
    began_at: Instant | None = None
    """When the trouble behind the present unhealthy spell began, in the events' own time."""
    updated_at: Instant


class AskedFault(Fault):
    """A fault with what only its sidecar needs to know; events tell the rest of it, and this in attributes."""

    intensity: Annotated[float, Field(gt=0, le=1e9)] | None = None
    """``throttle``: bytes a second; ``truncate``: bytes that come; ``cpu_pressure``: cores; ``memory_pressure``: megabytes."""
    seed: Count | None = None
    """Given: the same requests are struck, in order, whenever it is injected with it."""
    begins_at: Instant | None = None
    """Not in force before."""


class FaultSet(Lenient):
    """Bucket ``faults``: every fault now asked of an agent. Written by the manager; each has its deadline."""

    agent_id: Token
    tenant_id: Token
    faults: tuple[AskedFault | Fault, ...] = ()
    updated_at: Instant
