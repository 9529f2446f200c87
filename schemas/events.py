"""The event contract, version v1: the envelope, the event types, and which section each type needs."""

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal, Self
from uuid import UUID

from pydantic import ConfigDict, Field, JsonValue, model_validator
from pydantic_core import PydanticCustomError

from schemas import sections
from schemas.model import Instant, Wire

CURRENT_VERSION: Final = "v1"

Kind = Literal[
    "agent", "run", "step", "model_call", "tool_call", "heartbeat", "metric", "log",
    "policy", "budget", "alert", "fault", "evaluation",
]  # fmt: skip

EventType = Literal[
    "run.started", "run.completed", "run.failed",
    "step.started", "step.completed", "step.failed",
    "model_call.completed", "model_call.failed",
    "tool_call.completed", "tool_call.failed",
    "agent.registered", "agent.started", "agent.stopped", "agent.heartbeat", "agent.status_changed",
    "policy.decision", "budget.threshold_hit", "budget.threshold_cleared", "alert.emitted",
    "fault.injected", "fault.cleared",
    "evaluation.completed", "metric.sampled", "log.emitted",
]  # fmt: skip

KIND_OF: Final[Mapping[str, Kind]] = {
    "run.started": "run", "run.completed": "run", "run.failed": "run",
    "step.started": "step", "step.completed": "step", "step.failed": "step",
    "model_call.completed": "model_call", "model_call.failed": "model_call",
    "tool_call.completed": "tool_call", "tool_call.failed": "tool_call",
    "agent.registered": "agent", "agent.started": "agent", "agent.stopped": "agent",
    "agent.status_changed": "agent", "agent.heartbeat": "heartbeat",
    "policy.decision": "policy", "budget.threshold_hit": "budget", "budget.threshold_cleared": "budget", "alert.emitted": "alert",
    "fault.injected": "fault", "fault.cleared": "fault",
    "evaluation.completed": "evaluation", "metric.sampled": "metric", "log.emitted": "log",
}  # fmt: skip
"""Which kind (subject token, warehouse table) each event type belongs to."""

KINDS: Final[tuple[Kind, ...]] = tuple(dict.fromkeys(KIND_OF.values()))

REQUIRED: Final[Mapping[str, tuple[str, ...]]] = {
    "run.started": ("run.run_id",),
    "run.completed": ("run.run_id",),
    "run.failed": ("run.run_id", "error"),
    "step.started": ("run.run_id", "step"),
    "step.completed": ("run.run_id", "step"),
    "step.failed": ("run.run_id", "step", "error"),
    "model_call.completed": ("model_call", "resource_usage"),
    "model_call.failed": ("model_call", "error"),
    "tool_call.completed": ("tool_call",),
    "tool_call.failed": ("tool_call", "error"),
    "agent.registered": ("agent",),
    "agent.started": ("agent",),
    "agent.stopped": ("agent",),
    "agent.heartbeat": ("health",),
    "agent.status_changed": (),
    "policy.decision": ("policy",),
    "budget.threshold_hit": ("budget",),
    "budget.threshold_cleared": ("budget",),
    "alert.emitted": ("alert",),
    "fault.injected": ("fault",),
    "fault.cleared": ("fault",),
    "evaluation.completed": ("evaluation",),
    "metric.sampled": ("metrics",),
    "log.emitted": ("log",),
}
"""The sections an event of each type must carry."""

MAX_ATTRIBUTES: Final = 132
"""128 of a producer's own, and room for the four marks of what was dropped, redacted and cut (``schemas.content``)."""


def _require_in_schema(schema: dict[str, Any]) -> None:
    rules = []
    for event_type, required in REQUIRED.items():
        sections_needed = [name for name in required if "." not in name]
        then: dict[str, Any] = {"required": sections_needed, "properties": {}}
        for name in sections_needed:
            then["properties"][name] = {"not": {"type": "null"}}
        if "run.run_id" in required:
            then["properties"]["run"] = {
                "required": ["run_id"], "properties": {"run_id": {"not": {"type": "null"}}}
            }  # fmt: skip
        rules.append({"if": {"properties": {"event_type": {"const": event_type}}}, "then": then})
    schema["allOf"] = rules


class Event(Wire):
    """Something that happened. What the contract does not name goes into ``attributes``."""

    model_config = ConfigDict(json_schema_extra=_require_in_schema)

    event_version: Literal["v1"]
    event_id: UUID
    """UUID, version 7 preferred. One id is one event for ever: the same id again is a duplicate."""
    event_type: EventType
    occurred_at: Instant
    tenant: sections.Tenant
    run: sections.Run
    trace: sections.Trace | None = None
    step: sections.Step | None = None
    model_call: sections.ModelCall | None = None
    tool_call: sections.ToolCall | None = None
    resource_usage: sections.ResourceUsage | None = None
    cost: sections.Cost | None = None
    budget: sections.Budget | None = None
    policy: sections.Policy | None = None
    alert: sections.Alert | None = None
    error: sections.Error | None = None
    health: sections.Health | None = None
    metrics: sections.Metrics | None = None
    agent: sections.Agent | None = None
    evaluation: sections.Evaluation | None = None
    fault: sections.Fault | None = None
    log: sections.Log | None = None
    attributes: Annotated[dict[str, JsonValue], Field(max_length=MAX_ATTRIBUTES, default_factory=dict)]

    @property
    def kind(self) -> Kind:
        """The kind this event's type belongs to."""
        return KIND_OF[self.event_type]

    @model_validator(mode="after")
    def _complete(self) -> Self:
        for name in REQUIRED[self.event_type]:
            present = self.run.run_id if name == "run.run_id" else getattr(self, name)
            if present is None:
                raise PydanticCustomError(
                    "section_missing",
                    "{section} is required on {event_type}",
                    {"section": name, "event_type": self.event_type},
                )
        return self


Flag = Literal["late", "from_the_past", "from_the_future", "beyond_duplicate_horizon"]


class Ingest(Wire):
    """What validate knows about an event it accepted."""

    received_at: Instant
    """When JetStream stored it."""
    sequence: int
    """Sequence in TELEMETRY of the message that carried it."""
    position: int
    """Place in that message, from 0."""
    flags: tuple[Flag, ...] = ()


class AcceptedEvent(Event):
    """An event as it stands on ``events.<tenant>.<kind>``: current version, each id once."""

    ingest: Ingest
