"""Spans: what an agent does, from its beginning to its end, each inside the one that was current when it began.

The current span is a context variable: asyncio tasks and ``asyncio.to_thread`` inherit it, other threads are given it
(``AgentTracer.carry``). Nothing here waits, and nothing raises into the agent.
"""

import os
from collections.abc import Callable
from contextvars import ContextVar
from time import perf_counter_ns, time_ns
from typing import Any, Final, Literal, Protocol, Self, TypeVar

from sidecar.tracing import ids
from sidecar.tracing.errors import describe, is_cancelled
from sidecar.tracing.values import MAX_NAME, identifier, plain, text, words

Status = Literal["completed", "failed", "cancelled"]
Function = TypeVar("Function", bound=Callable[..., Any])

MAX_ATTRIBUTES: Final = 120
"""The contract takes 128; the rest are the tracer's own."""
LEFT_OUT: Final = "agentops.attributes_left_out"


class Run:
    """The run that spans belong to; without an id where an agent's call was never traced."""

    __slots__ = ("agent_id", "run_id", "workflow_id")

    def __init__(self, run_id: str | None, workflow_id: str | None, agent_id: str | None) -> None:
        self.run_id = run_id
        self.workflow_id = workflow_id
        self.agent_id = agent_id


class Trace:
    """One trace as far as it happens in this process. ``held`` waits for the decision at its end."""

    __slots__ = ("held", "root", "sampled", "trace_id", "trouble")

    def __init__(self, trace_id: str, *, sampled: bool, held: "list[Span] | None", root: "Span") -> None:
        self.trace_id = trace_id
        self.sampled = sampled
        self.held = held
        self.trouble = False
        self.root = root


class Recorder(Protocol):
    """What spans tell of themselves to."""

    error_messages: bool
    capture_content: bool

    def trace(self, root: "Span", caller: ids.Caller | None) -> Trace:
        """A trace begins."""

    def run_begun(self, span: "Step") -> None:
        """A run began."""

    def ended(self, span: "Span") -> None:
        """A span is over and will not change any more."""

    def trouble(self, where: str, error: BaseException) -> None:
        """Tracing itself failed."""


CURRENT: Final[ContextVar["Span | None"]] = ContextVar("agentops_current_span", default=None)
_NO_RUN: Final = Run(None, None, None)


class Here:
    """Which process this is, counted by forks: a span is told of by the one it began in, whoever unwinds it as well."""

    forks = 0


def _forked() -> None:
    Here.forks += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


class Span:
    """Something that lasts. A context manager (``with`` and ``async with``), a decorator, or ``start()`` and ``end()``."""

    __slots__ = (
        "_caller", "_others", "_recorder", "at_ns", "attributes", "began_ns", "ended_ns", "error", "event_id",
        "home", "inner_step", "made", "name",
        "parent", "parent_id", "run", "span_id", "status", "step_id", "trace",
    )  # fmt: skip
    billable = False
    vital = False
    """Whether sampling leaves it alone."""

    def __init__(self, recorder: Recorder, name: str, *, traceparent: str | None = None) -> None:
        self._recorder = recorder
        self._caller = traceparent
        self._others: list[Self] | None = None
        self.name = name
        self.span_id = ""
        self.ended_ns = 0
        self.attributes: dict[str, Any] | None = None
        self.error: dict[str, Any] | None = None
        self.status: Status = "completed"
        self.made: Any = None
        self.parent: Span | None = None
        self.parent_id: str | None = None
        self.step_id: str | None = None

    def again(self) -> Self:
        """Another one like this, not begun."""
        return type(self)(self._recorder, self.name, traceparent=self._caller)

    def start(self) -> Self:
        """Begins, and is current until ``end()``. One that began before is left as it is, and another one begins."""
        if self.span_id:
            return self.again().start()
        self.begin(CURRENT.get())
        CURRENT.set(self)
        return self

    def begin(self, parent: "Span | None") -> None:
        """Begins inside ``parent``, without becoming current."""
        self.span_id = own = ids.span_id()
        self.home = Here.forks
        self.parent = parent
        if parent is None or self._caller is not None:
            caller = ids.read_traceparent(self._caller)
            if caller is None and parent is not None:
                self._inside(parent, own)
            else:
                self.trace = self._recorder.trace(self, caller)
                if caller is not None:
                    self.parent_id = caller.span_id
                self.run = _NO_RUN
                self.inner_step = self.own_step(own, None)
        else:
            self._inside(parent, own)
        self.began_ns = perf_counter_ns()

    def _inside(self, parent: "Span", own: str) -> None:
        self.trace = parent.trace
        self.run = parent.run
        self.parent_id = parent.span_id
        self.step_id = parent.inner_step
        self.inner_step = self.own_step(own, parent.inner_step)

    def own_step(self, own: str, outer: str | None) -> str | None:  # noqa: ARG002
        """The step that what happens inside belongs to."""
        return outer

    def end(self, error: BaseException | str | None = None, *, status: Status | None = None) -> None:
        """Ends; the second time nothing happens. ``error`` makes it a failed one."""
        if self.ended_ns or not self.span_id:
            return
        self.ended_ns = perf_counter_ns()
        self.at_ns = time_ns()
        try:
            if error is not None or (status or "completed") != "completed":
                self._failed(error, status)
            self.event_id = ids.event_id(self.at_ns)
            if CURRENT.get() is self:
                CURRENT.set(self.parent)
            if self.home == Here.forks:
                self._recorder.ended(self)
        except Exception as broken:  # noqa: BLE001 - the agent must not fail for its telemetry
            self._recorder.trouble("end", broken)
        self.parent = None

    def _failed(self, error: BaseException | str | None, status: Status | None) -> None:
        if status is None:
            status = "cancelled" if isinstance(error, BaseException) and is_cancelled(error) else "failed"
        self.status = status
        self.error = describe(error if error is not None else status, messages=self._recorder.error_messages)
        self.trace.trouble = True

    @property
    def latency_ms(self) -> float:
        """How long it took, once it is over."""
        return round((self.ended_ns - self.began_ns) / 1e6, 3)

    @property
    def traceparent(self) -> str:
        """The W3C header that makes what is called a part of this trace."""
        return ids.write_traceparent(self.trace.trace_id, self.span_id, sampled=self.trace.sampled)

    def headers(self) -> dict[str, str]:
        """Headers for whatever is called from here: the trace, and for a metering proxy the run and the step."""
        found = {"traceparent": self.traceparent}
        if self.run.run_id is not None:
            found["x-agentops-run"] = self.run.run_id
        if self.inner_step is not None:
            found["x-agentops-step"] = self.inner_step
        return found

    def set(self, key: str, value: Any) -> None:
        """An attribute of this span; the latest value of a key counts."""
        attributes = self.attributes
        if attributes is None:
            attributes = self.attributes = {}
        if type(key) is not str:
            key = words(key)
        if len(attributes) >= MAX_ATTRIBUTES and key not in attributes:
            attributes[LEFT_OUT] = attributes.get(LEFT_OUT, 0) + 1
            return
        try:
            attributes[text(key, MAX_NAME)] = plain(value)
        except Exception as broken:  # noqa: BLE001 - a dictionary that another thread changes, say
            self._recorder.trouble("attribute", broken)

    def content(self, key: str, value: Any) -> None:
        """An attribute that holds what was said or read: only where the tracer was told to capture content."""
        if self._recorder.capture_content:
            self.set(key, value)

    @property
    def captures(self) -> bool:
        """Whether content is wanted."""
        return self._recorder.capture_content

    def trouble(self, where: str, error: BaseException) -> None:
        """Tracing itself failed; the agent goes on."""
        self._recorder.trouble(where, error)

    def returned(self, result: Any) -> None:
        """What a decorated function returned."""

    def called(self, arguments: Any) -> None:
        """What a decorated function was called with."""

    def gave(self, item: Any) -> None:
        """What a decorated generator gave."""

    def __enter__(self) -> Self:
        if not self.span_id:
            return self.start()
        # Kept in a variable and entered twice: Python leaves by the one that is kept.
        another = self.start()
        self._others = [*(self._others or ()), another]
        return another

    def __exit__(self, _: type[BaseException] | None, error: BaseException | None, __: object) -> None:
        if self._others:
            self._others.pop().end(error)
        else:
            self.end(error)

    async def __aenter__(self) -> Self:
        return self.__enter__()

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self.__exit__(kind, error, trace)

    def __call__(self, function: Function) -> Function:
        """``function``, each call of it in a span of its own."""
        from sidecar.tracing.decorating import decorated  # noqa: PLC0415 - inspect is needed by decorators alone

        return decorated(self, function)


class Step(Span):
    """One step of a run; where there is no run around it, a run."""

    __slots__ = ("is_run", "step_type")

    def __init__(self, recorder: Recorder, name: str, step_type: str = "step", *, traceparent: str | None = None) -> None:
        super().__init__(recorder, name, traceparent=traceparent)
        self.step_type = step_type
        self.is_run = False

    def again(self) -> Self:
        return type(self)(self._recorder, self.name, self.step_type, traceparent=self._caller)

    @property
    def vital(self) -> bool:  # type: ignore[override]
        """Whether sampling leaves it alone."""
        return self.is_run

    def own_step(self, own: str, outer: str | None) -> str | None:  # noqa: ARG002
        return own

    def begin(self, parent: Span | None) -> None:
        """Begins, as a run where it is one."""
        super().begin(parent)
        if (run := self.new_run(self.run)) is not None:
            self.run = run
            self.is_run = True
            self.step_id = self.inner_step = None
            self._recorder.run_begun(self)

    def new_run(self, within: Run) -> Run | None:
        """The run that this is the whole of, if so."""
        return Run(ids.event_id(time_ns()), identifier(self.name), None) if within.run_id is None else None


class AgentCall(Step):
    """One call of an agent: a run; inside a run of the same agent, a step of it."""

    __slots__ = ("asked_agent", "asked_run", "asked_workflow")

    def __init__(
        self,
        recorder: Recorder,
        name: str,
        *,
        traceparent: str | None = None,
        run_id: str | None = None,
        workflow_id: str | None = None,
        agent_id: str | None = None,
    ) -> None:
        super().__init__(recorder, name, "agent", traceparent=traceparent)
        self.asked_run = run_id
        self.asked_workflow = workflow_id
        self.asked_agent = agent_id

    def again(self) -> Self:
        return type(self)(
            self._recorder,
            self.name,
            traceparent=self._caller,
            run_id=self.asked_run,
            workflow_id=self.asked_workflow,
            agent_id=self.asked_agent,
        )

    def new_run(self, within: Run) -> Run | None:
        """A run of its own where there is none, or where another agent or another run was named."""
        other = self.asked_agent is not None and self.asked_agent != within.agent_id
        if within.run_id is not None and not other and self.asked_run is None:
            return None
        run_id = identifier(self.asked_run) if self.asked_run else ids.event_id(time_ns())
        return Run(run_id, identifier(self.asked_workflow or self.name), self.asked_agent or within.agent_id)

    def input(self, value: Any) -> None:
        """What the agent was asked; content."""
        self.content("input.value", value)

    def output(self, value: Any) -> None:
        """What it answered; content."""
        self.content("output.value", value)

    def called(self, arguments: Any) -> None:
        self.input(arguments)

    def returned(self, result: Any) -> None:
        self.output(result)


class ToolCall(Span):
    """One call of a tool."""

    __slots__ = ()

    def arguments(self, value: Any) -> None:
        """What the tool was called with; content."""
        self.content("gen_ai.tool.call.arguments", value)

    def result(self, value: Any) -> None:
        """What it returned; content."""
        self.content("gen_ai.tool.call.result", value)

    def called(self, arguments: Any) -> None:
        self.arguments(arguments)

    def returned(self, result: Any) -> None:
        self.result(result)
