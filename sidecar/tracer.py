"""``AgentTracer``: what an agent says about its runs, tools and model calls, in an agent's own process.

    from sidecar.tracer import AgentTracer

    tracer = AgentTracer()

    with tracer.trace_agent_call("answer"):
        with tracer.trace_llm_call(provider="openai", model="gpt-4o-mini") as call:
            call.response(client.chat.completions.create(...))

In an agent that a sidecar runs it needs no arguments; elsewhere it does nothing, and says so once. Importing it loads the
standard library only; using it never waits and never raises into the agent.
"""

import contextvars
import functools
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, TypeVar, overload

from sidecar.tracing.collector import CLOSE_S, Counts, TelemetryCollector
from sidecar.tracing.exporters.exporter import Exporter
from sidecar.tracing.lanes import BATCH, EVERY_S
from sidecar.tracing.model_calls import ModelCall
from sidecar.tracing.outbox import CAPACITY
from sidecar.tracing.sampling import Sampling
from sidecar.tracing.spans import CURRENT, AgentCall, Span, Status, Step, ToolCall
from sidecar.tracing.whose import Whose, whose

if TYPE_CHECKING:
    from sidecar.tracing.metrics import MetricsRegistry

__all__ = ["AgentCall", "AgentTracer", "Counts", "ModelCall", "Sampling", "Span", "Step", "TelemetryCollector", "ToolCall"]

logger: Final = logging.getLogger("agentops.tracer")

Function = TypeVar("Function", bound=Callable[..., Any])
_YES: Final = frozenset({"1", "true", "yes", "on"})


class AgentTracer:
    """Traces one agent. Make one for a process and keep it; it may be used from every thread and task.

    ``exporters``: where events go instead of the sidecar's door. ``url``, ``api_key``: another door than the environment's
    ``AGENTOPS_SIDECAR_URL``, ``AGENTOPS_API_KEY``. ``tenant`` … ``agent_type``: instead of what the environment says; raises
    ValueError for ids that cannot be ids. ``capture_content``: whether prompts, answers and tools' arguments and results are
    told (else ``AGENTOPS_CAPTURE_CONTENT``; not by default). ``error_messages``: whether the text of exceptions is. ``capacity``:
    of the queue before each exporter. ``close_s``: how long the process's end may wait for what is left.
    """

    def __init__(
        self,
        *,
        exporters: Sequence[Exporter] | None = None,
        url: str | None = None,
        api_key: str | None = None,
        tenant: str | None = None,
        workspace: str | None = None,
        project: str | None = None,
        agent_id: str | None = None,
        name: str | None = None,
        version: str | None = None,
        agent_type: str | None = None,
        sampling: Sampling | None = None,
        capture_content: bool | None = None,
        error_messages: bool = True,
        capacity: int = CAPACITY,
        batch: int = BATCH,
        every_s: float = EVERY_S,
        close_s: float = CLOSE_S,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        told = os.environ if environ is None else environ
        given = {
            "tenant_id": tenant,
            "workspace_id": workspace,
            "project_id": project,
            "agent_id": agent_id,
            "name": name,
            "version": version,
            "agent_type": agent_type,
        }
        who, mended = whose(told, given)
        for what in mended:
            logger.warning("agentops: %s", what)
        if capture_content is None:
            capture_content = told.get("AGENTOPS_CAPTURE_CONTENT", "").strip().lower() in _YES
        self._metrics: MetricsRegistry | None = None
        self.collector = TelemetryCollector(
            _door(told, url, api_key) if exporters is None else exporters,
            who,
            sampling=sampling,
            error_messages=error_messages,
            capture_content=capture_content,
            capacity=capacity,
            batch=batch,
            every_s=every_s,
            close_s=close_s,
        )

    @property
    def metrics(self) -> "MetricsRegistry":
        """Metrics of the agent's own: counters, gauges, histograms, summaries. prometheus_client is loaded by the first of them."""
        if self._metrics is None:
            from sidecar.tracing.metrics import MetricsRegistry  # noqa: PLC0415 - for agents that have metrics

            self._metrics = MetricsRegistry()
        return self._metrics

    @property
    def who(self) -> Whose:
        """Whose events these are."""
        return self.collector.who

    @overload
    def trace_agent_call(self, name: Function) -> Function: ...
    @overload
    def trace_agent_call(
        self,
        name: str | None = None,
        *,
        run_id: str | None = None,
        workflow_id: str | None = None,
        agent_id: str | None = None,
        traceparent: str | None = None,
    ) -> AgentCall: ...
    def trace_agent_call(
        self,
        name: str | Callable[..., Any] | None = None,
        *,
        run_id: str | None = None,
        workflow_id: str | None = None,
        agent_id: str | None = None,
        traceparent: str | None = None,
    ) -> Any:
        """One call of the agent: a run. Inside another it is a step of that, unless it names another ``agent_id`` or a ``run_id``.

        ``traceparent`` is the header the call came with: the run is then a part of the caller's trace.
        """
        function, said = _function(name, self.who.agent_id)
        span = AgentCall(self.collector, said, traceparent=traceparent, run_id=run_id, workflow_id=workflow_id, agent_id=agent_id)
        return span if function is None else span(function)

    @overload
    def trace_step(self, name: Function) -> Function: ...
    @overload
    def trace_step(self, name: str | None = None, step_type: str = "step") -> Step: ...
    def trace_step(self, name: str | Callable[..., Any] | None = None, step_type: str = "step") -> Any:
        """One step of a run; where there is none around it, a run of its own."""
        function, said = _function(name, "step")
        span = Step(self.collector, said, step_type)
        return span if function is None else span(function)

    @overload
    def trace_tool_call(self, name: Function) -> Function: ...
    @overload
    def trace_tool_call(self, name: str | None = None, *, traceparent: str | None = None) -> ToolCall: ...
    def trace_tool_call(self, name: str | Callable[..., Any] | None = None, *, traceparent: str | None = None) -> Any:
        """One call of a tool."""
        function, said = _function(name, "tool")
        span = ToolCall(self.collector, said, traceparent=traceparent)
        return span if function is None else span(function)

    def trace_llm_call(self, *, provider: str, model: str, operation: str = "chat", traceparent: str | None = None) -> ModelCall:
        """One call of a model, told its ``response``, the chunks of its ``stream``, or its ``usage``.

        As a decorator it takes what the function returns for the response, and what a generator gives for chunks.
        """
        return ModelCall(self.collector, provider, model, operation, traceparent=traceparent)

    def current_span(self) -> Span | None:
        """The span that runs now, if one does."""
        return CURRENT.get()

    def add_span_attribute(self, key: str, value: Any) -> None:
        """An attribute of the current span; without one nothing happens."""
        span = CURRENT.get()
        if span is not None:
            span.set(key, value)

    def traceparent(self) -> str | None:
        """The W3C header for a call made from here; None outside of every span."""
        span = CURRENT.get()
        return None if span is None else span.traceparent

    def headers(self) -> dict[str, str]:
        """Headers for a call made from here: to another agent, or to a model through a metering proxy."""
        span = CURRENT.get()
        return {} if span is None else span.headers()

    def end_trace(self, status: Status = "completed", error: BaseException | str | None = None) -> None:
        """Ends every span that runs here, the innermost first; ``status`` is the outermost's, or of each where ``error`` says why."""
        span = CURRENT.get()
        while span is not None:
            outer = span.parent
            if outer is None or error is not None:
                span.end(error, status=status if status != "completed" else None)
            else:
                span.end()
            CURRENT.set(outer)
            span = outer

    def carry(self, function: Function) -> Function:
        """``function`` with the current span, for a thread that would not inherit it: ``executor.submit(tracer.carry(f), …)``."""
        span = CURRENT.get()

        def inside(*args: Any, **kwargs: Any) -> Any:
            CURRENT.set(span)
            return function(*args, **kwargs)

        @functools.wraps(function)
        def carried(*args: Any, **kwargs: Any) -> Any:
            return contextvars.copy_context().run(inside, *args, **kwargs)

        return carried  # type: ignore[return-value]

    def flush(self, within_s: float = CLOSE_S) -> bool:
        """Waits until everything so far has left; whether it did."""
        return self.collector.flush(within_s)

    def close(self, within_s: float | None = None) -> None:
        """What waits leaves; nothing is told afterwards. The process's end does it by itself."""
        self.collector.stop(within_s)

    def counts(self) -> Counts:
        """What became of everything so far."""
        return self.collector.counts()


def _function(name: str | Callable[..., Any] | None, otherwise: str) -> tuple[Callable[..., Any] | None, str]:
    """What is decorated without arguments, and its name."""
    if callable(name):
        return name, getattr(name, "__name__", otherwise)
    return None, name or otherwise


def _door(environ: Mapping[str, str], url: str | None, api_key: str | None) -> list[Exporter]:
    """The door that the environment names, or none: an agent works without telemetry, and says once that it has none."""
    address = url or environ.get("AGENTOPS_SIDECAR_URL") or None
    if address is None:
        logger.warning("agentops: nothing is reported: AGENTOPS_SIDECAR_URL is not set, and no exporter was given")
        return []
    from sidecar.tracing.exporters.door import Door  # noqa: PLC0415 - an agent without a door need not load it

    try:
        return [Door(address, api_key=api_key or environ.get("AGENTOPS_API_KEY") or None)]
    except ValueError as error:
        if url is not None:
            raise
        logger.warning("agentops: nothing is reported: AGENTOPS_SIDECAR_URL: %s", error)
        return []
