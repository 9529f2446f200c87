"""To any OTLP/HTTP receiver, as spans of the GenAI semantic conventions."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from sidecar.tracing.events import Made
from sidecar.tracing.exporters.exporter import Again, Delivered, Outcome, Refused
from sidecar.tracing.exporters.posting import Poster

_PROTOBUF: Final = "application/x-protobuf"
_INTERNAL: Final = 1
_CLIENT: Final = 3
_ERROR: Final = 2

_USAGE: Final[Mapping[str, str]] = {
    "input_tokens": "gen_ai.usage.input_tokens",
    "output_tokens": "gen_ai.usage.output_tokens",
    "cache_read_tokens": "gen_ai.usage.cache_read.input_tokens",
    "cache_write_tokens": "gen_ai.usage.cache_creation.input_tokens",
    "reasoning_tokens": "gen_ai.usage.reasoning.output_tokens",
}


class Shape:
    """One span's name, kind, duration and attributes."""

    __slots__ = ("attributes", "kind", "latency_ms", "name")

    def __init__(self, name: str, latency_ms: float, attributes: dict[str, Any], kind: int = _INTERNAL) -> None:
        self.name = name
        self.latency_ms = latency_ms
        self.attributes = {key: value for key, value in attributes.items() if value is not None}
        self.kind = kind


def shape(event: Mapping[str, Any]) -> Shape | None:
    """What the span of an event says; None for events that are not the end of something."""
    run = event["run"]
    if (call := event.get("model_call")) is not None:
        usage = event.get("resource_usage", {})
        finish = call.get("finish_reason")
        attributes = {
            "gen_ai.operation.name": call.get("operation", "chat"),
            "gen_ai.provider.name": call["provider"],
            "gen_ai.request.model": call["model"],
            "gen_ai.response.model": call["model"],
            "gen_ai.response.id": call.get("response_id"),
            "gen_ai.response.finish_reasons": None if finish is None else [finish],
            **{name: usage.get(count) for count, name in _USAGE.items()},
        }
        return Shape(f"{call.get('operation', 'chat')} {call['model']}", call["latency_ms"], attributes, _CLIENT)
    if (tool := event.get("tool_call")) is not None:
        attributes = {
            "gen_ai.operation.name": "execute_tool",
            "gen_ai.tool.name": tool["name"],
            "gen_ai.tool.call.id": tool["tool_call_id"],
        }
        return Shape(f"execute_tool {tool['name']}", tool["latency_ms"], attributes)
    if (step := event.get("step")) is not None:
        attributes = {"agentops.step_type": step["step_type"]}
        if step["step_type"] == "agent":
            attributes |= {"gen_ai.operation.name": "invoke_agent", "gen_ai.agent.name": step["name"]}
        return Shape(step["name"], step["latency_ms"], attributes)
    if event["event_type"] in {"run.completed", "run.failed"}:
        attributes = {
            "gen_ai.operation.name": "invoke_agent",
            "gen_ai.agent.name": run.get("workflow_id"),
            "gen_ai.agent.id": run["agent_id"],
            "agentops.run_id": run.get("run_id"),
        }
        return Shape(f"invoke_agent {run.get('workflow_id') or run['agent_id']}", run["duration_ms"], attributes)
    return None


class Otlp:
    """``endpoint`` is a receiver's base, as ``OTEL_EXPORTER_OTLP_ENDPOINT`` says it; spans go to ``/v1/traces``.

    Needs ``opentelemetry-proto``; raises ImportError with what to install where it is missing.
    """

    name = "otlp"
    most_bytes = 900_000

    def __init__(self, endpoint: str, *, headers: Mapping[str, str] | None = None, timeout_s: float = 10.0) -> None:
        try:
            from opentelemetry.proto.collector.trace.v1 import trace_service_pb2  # noqa: PLC0415 - protobuf, for those who export so
        except ImportError as error:
            raise ImportError("the OTLP exporter needs opentelemetry-proto: pip install opentelemetry-proto") from error
        self._messages = trace_service_pb2
        self._poster = Poster(f"{endpoint.rstrip('/')}/v1/traces", headers, timeout_s=timeout_s)

    def export(self, batch: Sequence[Made]) -> Outcome:
        request = self._messages.ExportTraceServiceRequest()
        events = [made.event for made in batch]
        resource = request.resource_spans.add()
        first = events[0]
        for key, value in (
            ("service.name", first["run"]["agent_id"]),
            *((f"agentops.{name}", found) for name, found in first["tenant"].items()),
        ):
            _attribute(resource.resource.attributes.add(), key, value)
        scope = resource.scope_spans.add()
        scope.scope.name = "agentops.tracer"
        for event in events:
            if (found := shape(event)) is not None:
                _span(scope.spans.add(), event, found)
        if not scope.spans:
            return Delivered()
        answer = self._poster.post(request.SerializeToString(), _PROTOBUF)
        if isinstance(answer, Again):
            return answer
        if answer.status >= 300:
            return Refused(f"{self._poster.shown} answered HTTP {answer.status}", len(batch))
        partial = self._messages.ExportTraceServiceResponse.FromString(answer.body).partial_success
        if partial.rejected_spans:
            return Refused(partial.error_message or "partial success", int(partial.rejected_spans))
        return Delivered()

    def close(self) -> None:
        self._poster.close()

    forked = close


def _span(span: Any, event: Mapping[str, Any], found: Shape) -> None:
    trace = event["trace"]
    span.trace_id, span.span_id = bytes.fromhex(trace["trace_id"]), bytes.fromhex(trace["span_id"])
    if "parent_span_id" in trace:
        span.parent_span_id = bytes.fromhex(trace["parent_span_id"])
    span.name, span.kind = found.name, found.kind
    ended = round(datetime.fromisoformat(event["occurred_at"]).timestamp() * 1e9)
    span.start_time_unix_nano, span.end_time_unix_nano = ended - round(found.latency_ms * 1e6), ended
    for key, value in {**event.get("attributes", {}), **found.attributes}.items():
        _attribute(span.attributes.add(), key, value)
    if (error := event.get("error")) is not None:
        span.status.code, span.status.message = _ERROR, error.get("message", "")
        _attribute(span.attributes.add(), "error.type", error["type"])


def _attribute(into: Any, key: str, value: Any) -> None:
    into.key = key
    _value(into.value, value)


def _value(into: Any, value: Any) -> None:
    if isinstance(value, bool):
        into.bool_value = value
    elif isinstance(value, int) and value < 2**63:
        into.int_value = value
    elif isinstance(value, int | float):
        into.double_value = value
    elif isinstance(value, list):
        into.array_value.SetInParent()
        for item in value:
            _value(into.array_value.values.add(), item)
    elif isinstance(value, dict):
        into.kvlist_value.SetInParent()
        for key, item in value.items():
            _attribute(into.kvlist_value.values.add(), key, item)
    elif value is not None:
        into.string_value = str(value)
