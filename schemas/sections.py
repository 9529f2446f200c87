"""The sections an event is made of."""

from typing import Annotated, Final, Literal, Self

from pydantic import Field, model_validator

from schemas.model import (
    Count,
    Finite,
    Identifier,
    Instant,
    Milliseconds,
    Name,
    Ratio,
    Text,
    Token,
    Tokens,
    Usd,
    Wire,
)

RunStatus = Literal["queued", "running", "completed", "failed", "cancelled"]
StepStatus = Literal["running", "completed", "failed", "cancelled"]
HealthStatus = Literal["HEALTHY", "UNHEALTHY", "RECOVERING", "STUCK"]
AgentStatus = Literal["starting", "running", "stopped", "error", "inactive"]
Severity = Literal["info", "warning", "critical"]
FaultKind = Literal[
    "latency", "error", "crash", "hang", "blackhole", "throttle", "reset", "truncate", "cpu_pressure", "memory_pressure",
    "heartbeat_loss",
    "model_rate_limit", "model_error", "model_slow", "model_stall", "model_truncate", "model_malformed",
]  # fmt: skip
"""The ``model_`` ones concern calls of models through the metering proxy, the others the agent itself."""
ProbeKind = Literal["http", "tcp", "process"]


class Tenant(Wire):
    """Whose event it is."""

    tenant_id: Token
    workspace_id: Token | None = None
    project_id: Token | None = None


class Run(Wire):
    """The run an event belongs to. ``run_id`` may be absent on events about the agent itself."""

    agent_id: Token
    run_id: Identifier | None = None
    workflow_id: Identifier | None = None
    status: RunStatus | None = None
    duration_ms: Milliseconds | None = None
    """Wall time of the whole run, on its last event."""


class Trace(Wire):
    """Correlation ids, W3C trace context where the producer has one."""

    trace_id: Identifier
    span_id: Identifier | None = None
    parent_span_id: Identifier | None = None


class Step(Wire):
    """One step of a run."""

    step_id: Identifier
    step_type: Name
    name: Name | None = None
    status: StepStatus | None = None
    latency_ms: Milliseconds | None = None


class ModelCall(Wire):
    """One call of a model; the only thing that is billed."""

    model_call_id: Identifier
    provider: Name
    model: Name
    step_id: Identifier | None = None
    response_id: Identifier | None = None
    """The provider's own id of the response: the same call seen twice carries the same one."""
    operation: Name | None = None
    service_tier: Name | None = None
    latency_ms: Milliseconds | None = None
    time_to_first_token_ms: Milliseconds | None = None
    finish_reason: Name | None = None
    streamed: bool | None = None


class ToolCall(Wire):
    """One call of a tool."""

    tool_call_id: Identifier
    name: Name
    step_id: Identifier | None = None
    latency_ms: Milliseconds | None = None


class ResourceUsage(Wire):
    """Tokens as OpenTelemetry GenAI counts them: input includes cache, output includes reasoning."""

    input_tokens: Tokens
    output_tokens: Tokens
    cache_read_tokens: Tokens = 0
    cache_write_tokens: Tokens = 0
    reasoning_tokens: Tokens = 0
    total_tokens: Tokens | None = None
    estimated: bool = False
    """The provider reported nothing (a broken stream); the counts are an estimate."""
    cache_write_1h_tokens: Tokens | None = None
    """Of the cache writes, those kept for an hour; the others are kept for five minutes."""
    citation_tokens: Tokens | None = None
    """Of the output, as reasoning is."""
    input_audio_tokens: Tokens | None = None
    """Of the input, cached or not."""
    cache_read_audio_tokens: Tokens | None = None
    """Audio read from the cache: part of ``input_audio_tokens`` and of ``cache_read_tokens``."""
    output_audio_tokens: Tokens | None = None
    input_image_tokens: Tokens | None = None
    cache_read_image_tokens: Tokens | None = None
    output_image_tokens: Tokens | None = None
    input_video_tokens: Tokens | None = None
    output_video_tokens: Tokens | None = None
    web_searches: Tokens | None = None
    """Searches of the web the provider made during this call, charged apart."""
    file_searches: Tokens | None = None

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        if self.cache_read_tokens + self.cache_write_tokens > self.input_tokens:
            msg = "cache_read_tokens + cache_write_tokens must not exceed input_tokens (input includes cache)"
            raise ValueError(msg)
        if self.reasoning_tokens > self.output_tokens:
            msg = "reasoning_tokens must not exceed output_tokens (output includes reasoning)"
            raise ValueError(msg)
        if self.total_tokens is not None and self.total_tokens != self.input_tokens + self.output_tokens:
            msg = "total_tokens must equal input_tokens + output_tokens"
            raise ValueError(msg)
        if not _TOLD_APART.isdisjoint(self.model_fields_set):
            self._parts_fit()
        return self

    def _parts_fit(self) -> None:
        """No part is larger than what it is a part of."""
        for whole, parts in _PARTS:
            told = {part: count for part in parts if (count := getattr(self, part)) is not None}
            most = getattr(self, whole) or 0
            if sum(told.values()) > most:
                msg = f"{' + '.join(told)} must not exceed {whole} ({most:,})"
                raise ValueError(msg)


_PARTS: Final[tuple[tuple[str, tuple[str, ...]], ...]] = (
    ("cache_write_tokens", ("cache_write_1h_tokens",)),
    ("input_tokens", ("input_audio_tokens", "input_image_tokens", "input_video_tokens")),
    ("cache_read_tokens", ("cache_read_audio_tokens", "cache_read_image_tokens")),
    ("input_audio_tokens", ("cache_read_audio_tokens",)),
    ("input_image_tokens", ("cache_read_image_tokens",)),
    ("output_tokens", ("output_audio_tokens", "output_image_tokens", "output_video_tokens")),
    ("output_tokens", ("reasoning_tokens", "citation_tokens")),
)
"""What is told apart, after what it is part of; parts in one row do not overlap."""
_TOLD_APART: Final = frozenset(part for _, parts in _PARTS for part in parts) - {"reasoning_tokens"}


class Cost(Wire):
    """What the client believes it paid; kept beside our own price, never billed."""

    cost_usd: Usd
    currency: Literal["USD"] = "USD"
    price_book_version: Name | None = None


class Budget(Wire):
    """The state of a budget when a threshold was crossed, or when that was over."""

    budget_id: Token
    scope: Literal["tenant", "workspace", "project", "agent"]
    period: Name
    threshold: Ratio
    limit_usd: Usd
    spent_usd: Usd
    enforcement: Literal["alert", "stop", "deny"] = "alert"
    result: Name | None = None


class Actor(Wire):
    """Who asked for the action a policy decided on."""

    actor_id: Identifier
    actor_type: Name | None = None


class Policy(Wire):
    """A governance decision."""

    policy_id: Identifier
    decision: Literal["allow", "block", "escalate"]
    action: Name | None = None
    actor: Actor | None = None
    reason: Text | None = None


class Alert(Wire):
    """An alert as its emitter saw it."""

    alert_id: Identifier
    type: Name
    severity: Severity = "warning"
    threshold: Finite | None = None
    current_value: Finite | None = None
    destination: Name | None = None
    sent_at: Instant | None = None
    message: Text | None = None


class Error(Wire):
    """Why something failed."""

    type: Name
    message: Text = ""
    code: Name | None = None
    retryable: bool | None = None


class Check(Wire):
    """The latest answer of one health probe."""

    name: Name
    kind: ProbeKind
    ok: bool
    consecutive_failures: Count = 0
    latency_ms: Milliseconds | None = None
    error: Text | None = None


class Health(Wire):
    """Health as the sender knows it: a sidecar its probes, the health processor its verdict."""

    status: HealthStatus
    previous_status: HealthStatus | None = None
    reason: Text | None = None
    checks: Annotated[tuple[Check, ...], Field(max_length=32)] = ()
    active_faults: Annotated[tuple[FaultKind, ...], Field(max_length=32)] = ()
    interval_s: Annotated[float, Field(gt=0, le=3600)] | None = None
    """How often this sender beats: three of these without one is an absence."""


class Sample(Wire):
    """One named measurement."""

    name: Name
    value: Finite
    unit: Name | None = None


class Metrics(Wire):
    """What a sidecar measured since its last report; all optional."""

    latency_ms: Milliseconds | None = None
    """Mean latency of the real requests of the window."""
    latency_p95_ms: Milliseconds | None = None
    error_rate: Ratio | None = None
    """Share of the window's requests that ended in a 5xx or without an answer."""
    requests: Count | None = None
    errors: Count | None = None
    requests_per_s: Finite | None = None
    in_flight: Count | None = None
    cpu_percent: Finite | None = None
    """Of one core, agent process and its children."""
    memory_rss_bytes: Count | None = None
    memory_vms_bytes: Count | None = None
    process_count: Count | None = None
    threads: Count | None = None
    system_cpu_percent: Finite | None = None
    system_memory_percent: Finite | None = None
    disk_read_bytes: Count | None = None
    disk_write_bytes: Count | None = None
    network_sent_bytes: Count | None = None
    network_received_bytes: Count | None = None
    spool_bytes: Count | None = None
    spool_dropped: Count | None = None
    samples: Annotated[tuple[Sample, ...], Field(max_length=256)] = ()


class Agent(Wire):
    """What is known of the agent itself."""

    name: Name | None = None
    version: Name | None = None
    agent_type: Name | None = None
    status: AgentStatus | None = None
    previous_status: AgentStatus | None = None
    pid: Count | None = None
    started_at: Instant | None = None
    exit_code: int | None = None
    signal: Name | None = None
    reason: Text | None = None
    proxy_url: Name | None = None
    """Where the sidecar answers for the agent."""


class Evaluation(Wire):
    """The outcome of one evaluation."""

    evaluation_id: Identifier
    evaluator: Name
    score: Finite
    suite: Name | None = None
    passed: bool | None = None
    label: Name | None = None


class Fault(Wire):
    """A deliberate fault. ``until`` is enforced by the sidecar itself."""

    fault_id: Identifier
    kind: FaultKind
    until: Instant
    latency_ms: Milliseconds | None = None
    jitter_ms: Milliseconds | None = None
    rate: Ratio | None = None
    """Share of requests it strikes; of every request where it is left out."""
    status_code: Annotated[int, Field(ge=400, le=599)] | None = None
    retry_after_s: Annotated[float, Field(ge=0, le=86_400)] | None = None
    """What ``model_rate_limit`` tells the client to wait."""
    injected_by: Name | None = None
    reason: Text | None = None


class Log(Wire):
    """One log line of an agent."""

    level: Literal["debug", "info", "warning", "error", "critical"]
    message: Text
    logger: Name | None = None
