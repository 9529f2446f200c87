"""The older platform's contract, ``event_version: "v0"``, reconstructed from its documents.

Same envelope keys as today's; provider, model and token meter together in ``resource_usage``;
``cached_tokens`` are cache reads; no sections for steps and calls of their own.
"""

from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from schemas.model import Identifier, Instant, Milliseconds, Name, Text, Token, Tokens


class _V0(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)


class TenantV0(_V0):
    tenant_id: Token
    workspace_id: Token | None = None
    project_id: Token | None = None


class RunV0(_V0):
    run_id: Identifier
    agent_id: Token
    workflow_id: Identifier | None = None
    status: Literal["queued", "running", "completed", "failed", "cancelled"] | None = None


class TraceV0(_V0):
    trace_id: Identifier
    span_id: Identifier | None = None
    parent_span_id: Identifier | None = None


class ResourceUsageV0(_V0):
    provider: Name | None = None
    model: Name | None = None
    model_call_id: Identifier | None = None
    step_id: Identifier | None = None
    step_type: Name | None = None
    latency_ms: Milliseconds | None = None
    input_tokens: Tokens = 0
    output_tokens: Tokens = 0
    cached_tokens: Tokens = 0
    """Cache reads, part of ``input_tokens``."""
    total_tokens: Tokens | None = None
    """Input + output; some emitters left cache reads out of the sum."""


class CostV0(_V0):
    cost_usd: (
        Annotated[float, Field(ge=0, lt=10**9, allow_inf_nan=False)] | Annotated[str, Field(pattern=r"^\d{1,9}(\.\d{1,9})?$")]
    )
    currency: Literal["USD"] = "USD"
    price_book_version: Name | None = None
    reason: Text | None = None


class BudgetV0(_V0):
    budget_id: Token
    scope: Literal["tenant", "workspace", "project", "agent"]
    period: Name
    enforcement: Literal["alert", "stop", "deny"] = "alert"
    threshold: Annotated[float, Field(ge=0, le=1)] = 1.0
    limit_usd: Annotated[float, Field(ge=0, lt=10**9)] = 0.0
    spent_usd: Annotated[float, Field(ge=0, lt=10**9)] = 0.0
    result: Name | None = None


class PolicyV0(_V0):
    policy_id: Identifier
    decision: Literal["allow", "block", "escalate"]
    actor: dict[str, JsonValue] = {}
    reason: Text | None = None


class AlertV0(_V0):
    alert_id: Identifier
    type: Name
    threshold: Annotated[float, Field(allow_inf_nan=False)] | None = None
    current_value: Annotated[float, Field(allow_inf_nan=False)] | None = None
    destination: Name | None = None
    sent_at: Instant | None = None


class ErrorV0(_V0):
    type: Name = "error"
    message: Text = ""
    code: Name | None = None


TYPE_OF_V0 = {
    "run.started": "run.started", "run.completed": "run.completed", "run.failed": "run.failed",
    "step.started": "step.started", "step.completed": "step.completed", "step.failed": "step.failed",
    "model.completed": "model_call.completed", "model.failed": "model_call.failed",
    "model_call.completed": "model_call.completed", "model_call.failed": "model_call.failed",
    "budget.threshold_hit": "budget.threshold_hit", "policy.decision": "policy.decision",
    "alert.emitted": "alert.emitted",
}  # fmt: skip
"""Today's event type for each of v0's."""


class EventV0(_V0):
    """An event of the older platform."""

    event_version: Literal["v0"]
    event_id: UUID
    event_type: Literal[
        "run.started", "run.completed", "run.failed", "step.started", "step.completed", "step.failed",
        "model.completed", "model.failed", "model_call.completed", "model_call.failed",
        "budget.threshold_hit", "policy.decision", "alert.emitted",
    ]  # fmt: skip
    occurred_at: Instant
    tenant: TenantV0
    run: RunV0
    trace: TraceV0 | None = None
    resource_usage: ResourceUsageV0 | None = None
    cost: CostV0 | None = None
    budget: BudgetV0 | None = None
    policy: PolicyV0 | None = None
    alert: AlertV0 | None = None
    error: ErrorV0 | None = None
    attributes: dict[str, JsonValue] = {}


def _usd(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:.9f}"


def _usage(usage: dict[str, Any]) -> dict[str, Any]:
    read = usage["cached_tokens"]
    whole = usage["input_tokens"] + usage["output_tokens"]
    total = usage.get("total_tokens")
    kept = {"input_tokens": usage["input_tokens"], "output_tokens": usage["output_tokens"], "cache_read_tokens": read}
    if total is not None:
        kept["total_tokens"] = whole if total == whole - read else total
    return kept


def upcast(event: EventV0) -> dict[str, Any]:
    """The same event in the words of v1, as a JSON-like value still to be validated as v1."""
    old = event.model_dump(mode="json", exclude_none=True)
    new: dict[str, Any] = {
        key: old[key] for key in ("event_id", "occurred_at", "tenant", "run", "trace", "alert", "policy", "error") if key in old
    }
    new["event_version"] = "v1"
    new["event_type"] = event_type = TYPE_OF_V0[old["event_type"]]
    attributes = dict(old.get("attributes", {}))
    usage = old.get("resource_usage")
    if event_type.startswith("model_call.") and usage is not None:
        call = {"provider": usage.get("provider", "unknown"), "model": usage.get("model", "unknown")}
        call["model_call_id"] = usage.get("model_call_id", old["event_id"])
        call |= {key: usage[key] for key in ("step_id", "latency_ms") if key in usage}
        new["model_call"] = call
        new["resource_usage"] = _usage(usage)
    elif event_type.startswith("step."):
        usage = usage or {}
        new["step"] = {"step_id": usage.get("step_id", old["event_id"]), "step_type": usage.get("step_type", "unknown")}
        if "latency_ms" in usage:
            new["step"]["latency_ms"] = usage["latency_ms"]
    elif usage is not None:
        # A run's usage is an aggregate of its model calls: kept for people, never billed.
        attributes["v0_resource_usage"] = usage
    if "cost" in old:
        new["cost"] = {"cost_usd": _usd(old["cost"]["cost_usd"])}
        if "price_book_version" in old["cost"]:
            new["cost"]["price_book_version"] = old["cost"]["price_book_version"]
    if "budget" in old:
        budget = dict(old["budget"])
        budget |= {key: _usd(budget[key]) for key in ("limit_usd", "spent_usd")}
        new["budget"] = budget
    if "policy" in new:
        actor = new["policy"].pop("actor", {})
        if actor:
            known = actor.get("actor_id", actor.get("id"))
            if isinstance(known, str) and known:
                new["policy"]["actor"] = {"actor_id": known[:128]}
            attributes["v0_actor"] = actor
    if event_type.endswith(".failed") and "error" not in new:
        new["error"] = {"type": "unknown", "message": "the v0 event carried no error section"}
    if attributes:
        new["attributes"] = attributes
    return new
