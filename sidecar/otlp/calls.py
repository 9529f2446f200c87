"""The events a span becomes."""

from collections.abc import Iterator, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from schemas.ids import derived_text
from sidecar.otlp.clipping import IDENTIFIER, NAME, TEXT, clipped, token
from sidecar.otlp.evaluations import EVALUATION, evaluation
from sidecar.otlp.mapping import FRAMEWORKS, HOSTS, MODELS, Cache
from sidecar.otlp.moments import moment
from sidecar.otlp.reading import Span
from sidecar.otlp.records import OBSERVED_BY, attributes
from sidecar.otlp.response_ids import quoted
from sidecar.otlp.sources import UNKNOWN_AGENT, Whose
from sidecar.otlp.spans import Judged, Sorted, sort
from sidecar.otlp.usage import counted, usage

_NOT_BILLED: Final = "agentops.not_billed"
_MOST_USD: Final = Decimal(10) ** 9
_NINE_DIGITS: Final = Decimal("0.000000001")
_MOST_MS: Final = 10.0**12
_USAGE_FIELDS: Final = ("input", "output", "total", "cache_read", "cache_write", "reasoning")


def provider_of(fields: Mapping[str, Any], model: str) -> tuple[str, str | None]:
    """The provider, and how it was found where the span names none that is one."""
    told = clipped(fields.get("provider"), NAME)
    if told is not None:
        name = told.lower()
        if name == "google.generative-ai" or name.startswith("google.vertex"):
            return "google", None
        head, dot, tail = name.partition(".")
        # The Vercel AI SDK's openai.chat, anthropic.messages: the provider, and which of its interfaces.
        if dot and tail in {"chat", "completion", "responses", "messages", "embedding", "image", "text", "transcription"}:
            return head, None
        if name not in FRAMEWORKS:
            return told, None
    host = fields.get("host")
    if host.__class__ is str:
        host = host.split("://", 1)[-1].split("/", 1)[0].rsplit(":", 1)[0].lower()
        for end, provider in HOSTS.items():
            if host == end or host.endswith(end if end[0] == "." else f".{end}"):
                return provider, "from the server's name"
    lowered = model.lower()
    for beginning, provider in MODELS.items():
        if lowered.startswith(beginning):
            return provider, "from the model's name"
    return told or "unknown", None


def usd(value: Any) -> str | None:
    """An amount with at most nine fractional digits; None for what is no amount."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        amount = Decimal(str(value))
        if not amount.is_finite() or not 0 <= amount < _MOST_USD:
            return None
        return format(amount.quantize(_NINE_DIGITS).normalize(), "f")
    except InvalidOperation:
        return None


def error_of(span: Span, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Why the span failed: what it says, else what the exception in it says."""
    raised: dict[str, Any] = {}
    for happening in span.events:
        if happening.name == "exception":
            raised = dict(happening.attributes)
    kind = fields.get("error_type") or raised.get("exception.type")
    if kind.__class__ is str and kind.startswith("<class '"):
        # openai-v2 writes Python's words for a class where its name belongs.
        kind = kind.removeprefix("<class '").removesuffix("'>")
    found: dict[str, Any] = {
        "type": clipped(kind, NAME) or "error",
        "message": clipped(span.message or fields.get("error_message") or raised.get("exception.message"), TEXT) or "",
    }
    if (code := clipped(fields.get("error_code"), NAME)) is not None:
        found["code"] = code
    return found


def _milliseconds(value: Any, factor: float) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    found = value * factor
    return round(found, 3) if 0 <= found <= _MOST_MS else None


class Teller:
    """Tells of the spans of one resource and scope."""

    def __init__(self, whose: Whose, scope: str, cache: Cache, now: int) -> None:
        self._whose = whose
        self._cache: Cache = cache
        self._now = now
        self._about = {**whose.about, **({"otel.scope.name": scope} if scope else {}), OBSERVED_BY: "otel"}

    def _event(self, span: Span, told: Sorted, what: str, event_type: str, at: int) -> dict[str, Any]:
        whose, fields = self._whose, told.fields
        agent = whose.agent or token(fields.get("agent_id")) or token(fields.get("agent")) or UNKNOWN_AGENT
        run: dict[str, Any] = {"agent_id": agent, "run_id": self.run_id(span, told)}
        workflow = clipped(fields.get("workflow"), IDENTIFIER) if "workflow" in fields else whose.workflow
        if workflow is not None:
            run["workflow_id"] = workflow
        trace = {"trace_id": span.trace_id, "span_id": span.span_id}
        if span.parent_span_id:
            trace["parent_span_id"] = span.parent_span_id
        return {
            "event_version": "v1",
            "event_id": derived_text("otel", whose.tenant["tenant_id"], span.trace_id, span.span_id, what),
            "event_type": event_type,
            "occurred_at": moment(at),
            "tenant": whose.tenant,
            "run": run,
            "trace": trace,
        }

    def run_id(self, span: Span, told: Sorted) -> str:
        """The run a span belongs to: what it or its resource says, else its trace."""
        return self._whose.run_id or clipped(told.fields.get("run_id"), IDENTIFIER) or span.trace_id

    def _ended(self, span: Span) -> int:
        return span.end or span.start or self._now

    @staticmethod
    def _latency_ms(span: Span) -> float | None:
        if not 0 < span.start <= span.end:
            return None
        latency = (span.end - span.start) / 1_000_000
        return latency if latency <= _MOST_MS else None

    def agent(self, told: Sorted) -> str:
        """Whose the events of a span are."""
        return self._whose.agent or token(told.fields.get("agent_id")) or token(told.fields.get("agent")) or UNKNOWN_AGENT

    def run_started(self, span: Span, told: Sorted) -> dict[str, Any]:
        """A run is under way since ``span`` began at the latest."""
        event = self._event(span, told, "run.started", "run.started", span.start or self._ended(span))
        event["run"]["status"] = "running"
        event["attributes"] = dict(self._about)
        return event

    def run_ended(self, span: Span, told: Sorted) -> dict[str, Any]:
        """The run is over, because its root is."""
        outcome = "failed" if span.failed else "completed"
        event = self._event(span, told, "run.ended", f"run.{outcome}", self._ended(span))
        event["run"]["status"] = outcome
        if (latency := self._latency_ms(span)) is not None:
            event["run"]["duration_ms"] = latency
        if span.failed:
            event["error"] = error_of(span, told.fields)
        event["attributes"] = attributes({**self._about, "otel.span.name": span.name, **told.extra})
        return event

    def step(self, span: Span, told: Sorted, judged: Judged, *, not_billed: str | None = None) -> dict[str, Any]:
        """A step; with ``not_billed`` a model call whose tokens another span counts already."""
        outcome = "failed" if span.failed else "completed"
        event = self._event(span, told, "step", f"step.{outcome}", self._ended(span))
        fields = told.fields
        step: dict[str, Any] = {"step_id": span.span_id, "step_type": clipped(judged.operation, NAME) or "span"}
        if (name := clipped(fields.get("step") or span.name, NAME)) is not None:
            step["name"] = name
        step["status"] = outcome
        if (latency := self._latency_ms(span)) is not None:
            step["latency_ms"] = latency
        event["step"] = step
        if span.failed:
            event["error"] = error_of(span, fields)
        more = {}
        if not_billed is not None:
            more = {_NOT_BILLED: not_billed} | {
                f"agentops.usage.{name}": fields[name] for name in _USAGE_FIELDS if name in fields
            }
        elif counted(fields):
            more = {_NOT_BILLED: "an aggregate"} | {
                f"agentops.usage.{name}": fields[name] for name in _USAGE_FIELDS if name in fields
            }
        event["attributes"] = attributes({**self._about, **more, **told.extra})
        return event

    def tool_call(self, span: Span, told: Sorted) -> dict[str, Any]:
        """A call of a tool."""
        event = self._event(span, told, "tool_call", f"tool_call.{'failed' if span.failed else 'completed'}", self._ended(span))
        fields = told.fields
        call: dict[str, Any] = {
            "tool_call_id": clipped(fields.get("tool_call_id"), IDENTIFIER) or span.span_id,
            "name": clipped(fields.get("tool") or fields.get("step") or span.name, NAME) or "unnamed",
        }
        if span.parent_span_id:
            call["step_id"] = span.parent_span_id
        if (latency := self._latency_ms(span)) is not None:
            call["latency_ms"] = latency
        event["tool_call"] = call
        if span.failed:
            event["error"] = error_of(span, fields)
        event["attributes"] = attributes({**self._about, **told.extra})
        return event

    def evaluations(self, span: Span, told: Sorted) -> Iterator[dict[str, Any]]:
        """What evaluations found of what the span tells of."""
        for number, happening in enumerate(span.events):
            if happening.name == EVALUATION:
                said = sort(happening.attributes)
                if (found := evaluation(said, f"{span.span_id}-{number}")) is not None:
                    at = happening.at or self._ended(span)
                    event = self._event(span, told, f"evaluation.{number}", "evaluation.completed", at)
                    yield event | {"evaluation": found, "attributes": attributes({**self._about, **said.extra})}

    def model_call(self, span: Span, told: Sorted, judged: Judged) -> dict[str, Any]:
        """A call of a model: the only thing that is billed."""
        fields = told.fields
        failed = span.failed
        event = self._event(span, told, "model_call", f"model_call.{'failed' if failed else 'completed'}", self._ended(span))
        asked, answered = clipped(fields.get("model_asked"), NAME), clipped(fields.get("model"), NAME)
        model = answered or asked or "unknown"
        provider, found = provider_of(fields, model)
        call: dict[str, Any] = {
            "model_call_id": span.span_id,
            "provider": provider,
            "model": model,
        }
        if span.parent_span_id:
            call["step_id"] = span.parent_span_id
        if (response_id := clipped(fields.get("response_id") or quoted(told.extra), IDENTIFIER)) is not None:
            call["response_id"] = response_id
        call["operation"] = clipped(judged.operation, NAME)
        if (tier := clipped(fields.get("service_tier"), NAME)) is not None:
            call["service_tier"] = tier
        if (latency := self._latency_ms(span)) is not None:
            call["latency_ms"] = latency
        first = _milliseconds(fields.get("first_chunk_s"), 1000.0)
        if first is None and "first_chunk_ms" in fields:
            first = _milliseconds(fields["first_chunk_ms"], 1.0)
        if first is not None:
            call["time_to_first_token_ms"] = first
        finish = fields.get("finish_reason")
        if finish.__class__ is list:
            finish = ",".join(dict.fromkeys(str(one) for one in finish if one))
        if (finish := clipped(finish, NAME)) is not None:
            call["finish_reason"] = finish
        streamed = fields.get("streamed")
        if streamed.__class__ is bool:
            call["streamed"] = streamed
        event["model_call"] = call
        more: dict[str, Any] = {}
        if not failed or counted(fields):
            used = usage(fields, self._cache, provider, model)
            event["resource_usage"] = used.section
            if used.corrected:
                more["agentops.usage"] = "; ".join(used.corrected)
                more |= {f"agentops.usage.{name}": fields[name] for name in _USAGE_FIELDS if name in fields}
        if "cost_usd" in fields and (cost := usd(fields["cost_usd"])) is not None:
            event["cost"] = {"cost_usd": cost}
        if failed:
            event["error"] = error_of(span, fields)
        if found is not None:
            more["agentops.provider"] = found
        if asked is not None and asked != model:
            more["gen_ai.request.model"] = asked
        event["attributes"] = attributes({**self._about, **more, **told.extra})
        return event
