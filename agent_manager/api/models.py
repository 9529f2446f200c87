"""What is asked of the API and what it answers, beside what the wire has already."""

from typing import Annotated, Any

from pydantic import Field, JsonValue

from agent_manager.cli.fleet.rows import AgentRow
from schemas.commands import FaultParams
from schemas.model import Identifier, Instant, Lenient, Name, Text, Token, Wire
from schemas.sections import Fault, FaultKind, Metrics
from schemas.state import AgentRecord, AgentState, AskedFault, Observation
from schemas.versions import Releases, Sighting


class Agents(Lenient):
    """One page of agents."""

    items: tuple[AgentRow, ...]
    next_cursor: str | None = None


class AgentDetail(Lenient):
    """Everything known of an agent."""

    agent: AgentRow
    record: AgentRecord | None = None
    """What it is; values of its environment are shown to admins alone."""
    state: AgentState | None = None
    observation: Observation | None = None
    releases: Releases | None = None
    sighting: Sighting | None = None
    faults: tuple[AskedFault | Fault, ...] = ()


class AgentMetrics(Lenient):
    """How an agent does."""

    agent_id: Token
    tenant_id: Token
    current: Metrics
    """As its sidecar last told."""
    observed_at: Instant | None = None
    metric: str
    series: tuple[dict[str, Any], ...]
    """One row a bucket of time, of the metric asked for."""


class Ordered(Wire):
    """What may be said with a command."""

    reason: Text | None = None
    """For the audit trail."""


class FaultOrder(FaultParams):
    """A fault to inject; it ends by itself after ``duration_s``."""


class Cleared(Wire):
    """Which faults are to end."""

    kind: FaultKind | None = None
    """Only those of this kind; else all."""
    reason: Text | None = None


class Registration(Wire):
    """An agent to register: what an ``agent.yaml`` says, as JSON."""

    record: dict[str, JsonValue]
    """An AgentRecord: ``agent_id``, ``name``, ``version``, ``working_directory``, ``command`` and what else it has."""
    current: bool = True
    """False: the version is kept for a rollout, and what runs stays what it is."""
    dry_run: bool = False
    """Says what would be done, and does nothing."""
    reason: Text | None = None


class Changes(Wire):
    """Fields of an agent's record to change; the rest stays."""

    fields: Annotated[dict[str, JsonValue], Field(min_length=1)]
    dry_run: bool = False
    reason: Text | None = None


class Removal(Wire):
    """How an agent is deleted."""

    dry_run: bool = False
    reason: Text | None = None


class Acknowledged(Lenient):
    """Somebody has seen an alert."""

    alert_id: Identifier
    by: Name
    at: Instant
    note: Text | None = None


class Seen(Wire):
    """What may be said when an alert is acknowledged."""

    note: Text | None = None


class FleetFigures(Lenient):
    """How many agents there are, by health."""

    total: int
    by_health: dict[str, int]
    unobserved: int
    """Managed, and not yet heard of."""


class Overview(Lenient):
    """The figures at the top of the page, of the last 24 hours."""

    tenant_id: Token | None = None
    agents: FleetFigures
    runs: int
    failed_runs: int
    tokens: int
    cost_usd: str
    run_latency: tuple[dict[str, Any], ...]
    """Percentiles in milliseconds, by tenant; by agent for a key that is for some agents."""
    events_per_s: float
    firing_alerts: int
    as_of: Instant
