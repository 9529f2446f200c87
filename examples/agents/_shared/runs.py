"""Runs, steps and calls of an agent, and the events that tell of them.

Events carry ids, names, counts and times; never a prompt, an answer or a document.
"""

import asyncio
import time
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from _shared.ids import Caller, new_span_id, new_trace_id, uuid7
from _shared.settings import Settings
from _shared.telemetry import Outbox


class ReportableError(Exception):
    """A failure whose description is fit for an event: it quotes neither prompt nor answer."""

    def __init__(self, kind: str, message: str, *, code: str | None = None, retryable: bool | None = None) -> None:
        super().__init__(message)
        self.kind = kind
        self.code = code
        self.retryable = retryable


def describe(error: BaseException) -> dict[str, Any]:
    """The ``error`` section for ``error``. Texts of unforeseen errors stay out: they may quote what was being read."""
    if isinstance(error, ReportableError):
        section = {"type": error.kind, "message": str(error), "code": error.code, "retryable": error.retryable}
        return {name: value for name, value in section.items() if value is not None}
    if isinstance(error, asyncio.CancelledError):
        return {"type": "cancelled", "message": "the agent was stopped before this was done", "retryable": True}
    frames = traceback.extract_tb(error.__traceback__)
    where = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "an unknown place"
    return {"type": type(error).__name__, "message": f"raised at {where}"}


def _since_ms(began: float) -> float:
    return round((time.perf_counter() - began) * 1000, 3)


@dataclass(slots=True)
class ModelCall:
    """One call of a model; whoever makes it fills in what came back."""

    model_call_id: str
    span_id: str
    section: dict[str, Any]
    usage: dict[str, Any] | None = None


@dataclass(slots=True)
class ToolCall:
    """One call of a tool. ``attributes`` go with its event."""

    tool_call_id: str
    attributes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a run, the parent of its calls."""

    run: "Run"
    step_id: str
    span_id: str

    @contextmanager
    def tool_call(self, name: str) -> Iterator[ToolCall]:
        """A call of the tool ``name``: ``tool_call.completed`` at its end, ``tool_call.failed`` when it raises."""
        call, span_id, began = ToolCall(uuid7().hex), new_span_id(), time.perf_counter()
        section: dict[str, Any] = {"tool_call_id": call.tool_call_id, "name": name, "step_id": self.step_id}
        try:
            yield call
        except BaseException as error:
            section["latency_ms"] = _since_ms(began)
            self.run.emit(
                "tool_call.failed", span_id, self.span_id, tool_call=section, error=describe(error), attributes=call.attributes
            )
            raise
        section["latency_ms"] = _since_ms(began)
        self.run.emit("tool_call.completed", span_id, self.span_id, tool_call=section, attributes=call.attributes)

    @contextmanager
    def model_call(self, provider: str, model: str) -> Iterator[ModelCall]:
        """A call of ``model``: ``model_call.completed`` with its usage, ``model_call.failed`` when it raises."""
        call, began = (
            ModelCall(uuid7().hex, new_span_id(), {"provider": provider, "model": model, "operation": "chat"}),
            time.perf_counter(),
        )
        call.section |= {"model_call_id": call.model_call_id, "step_id": self.step_id}
        usage = {}
        try:
            yield call
        except BaseException as error:
            call.section["latency_ms"] = _since_ms(began)
            if call.usage is not None:
                usage = {"resource_usage": call.usage}
            self.run.emit(
                "model_call.failed", call.span_id, self.span_id, model_call=call.section, error=describe(error), **usage
            )
            raise
        call.section["latency_ms"] = _since_ms(began)
        self.run.emit("model_call.completed", call.span_id, self.span_id, model_call=call.section, resource_usage=call.usage)


@dataclass(frozen=True, slots=True)
class Run:
    """One request of an agent, the parent of its steps."""

    settings: Settings
    outbox: Outbox
    workflow_id: str
    run_id: str
    trace_id: str
    span_id: str

    @contextmanager
    def step(self, name: str, step_type: str) -> Iterator[Step]:
        """A step: ``step.completed`` at its end, ``step.failed`` when it raises."""
        step, began = Step(self, uuid7().hex, new_span_id()), time.perf_counter()
        section: dict[str, Any] = {"step_id": step.step_id, "step_type": step_type, "name": name}
        try:
            yield step
        except BaseException as error:
            section |= {"status": _failed_status(error), "latency_ms": _since_ms(began)}
            self.emit("step.failed", step.span_id, self.span_id, step=section, error=describe(error))
            raise
        section |= {"status": "completed", "latency_ms": _since_ms(began)}
        self.emit("step.completed", step.span_id, self.span_id, step=section)

    def emit(
        self, event_type: str, span_id: str, parent_span_id: str | None, *, run: dict[str, Any] | None = None, **sections: Any
    ) -> None:
        """Queues one event of this run."""
        tenant = {
            "tenant_id": self.settings.tenant_id,
            "workspace_id": self.settings.workspace_id,
            "project_id": self.settings.project_id,
        }
        trace = {"trace_id": self.trace_id, "span_id": span_id, "parent_span_id": parent_span_id}
        event = {
            "event_version": "v1",
            "event_id": str(uuid7()),
            "event_type": event_type,
            "occurred_at": datetime.now(UTC).isoformat(timespec="microseconds"),
            "tenant": {name: value for name, value in tenant.items() if value is not None},
            "run": {"agent_id": self.settings.agent_id, "run_id": self.run_id, "workflow_id": self.workflow_id, **(run or {})},
            "trace": {name: value for name, value in trace.items() if value is not None},
        }
        event |= {name: value for name, value in sections.items() if value}
        self.outbox.add(event)


def _failed_status(error: BaseException) -> str:
    return "cancelled" if isinstance(error, asyncio.CancelledError) else "failed"


@contextmanager
def recorded_run(
    settings: Settings, outbox: Outbox, workflow_id: str, caller: Caller | None, attributes: dict[str, Any] | None = None
) -> Iterator[Run]:
    """A run: ``run.started``, then ``run.completed``, or ``run.failed`` when it raises."""
    trace_id = caller.trace_id if caller else new_trace_id()
    parent = caller.span_id if caller else None
    run = Run(settings, outbox, workflow_id, str(uuid7()), trace_id, new_span_id())
    agent = {"name": settings.name, "version": settings.version, "agent_type": settings.agent_type}
    lost = {"telemetry_dropped": outbox.dropped} if outbox.dropped else {}
    attributes = {**(attributes or {}), **lost}
    began = time.perf_counter()
    run.emit("run.started", run.span_id, parent, run={"status": "running"}, agent=agent, attributes=attributes)
    try:
        yield run
    except BaseException as error:
        ended = {"status": _failed_status(error), "duration_ms": _since_ms(began)}
        run.emit("run.failed", run.span_id, parent, run=ended, error=describe(error), attributes=attributes)
        raise
    ended = {"status": "completed", "duration_ms": _since_ms(began)}
    run.emit("run.completed", run.span_id, parent, run=ended, attributes=attributes)
