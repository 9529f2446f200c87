"""The events that spans become: the contract of ``schemas.events``, made without it."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from sidecar.tracing import ids
from sidecar.tracing.model_calls import ModelCall
from sidecar.tracing.spans import Span, Step, ToolCall
from sidecar.tracing.usage import Counted, counted, extracted
from sidecar.tracing.values import name
from sidecar.tracing.whose import Whose

UNREPORTED: Final = "agentops.usage_unreported"
"""An attribute of a model call that told of no usage: its counts are 0 and marked ``estimated``, and why is said here."""
CORRECTED: Final = "agentops.usage_corrected"

_NO_USAGE: Final = "the response told of no usage: give it to response(…), or the counts to usage(…)"


class Begun(NamedTuple):
    """The beginning of a run, and what it lost before."""

    span: Step
    event_id: str
    at_ns: int
    billable: bool = False


Item = Span | Begun
"""What waits to be told."""


class Made(NamedTuple):
    """One event, ready to leave."""

    event: dict[str, Any]
    line: bytes
    """Its JSON on one line."""
    kind: str
    event_id: str


def moment(unix_ns: int) -> str:
    """In words."""
    return datetime.fromtimestamp(unix_ns / 1e9, UTC).isoformat(timespec="microseconds")


def event(item: Item, who: Whose) -> tuple[dict[str, Any], str]:
    """The event of a span that ended, or of a run that began; and its kind."""
    if isinstance(item, Begun):
        return _begun(item, who), "run"
    if isinstance(item, ModelCall):
        return _model_call(item, who), "model_call"
    if isinstance(item, ToolCall):
        return _tool_call(item, who), "tool_call"
    assert isinstance(item, Step)
    if item.is_run:
        return _run_ended(item, who), "run"
    return _step(item, who), "step"


def _told(section: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in section.items() if value is not None}


def _envelope(span: Span, who: Whose, event_type: str, event_id: str, at_ns: int) -> dict[str, Any]:
    run = span.run
    section: dict[str, Any] = {"agent_id": run.agent_id or who.agent_id}
    if run.run_id is not None:
        section["run_id"] = run.run_id
        section["workflow_id"] = run.workflow_id
    trace = {"trace_id": span.trace.trace_id, "span_id": span.span_id}
    if span.parent_id is not None:
        trace["parent_span_id"] = span.parent_id
    found: dict[str, Any] = {
        "event_version": "v1",
        "event_id": event_id,
        "event_type": event_type,
        "occurred_at": moment(at_ns),
        "tenant": who.tenant(),
        "run": section,
        "trace": trace,
    }
    if span.attributes:
        found["attributes"] = span.attributes
    return found


def _begun(begun: Begun, who: Whose) -> dict[str, Any]:
    found = _envelope(begun.span, who, "run.started", begun.event_id, begun.at_ns)
    found["run"]["status"] = "running"
    # What is told of the run while it lasts belongs to its end.
    found.pop("attributes", None)
    if begun.span.run.agent_id is None:
        found["agent"] = who.agent()
    return found


def _ended(span: Span, who: Whose, what: str) -> dict[str, Any]:
    outcome = "completed" if span.status == "completed" else "failed"
    found = _envelope(span, who, f"{what}.{outcome}", span.event_id, span.at_ns)
    if outcome == "failed":
        found["error"] = span.error or {"type": span.status}
    return found


def _run_ended(span: Step, who: Whose) -> dict[str, Any]:
    found = _ended(span, who, "run")
    found["run"]["status"] = span.status
    found["run"]["duration_ms"] = span.latency_ms
    return found


def _step(span: Step, who: Whose) -> dict[str, Any]:
    found = _ended(span, who, "step")
    found["step"] = {
        "step_id": span.span_id,
        "step_type": name(span.step_type, "step"),
        "name": name(span.name, "step"),
        "status": span.status,
        "latency_ms": span.latency_ms,
    }
    return found


def _tool_call(span: ToolCall, who: Whose) -> dict[str, Any]:
    found = _ended(span, who, "tool_call")
    section = {"tool_call_id": span.span_id, "name": name(span.name, "tool"), "latency_ms": span.latency_ms}
    if span.step_id is not None:
        section["step_id"] = span.step_id
    found["tool_call"] = section
    return found


def usage(span: ModelCall) -> Counted:
    """What a call used, by the first that tells: the agent in numbers, else the response."""
    if span.counts is not None:
        return counted(span.counts)
    body = None if span.seen is None else span.seen.body(span.model)
    return Counted(None, _NO_USAGE) if body is None else extracted(body, span.provider)


def _model_call(span: ModelCall, who: Whose) -> dict[str, Any]:
    found = _ended(span, who, "model_call")
    seen = span.seen
    found["model_call"] = _told({
        "model_call_id": span.span_id,
        "provider": name(span.provider, "unknown"),
        "model": name((seen and seen.model) or span.model, "unknown"),
        "step_id": span.step_id,
        "response_id": seen and seen.response_id,
        "operation": name(span.operation, "chat"),
        "service_tier": seen and seen.service_tier,
        "latency_ms": span.latency_ms,
        "time_to_first_token_ms": round((span.first_ns - span.began_ns) / 1e6, 3) if span.first_ns else None,
        "finish_reason": seen and seen.finish_reason,
        "streamed": True if span.streamed else None,
    })  # fmt: skip
    section, note = usage(span)
    if section is not None:
        found["resource_usage"] = section
        if note is not None:
            found["attributes"] = {**(span.attributes or {}), CORRECTED: note}
    elif span.status == "completed":
        found["resource_usage"] = {"input_tokens": 0, "output_tokens": 0, "estimated": True}
        found["attributes"] = {**(span.attributes or {}), UNREPORTED: note or _NO_USAGE}
    return found


def made(item: Item, who: Whose) -> Made:
    """``item`` as it leaves."""
    import orjson  # noqa: PLC0415 - the background thread's to load

    found, kind = event(item, who)
    try:
        line = orjson.dumps(found)
    except TypeError:
        # Half a character (a lone surrogate), which no JSON can hold.
        found = _whole(found)
        line = orjson.dumps(found)
    return Made(found, line, kind, found["event_id"])


def _whole(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {_whole(key): _whole(item) for key, item in value.items()}
    return [_whole(item) for item in value] if isinstance(value, list) else value


def begun(span: Step, at_ns: int) -> Begun:
    """The beginning of the run ``span`` is."""
    return Begun(span, ids.event_id(at_ns), at_ns)
