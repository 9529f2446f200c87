"""What an agent traces arrives as events of the contract, whatever the shape of its code."""

import asyncio
import contextvars
import logging
import threading
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest

from sidecar.tracer import AgentTracer
from tests.sidecar.tracing import told, traced


def test_a_run_its_steps_tools_and_model_calls_hang_together() -> None:
    tracer, kept = traced(workspace="w", name="Answers", version="2")
    with tracer.trace_agent_call("answer") as run:
        with tracer.trace_step("look up", "retrieval") as step, tracer.trace_tool_call("search") as tool:
            tracer.add_span_attribute("matches", 3)
        with tracer.trace_llm_call(provider="openai", model="gpt-4o-mini") as call:
            call.usage(input_tokens=100, output_tokens=20, cache_read_tokens=60)
    told(tracer)
    assert [event.event_type for event in kept.events] == [
        "run.started", "tool_call.completed", "step.completed", "model_call.completed", "run.completed",
    ]  # fmt: skip
    begun, tool_event, step_event, model_event, ended = kept.events
    assert {(event.run.run_id, event.run.workflow_id, event.run.agent_id) for event in kept.events} == {
        (run.run.run_id, "answer", "a1")
    }
    assert {event.tenant.workspace_id for event in kept.events} == {"w"}
    traces = {event.event_type: event.trace for event in kept.events}
    assert len({trace.trace_id for trace in traces.values() if trace}) == 1
    assert tool_event.trace is not None
    assert tool_event.trace.parent_span_id == step.span_id
    assert tool_event.tool_call is not None
    assert (tool_event.tool_call.name, tool_event.tool_call.step_id) == ("search", step.span_id)
    assert tool_event.attributes == {"matches": 3}
    assert step_event.step is not None
    assert (step_event.step.name, step_event.step.step_type, step_event.step.status) == ("look up", "retrieval", "completed")
    assert model_event.resource_usage is not None
    assert (model_event.resource_usage.input_tokens, model_event.resource_usage.cache_read_tokens) == (100, 60)
    assert model_event.model_call is not None
    assert model_event.model_call.step_id is None
    assert begun.agent is not None
    assert (begun.agent.name, begun.agent.version, begun.run.status) == ("Answers", "2", "running")
    assert ended.run.status == "completed"
    assert ended.run.duration_ms is not None
    assert ended.run.duration_ms >= (tool_event.tool_call.latency_ms or 0)
    assert tool.span_id == tool_event.trace.span_id


def test_what_fails_says_why_and_the_error_goes_on() -> None:
    tracer, kept = traced()

    class RateLimitedError(Exception):
        code = 429
        retryable = True

    with pytest.raises(RateLimitedError), tracer.trace_agent_call("answer"):
        with pytest.raises(KeyError), tracer.trace_tool_call("search"):
            raise KeyError("nothing")
        with tracer.trace_llm_call(provider="openai", model="gpt-4o"):
            raise RateLimitedError("slow down")
    told(tracer)
    tool, call, run = kept.only("tool_call.failed"), kept.only("model_call.failed"), kept.only("run.failed")
    assert tool.error is not None
    assert (tool.error.type, tool.error.message) == ("KeyError", "'nothing'")
    assert call.error is not None
    assert (call.error.type, call.error.code, call.error.retryable) == ("RateLimitedError", "429", True)
    assert run.run.status == "failed"


def test_the_texts_of_errors_stay_out_where_that_is_asked() -> None:
    tracer, kept = traced(error_messages=False)
    with pytest.raises(ValueError, match="zanzibar"), tracer.trace_agent_call("answer"):
        raise ValueError("zanzibar")
    told(tracer)
    assert "zanzibar" not in kept.only("run.failed").model_dump_json()


async def test_tasks_and_threads_belong_to_the_span_that_began_them() -> None:
    tracer, kept = traced()

    async def one(number: int) -> None:
        async with tracer.trace_step(f"step {number}") as step:
            await asyncio.sleep(0)
            await asyncio.to_thread(in_thread, number)
            assert tracer.current_span() is step

    def in_thread(number: int) -> None:
        with tracer.trace_tool_call(f"tool {number}"):
            pass

    with tracer.trace_agent_call("answer") as run:
        await asyncio.gather(*(one(number) for number in range(20)))
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(tracer.carry(in_thread), range(20, 24)))
        lonely = threading.Thread(target=in_thread, args=(99,), name="lonely")
        lonely.start()
        lonely.join()
    told(tracer)
    steps = {event.step.name: event.step.step_id for event in kept.of("step.completed") if event.step}
    tools = {event.tool_call.name: event for event in kept.of("tool_call.completed") if event.tool_call}
    for number in range(20):
        tool = tools[f"tool {number}"]
        assert tool.trace is not None
        assert tool.trace.parent_span_id == steps[f"step {number}"]
    for number in range(20, 24):
        tool = tools[f"tool {number}"]
        assert tool.trace is not None
        assert tool.trace.parent_span_id == run.span_id
    alone = tools["tool 99"]
    assert alone.trace is not None
    assert (alone.run.run_id, alone.trace.parent_span_id) == (None, None), "a thread without context begins a trace of its own"


def test_a_traceparent_joins_what_is_called_to_its_caller() -> None:
    tracer, kept = traced()
    with tracer.trace_agent_call("caller") as caller, tracer.trace_step("ask") as step:
        headers = tracer.headers()
        assert headers == {
            "traceparent": f"00-{caller.trace.trace_id}-{step.span_id}-01",
            "x-agentops-run": caller.run.run_id,
            "x-agentops-step": step.span_id,
        }
        assert tracer.traceparent() == headers["traceparent"]
    # As a server does it: in a context of its own.
    with tracer.trace_agent_call("called", traceparent=headers["traceparent"]):
        pass
    for broken in ("", "00-zz", f"00-{'0' * 32}-{'1' * 16}-01", "ff" + headers["traceparent"][2:], None):
        with tracer.trace_agent_call("alone", traceparent=broken):
            pass
    told(tracer)
    called = next(event for event in kept.of("run.completed") if event.run.workflow_id == "called")
    assert called.trace is not None
    assert (called.trace.trace_id, called.trace.parent_span_id) == (caller.trace.trace_id, step.span_id)
    assert called.run.run_id != caller.run.run_id
    alone = [event.trace for event in kept.of("run.completed") if event.run.workflow_id == "alone"]
    assert all(trace is not None and trace.parent_span_id is None for trace in alone)
    assert len({trace.trace_id for trace in alone if trace} | {caller.trace.trace_id}) == 6


def test_an_agent_inside_a_run_is_a_step_and_another_agent_a_run_of_its_own() -> None:
    tracer, kept = traced()
    with tracer.trace_agent_call("outer") as outer:
        with tracer.trace_agent_call("inner"):
            pass
        with tracer.trace_agent_call("other", agent_id="a2") as other:
            pass
    told(tracer)
    step = kept.only("step.completed").step
    assert step is not None
    assert (step.name, step.step_type) == ("inner", "agent")
    first, second = kept.of("run.completed")
    assert (first.run.agent_id, second.run.agent_id) == ("a2", "a1")
    assert first.trace is not None
    assert first.trace.parent_span_id == outer.span_id
    assert first.run.run_id == other.run.run_id != outer.run.run_id


def test_a_step_outside_of_every_run_is_a_run() -> None:
    tracer, kept = traced()
    with tracer.trace_step("nightly"), tracer.trace_step("first half"):
        pass
    told(tracer)
    assert [event.event_type for event in kept.events] == ["run.started", "step.completed", "run.completed"]
    assert kept.events[2].run.workflow_id == "nightly"


async def test_decorated_functions_of_every_kind() -> None:
    tracer, kept = traced()
    before = tracer.current_span()

    @tracer.trace_tool_call
    def add(one: int, two: int) -> int:
        "Adds."
        return one + two

    @tracer.trace_tool_call("fetch")
    async def fetch(url: str) -> str:
        await asyncio.sleep(0)
        return url

    @tracer.trace_step("counting")
    def count(to: int) -> Iterator[int]:
        for number in range(to):
            add(number, number)
            yield number

    @tracer.trace_step("acounting")
    async def acount(to: int) -> AsyncIterator[int]:
        for number in range(to):
            await fetch(str(number))
            yield number

    @tracer.trace_agent_call
    async def answer() -> list[int]:
        found = list(count(2))
        for each in count(5):
            assert tracer.current_span() is not None
            assert tracer.current_span().name == "answer", "a generator's span is not current in the code that consumes it"  # type: ignore[union-attr]
            if each == 1:
                break
        return found + [each async for each in acount(2)]

    assert add.__name__ == "add"
    assert add.__doc__ == "Adds."
    assert await answer() == [0, 1, 0, 1]
    assert tracer.current_span() is before
    told(tracer)
    steps = [event.step.name for event in kept.of("step.completed") if event.step]
    assert steps == ["counting", "counting", "acounting"]
    tools = [event.tool_call for event in kept.of("tool_call.completed")]
    assert [tool.name for tool in tools if tool] == ["add"] * 4 + ["fetch"] * 2
    assert all(tool.step_id is not None for tool in tools if tool)
    early = [event.attributes.get("agentops.closed_early") for event in kept.of("step.completed")]
    assert early == [None, True, None]
    assert kept.only("run.completed").run.workflow_id == "answer"


def test_a_generator_keeps_what_it_is_sent_thrown_and_returns() -> None:
    tracer, kept = traced()

    @tracer.trace_step("dialogue")
    def dialogue() -> Any:
        heard: list[Any] = []
        try:
            while True:
                heard.append((yield len(heard)))
        except LookupError:
            yield "caught"
        return heard

    with tracer.trace_agent_call("x"):
        talk = dialogue()
        assert next(talk) == 0
        assert talk.send("a") == 1
        assert talk.throw(LookupError("x")) == "caught"
        with pytest.raises(StopIteration) as stopped:
            next(talk)
        assert stopped.value.value == ["a"]
        failing = dialogue()
        next(failing)
        with pytest.raises(ZeroDivisionError):
            failing.throw(ZeroDivisionError())
    told(tracer)
    assert len(kept.of("step.completed")) == 1
    assert len(kept.of("step.failed")) == 1


async def test_a_cancelled_task_is_cancelled_not_broken() -> None:
    tracer, kept = traced()
    begun = asyncio.Event()

    async def work() -> None:
        async with tracer.trace_agent_call("slow"):
            begun.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    told(tracer)
    event = kept.only("run.failed")
    assert event.error is not None
    assert (event.run.status, event.error.type) == ("cancelled", "cancelled")


def test_end_trace_ends_everything_that_runs_here_once() -> None:
    tracer, kept = traced()
    with tracer.trace_agent_call("handle"):
        tracer.trace_step("think").start()
        tracer.trace_tool_call("search").start()
        tracer.end_trace("failed", error="the budget is used up")
        assert tracer.current_span() is None
    tracer.trace_agent_call("by hand").start()
    tracer.end_trace()
    tracer.end_trace()
    told(tracer)
    assert [event.event_type for event in kept.events] == [
        "run.started", "tool_call.failed", "step.failed", "run.failed", "run.started", "run.completed",
    ]  # fmt: skip
    failed = kept.only("run.failed").error
    assert failed is not None
    assert failed.message == "the budget is used up"


def test_a_span_ended_in_another_context_harms_nobody() -> None:
    """As asynchronous frameworks do it: entered in one task, left in another."""
    tracer, kept = traced()
    span = tracer.trace_agent_call("x")
    contextvars.copy_context().run(span.start)
    contextvars.copy_context().run(span.end)
    span.end()
    assert tracer.current_span() is None
    with span:
        pass
    told(tracer)
    assert len(kept.of("run.completed")) == 2, "a span that is over begins anew"


class Model:
    """Like a client library's answer: attributes, and a way to become a dictionary."""

    def __init__(self, **fields: Any) -> None:
        self.__dict__.update(fields)

    def model_dump(self) -> dict[str, Any]:
        return {name: item.model_dump() if isinstance(item, Model) else item for name, item in vars(self).items()}


OPENAI = {
    "id": "chatcmpl-1",
    "model": "gpt-4o-2024-08-06",
    "service_tier": "default",
    "choices": [{"finish_reason": "stop", "message": {"content": "hi"}}],
    "usage": {
        "prompt_tokens": 100,
        "completion_tokens": 20,
        "total_tokens": 120,
        "prompt_tokens_details": {"cached_tokens": 60},
        "completion_tokens_details": {"reasoning_tokens": 5},
    },
}
RESPONSES = {
    "id": "resp_1",
    "object": "response",
    "model": "gpt-4o-2024-08-06",
    "status": "completed",
    "usage": {"input_tokens": 100, "output_tokens": 20, "input_tokens_details": {"cached_tokens": 60}, "output_tokens_details": {"reasoning_tokens": 5}, "total_tokens": 120},
}  # fmt: skip
ANTHROPIC = {
    "id": "msg_1",
    "model": "claude-sonnet-4-20250514",
    "stop_reason": "end_turn",
    "usage": {"input_tokens": 40, "output_tokens": 20, "cache_read_input_tokens": 60, "cache_creation_input_tokens": 0},
}
GEMINI = SimpleNamespace(
    response_id="g-1",
    model_version="gemini-2.5-flash",
    candidates=[SimpleNamespace(finish_reason=SimpleNamespace(value="STOP"))],
    usage_metadata=Model(
        prompt_token_count=100, cached_content_token_count=60, candidates_token_count=15, thoughts_token_count=5
    ),
)


@pytest.mark.parametrize(
    ("provider", "response", "response_id", "finish"),
    [
        ("openai", OPENAI, "chatcmpl-1", "stop"),
        ("openai", Model(**{**OPENAI, "usage": Model(**OPENAI["usage"])}), "chatcmpl-1", "stop"),  # type: ignore[arg-type]
        ("openai", RESPONSES, "resp_1", "completed"),
        ("anthropic", ANTHROPIC, "msg_1", "end_turn"),
        ("google", GEMINI, "g-1", "STOP"),
        ("our-gateway", OPENAI, "chatcmpl-1", "stop"),
        ("our-gateway", ANTHROPIC, "msg_1", "end_turn"),
    ],
    ids=["openai", "openai-object", "openai-responses", "anthropic", "gemini-object", "unknown-openai", "unknown-anthropic"],
)
def test_usage_is_read_off_a_response(provider: str, response: Any, response_id: str, finish: str) -> None:
    tracer, kept = traced()

    @tracer.trace_llm_call(provider=provider, model="asked-for")
    def ask() -> Any:
        return response

    assert ask() is response
    told(tracer)
    event = kept.only("model_call.completed")
    assert event.resource_usage is not None
    assert event.model_call is not None
    assert (event.resource_usage.input_tokens, event.resource_usage.output_tokens) == (100, 20)
    assert (event.resource_usage.cache_read_tokens, event.resource_usage.estimated) == (60, False)
    assert (event.model_call.response_id, event.model_call.finish_reason) == (response_id, finish)
    assert event.model_call.model != "asked-for", "the model that answered is the one that is billed"
    assert event.attributes == {}


async def test_a_stream_is_counted_by_its_last_words_and_timed_by_its_first() -> None:
    tracer, kept = traced()
    openai: list[dict[str, Any]] = [{"id": "c", "model": "gpt-4o", "choices": [{"delta": {"content": "a"}, "finish_reason": None}], "usage": None},
              {"id": "c", "choices": [{"delta": {}, "finish_reason": "length"}]},
              {"id": "c", "model": "gpt-4o", "choices": [], "usage": OPENAI["usage"]}]  # fmt: skip
    anthropic: list[dict[str, Any]] = [
        {"type": "message_start", "message": {"id": "m", "model": "claude-sonnet-4-20250514", "usage": {"input_tokens": 40, "cache_read_input_tokens": 60, "cache_creation_input_tokens": 0, "output_tokens": 1}}},
        {"type": "content_block_delta", "delta": {"type": "text_delta", "text": "hi"}},
        {"type": "message_delta", "delta": {"stop_reason": "max_tokens"}, "usage": {"output_tokens": 20}},
    ]  # fmt: skip

    async def astream() -> AsyncIterator[dict[str, Any]]:
        for each in anthropic:
            yield each

    @tracer.trace_llm_call(provider="openai", model="gpt-4o")
    def passing() -> Iterator[dict[str, Any]]:
        yield from openai

    with tracer.trace_llm_call(provider="openai", model="gpt-4o") as call:
        assert list(call.stream(openai)) == openai
    with tracer.trace_llm_call(provider="anthropic", model="claude-sonnet-4") as call:
        assert [each async for each in call.astream(astream())] == anthropic
    assert list(passing()) == openai
    told(tracer)
    for event, finish in zip(kept.of("model_call.completed"), ("length", "max_tokens", "length"), strict=True):
        assert event.resource_usage is not None
        assert event.model_call is not None
        assert (event.resource_usage.input_tokens, event.resource_usage.output_tokens) == (100, 20)
        assert (event.model_call.streamed, event.model_call.finish_reason) == (True, finish)
        assert event.model_call.time_to_first_token_ms is not None
        assert event.model_call.latency_ms is not None
        assert event.model_call.time_to_first_token_ms <= event.model_call.latency_ms


def test_a_call_that_told_of_no_usage_says_so_instead_of_being_free() -> None:
    tracer, kept = traced()
    with tracer.trace_llm_call(provider="openai", model="gpt-4o"):
        pass
    with tracer.trace_llm_call(provider="openai", model="gpt-4o") as call:
        call.response({"id": "x", "usage": {"nonsense": 1}})
    told(tracer)
    for event in kept.of("model_call.completed"):
        assert event.resource_usage is not None
        assert event.resource_usage.estimated
        assert "usage(" in str(event.attributes["agentops.usage_unreported"])


def test_counts_that_can_only_be_meant_one_way_are_mended_and_say_so() -> None:
    tracer, kept = traced()
    with tracer.trace_llm_call(provider="anthropic", model="claude-sonnet-4") as call:
        call.usage(input_tokens=10, output_tokens=5, cache_read_tokens=100, reasoning_tokens=7, poetry=3, cache_write_1h_tokens=9)
    told(tracer)
    event = kept.only("model_call.completed")
    assert event.resource_usage is not None
    assert (event.resource_usage.input_tokens, event.resource_usage.output_tokens) == (110, 12)
    assert "agentops.usage_corrected" in event.attributes


def test_content_is_told_only_where_asked_and_only_under_its_own_keys() -> None:
    def tell(**options: Any) -> list[Any]:
        tracer, kept = traced(**options)

        @tracer.trace_tool_call
        def search(query: str) -> list[str]:
            return [query + "!"]

        with tracer.trace_agent_call("answer") as run:
            run.input("zanzibar?")
            search("zanzibar")
            with tracer.trace_llm_call(provider="openai", model="gpt-4o") as call:
                call.messages([{"role": "user", "content": "zanzibar"}])
                call.completion("zanzibar")
                call.usage(input_tokens=1, output_tokens=1)
        told(tracer)
        return [event.attributes for event in kept.events]

    assert tell() == [{}, {}, {}, {}]
    assert tell(environ={"AGENTOPS_CAPTURE_CONTENT": "true"}) == tell(capture_content=True)
    assert tell(capture_content=True) == [
        {},
        {"gen_ai.tool.call.arguments": {"args": ["zanzibar"], "kwargs": {}}, "gen_ai.tool.call.result": ["zanzibar!"]},
        {"gen_ai.input.messages": [{"role": "user", "content": "zanzibar"}], "gen_ai.output.messages": "zanzibar"},
        {"input.value": "zanzibar?"},
    ]


def test_whatever_an_attribute_holds_the_event_is_valid() -> None:
    class Hostile:
        def __str__(self) -> str:
            raise RuntimeError("no")

    tracer, kept = traced()
    deep: Any = []
    for _ in range(200):
        deep = [deep]
    shared = {"list": [1]}
    with tracer.trace_agent_call("nul\x00 name " + "x" * 500) as run:
        for key, value in {
            "nan": float("nan"), "big": 2**80, "nul": "a\x00b", "half": "\ud800", "deep": deep, "hostile": Hostile(),
            "bytes": b"\xff", "set": {1}, "long": "y" * 100_000, "many": list(range(10_000)), "shared": shared, "n\x00": 1,
        }.items():  # fmt: skip
            tracer.add_span_attribute(key, value)
        tracer.add_span_attribute(7, "seven")  # type: ignore[arg-type]
        shared["list"].append(2)
        for number in range(300):
            run.set(f"k{number}", number)
    with tracer.trace_tool_call(""), tracer.trace_llm_call(provider="", model="") as call:
        call.usage(input_tokens=1, output_tokens=1)
    told(tracer)
    attributes = kept.only("run.completed").attributes
    assert attributes["shared"] == {"list": [1]}, "as it was when it was told"
    assert attributes["7"] == "seven"
    assert str(attributes["long"]).endswith("more characters)")
    assert len(attributes) <= 128
    assert isinstance(attributes["agentops.attributes_left_out"], int)
    assert tracer.counts().refused == 0


def test_ids_that_cannot_be_ids_are_told_where_they_are_given(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(ValueError, match=r"agent_id must be .* not 'my agent'"):
        AgentTracer(agent_id="my agent", exporters=[])
    with caplog.at_level(logging.WARNING):
        tracer = AgentTracer(environ={"AGENT_ID": "my agent", "AGENTOPS_TENANT": "acme", "AGENTOPS_SIDECAR_URL": "nonsense"})
    assert tracer.who.agent_id == "my-agent"
    assert any("AGENT_ID must be" in message for message in caplog.messages)
    assert any("AGENTOPS_SIDECAR_URL" in message and "must begin with http" in message for message in caplog.messages)


def test_without_a_sidecar_the_agent_works_and_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        tracer = AgentTracer(environ={})
        for _ in range(3):
            with tracer.trace_agent_call("x"), tracer.trace_llm_call(provider="openai", model="gpt-4o") as call:
                call.response(OPENAI)
                assert tracer.traceparent() is not None
    assert len(caplog.messages) == 1
    assert "AGENTOPS_SIDECAR_URL" in caplog.messages[0]
    assert threading.active_count() == len(threading.enumerate())
    assert not any(thread.name.startswith("agentops-door") for thread in threading.enumerate())
