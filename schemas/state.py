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
    driver: Literal["local"] = "local"
    command: Annotated[tuple[str, ...], Field(min_length=1)]
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
    autostart: bool = True
    stop_timeout_s: Annotated[float, Field(gt=0, le=600)] = 5.0
    tags: tuple[Name, ...] = ()
    owner: Name | None = None
    environment_name: Name = "dev"
    dependencies: tuple[Token, ...] = ()
    """Ids of the agents, of the same tenant, that it needs."""
    maintenance: tuple[MaintenanceWindow, ...] = ()
    """When it is not healed, because people are at work on it."""
    metadata: dict[str, JsonValue] = {}
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


class FaultSet(Lenient):
    """Bucket ``faults``: every fault now asked of an agent. Written by the manager; each has its deadline."""

    agent_id: Token
    tenant_id: Token
    faults: tuple[Fault, ...] = ()
    updated_at: Instant
