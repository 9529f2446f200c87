"""Traces as real emitters of each convention write them: each model call billed once, and nothing else."""

from typing import Any

from schemas.events import Event
from tests.sidecar_otlp.spans import Door, only, span


def billed(found: list[Event]) -> list[tuple[str, str, int, int, int]]:
    return [
        (event.model_call.provider, event.model_call.model, used.input_tokens, used.output_tokens, used.cache_read_tokens)
        for event in found
        if event.model_call is not None and (used := event.resource_usage) is not None
    ]


def made(name: str, attributes: dict[str, Any], parent: Any = None, **more: Any) -> Any:
    return span(name, parent, **{key.replace(".", "__"): value for key, value in attributes.items()}, **more)


def test_vercel_bills_the_inner_call_and_neither_generate_text_nor_its_total() -> None:
    outer = made("ai.generateText", {
        "ai.operationId": "ai.generateText", "operation.name": "ai.generateText chatbot", "ai.model.id": "claude-sonnet-4-5",
        "ai.model.provider": "anthropic.messages", "ai.usage.promptTokens": 30, "ai.usage.completionTokens": 20, "ai.prompt": "hi",
    })  # fmt: skip
    inner = made("ai.generateText.doGenerate", {
        "ai.operationId": "ai.generateText.doGenerate", "ai.model.id": "claude-sonnet-4-5", "ai.model.provider": "anthropic.messages",
        "ai.usage.inputTokens": 30, "ai.usage.outputTokens": 20, "ai.usage.cachedInputTokens": 70, "gen_ai.system": "anthropic.messages",
        "gen_ai.request.model": "claude-sonnet-4-5", "gen_ai.usage.input_tokens": 30, "gen_ai.usage.output_tokens": 20,
        "ai.response.id": "msg_1", "ai.response.finishReason": "stop", "ai.response.text": "hello", "ai.response.msToFirstChunk": 12.5,
    }, outer)  # fmt: skip
    tool = made(
        "ai.toolCall",
        {"ai.operationId": "ai.toolCall", "ai.toolCall.name": "weather", "ai.toolCall.id": "t1", "ai.toolCall.args": "{}"},
        outer,
    )
    found = Door().takes(inner, tool, outer, scope="ai")
    # Its Anthropic counts leave cache out: a hundred tokens went in.
    assert billed(found) == [("anthropic", "claude-sonnet-4-5", 100, 20, 70)]
    call = only(found, "model_call.completed")
    assert call.model_call is not None
    assert (call.model_call.response_id, call.model_call.time_to_first_token_ms) == ("msg_1", 12.5)
    assert call.attributes["gen_ai.completion"] == "hello"
    assert "ai.response.text" not in call.attributes
    used = only(found, "tool_call.completed")
    assert used.tool_call is not None
    assert (used.tool_call.name, used.attributes["gen_ai.tool.call.arguments"]) == ("weather", "{}")
    only(found, "run.completed")


def test_openinference_over_langgraph_bills_llm_spans_alone() -> None:
    graph = made("LangGraph", {"openinference.span.kind": "CHAIN", "input.value": "{}", "session.id": "s"})
    node = made("agent", {"openinference.span.kind": "AGENT", "graph.node.name": "agent"}, graph)
    llm = made("ChatOpenAI", {
        "openinference.span.kind": "LLM", "llm.provider": "openai", "llm.system": "openai", "llm.model_name": "gpt-4o-2024-08-06",
        "llm.token_count.prompt": 100, "llm.token_count.completion": 20, "llm.token_count.total": 120,
        "llm.token_count.prompt_details.cache_read": 64, "llm.input_messages.0.message.role": "user",
        "llm.input_messages.0.message.content": "hi", "llm.cost.total": 0.000123,
    }, node)  # fmt: skip
    tool = made("search", {"openinference.span.kind": "TOOL", "tool.name": "search", "tool.parameters": "{}"}, node)
    found = Door().takes(llm, tool, node, graph, scope="openinference.instrumentation.langchain")
    assert billed(found) == [("openai", "gpt-4o-2024-08-06", 100, 20, 64)]
    call = only(found, "model_call.completed")
    assert call.attributes["gen_ai.input.messages"] == [{"message.role": "user", "message.content": "hi"}]
    assert call.cost is not None
    assert str(call.cost.cost_usd) == "0.000123"
    step = only(found, "step.completed")
    assert step.step is not None
    assert (step.step.step_type, step.step.name) == ("invoke_agent", "agent")


def test_openllmetry_of_before_and_of_today() -> None:
    workflow = made(
        "joke.workflow", {"traceloop.span.kind": "workflow", "traceloop.workflow.name": "joke", "traceloop.entity.name": "joke"}
    )
    task = made("write.task", {"traceloop.span.kind": "task", "traceloop.workflow.name": "joke"}, workflow)
    old = made("openai.chat", {
        "llm.request.type": "chat", "gen_ai.system": "OpenAI", "gen_ai.request.model": "gpt-4o", "gen_ai.response.model": "gpt-4o",
        "gen_ai.usage.prompt_tokens": 100, "gen_ai.usage.completion_tokens": 20, "llm.usage.total_tokens": 120,
        "gen_ai.usage.cache_read_input_tokens": 64, "gen_ai.prompt.0.role": "user", "gen_ai.prompt.0.content": "joke",
    }, task, kind=3)  # fmt: skip
    new = made("chat gpt-4o", {
        "gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": "gpt-4o",
        "gen_ai.usage.input_tokens": 10, "gen_ai.usage.output_tokens": 2, "gen_ai.usage.total_tokens": 12,
    }, task, kind=3)  # fmt: skip
    found = Door().takes(old, new, task, workflow, scope="opentelemetry.instrumentation.openai.v1")
    assert billed(found) == [("OpenAI", "gpt-4o", 100, 20, 64), ("openai", "gpt-4o", 10, 2, 0)]
    assert only(found, "run.completed").run.workflow_id == "joke"


def test_pydantic_ai_bills_requests_and_not_its_agents_total() -> None:
    agent = made("agent run", {
        "model_name": "gpt-4o", "agent_name": "shopper", "gen_ai.usage.input_tokens": 200, "gen_ai.usage.output_tokens": 40,
        "logfire.msg": "shopper run", "final_result": "done", "all_messages_events": "[]",
    })  # fmt: skip
    request = made("chat gpt-4o", {
        "gen_ai.operation.name": "chat", "gen_ai.system": "openai", "gen_ai.request.model": "gpt-4o", "gen_ai.response.model": "gpt-4o",
        "gen_ai.usage.input_tokens": 100, "gen_ai.usage.output_tokens": 20, "gen_ai.usage.details.cache_read_tokens": 64,
        "gen_ai.usage.details.reasoning_tokens": 5, "operation.cost": 0.01, "gen_ai.response.id": "r",
    }, agent)  # fmt: skip
    pending = made("chat gpt-4o", {"logfire.span_type": "pending_span", "gen_ai.request.model": "gpt-4o"}, request)
    tool = made(
        "running tool",
        {"gen_ai.tool.name": "search", "gen_ai.tool.call.id": "c", "tool_arguments": "{}", "tool_response": "1"},
        agent,
    )
    found = Door().takes(pending, request, tool, agent, scope="pydantic-ai")
    assert billed(found) == [("openai", "gpt-4o", 100, 20, 64)]
    assert only(found, "tool_call.completed").attributes["gen_ai.tool.call.result"] == "1"
    ended = only(found, "run.completed")
    assert ended.attributes["output.value"] == "done"


def test_an_mcp_call_is_told_by_its_client_alone() -> None:
    client = made("tools/call search", {"mcp.method.name": "tools/call", "gen_ai.tool.name": "search"}, b"parent00", kind=3)
    server = made(
        "tools/call search",
        {"mcp.method.name": "tools/call", "gen_ai.tool.name": "search", "gen_ai.operation.name": "execute_tool"},
        client,
        kind=2,
    )
    listing = made("tools/list", {"mcp.method.name": "tools/list"}, b"parent00", kind=3)
    found = Door().takes(server, client, listing)
    only(found, "tool_call.completed")
    assert [event.step.step_type for event in found if event.step] == ["mcp", "mcp"]


def test_an_unknown_operation_that_counts_a_models_tokens_is_a_call_unless_calls_lie_in_it() -> None:
    known = {
        "gen_ai.request.model": "gpt-4o",
        "gen_ai.usage.input_tokens": 100,
        "gen_ai.usage.output_tokens": 20,
        "gen_ai.system": "openai",
    }
    outer = made("loop", known | {"gen_ai.operation.name": "agent_loop"}, b"parent00")
    assert billed(Door().takes(outer)) == [("openai", "gpt-4o", 100, 20, 0)]
    inner = made("call_llm", known | {"gen_ai.operation.name": "call_llm"}, outer)
    assert len(billed(Door().takes(inner, outer))) == 1


def test_a_failed_call_is_told_with_its_error_and_billed_for_what_was_counted() -> None:
    failed = made("chat", {"gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": "gpt-4o", "error.type": "RateLimitError",
                           "http.response.status_code": 429}, b"parent00", error="slow down")  # fmt: skip
    event = only(Door().takes(failed), "model_call.failed")
    assert event.error is not None
    assert (event.error.type, event.error.message, event.error.code) == ("RateLimitError", "slow down", "429")
    assert event.resource_usage is None
    broken = made(
        "chat",
        {"gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt-4o", "gen_ai.usage.output_tokens": 7},
        b"parent00",
        error="cut off",
    )
    used = only(Door().takes(broken), "model_call.failed").resource_usage
    assert used is not None
    assert used.output_tokens == 7


def test_a_call_nobody_counted_is_kept_and_marked() -> None:
    event = only(
        Door().takes(made("chat", {"gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt-4o"}, b"parent00")),
        "model_call.completed",
    )
    assert event.resource_usage is not None
    assert event.resource_usage.estimated
    assert event.attributes["agentops.usage"] == "not reported"


def test_an_evaluation_on_a_span_is_told() -> None:
    judged = made("chat", {"gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt-4o"}, b"parent00")
    happened = judged.events.add(name="gen_ai.evaluation.result")
    for key, value in (("gen_ai.evaluation.name", "relevance"), ("gen_ai.evaluation.score.label", "pass")):
        happened.attributes.add(key=key).value.string_value = value
    event = only(Door().takes(judged), "evaluation.completed")
    assert event.evaluation is not None
    assert (event.evaluation.evaluator, event.evaluation.score, event.evaluation.passed) == ("relevance", 1.0, True)


def test_an_event_too_large_loses_its_content_and_says_so() -> None:
    huge = made("chat", {"gen_ai.operation.name": "chat", "gen_ai.request.model": "gpt-4o", "gen_ai.usage.input_tokens": 9,
                         "gen_ai.input.messages": "x" * 2_000_000, "note": "y" * 5000}, b"parent00")  # fmt: skip
    event = only(Door().takes(huge), "model_call.completed")
    assert event.resource_usage is not None
    assert event.resource_usage.input_tokens == 9
    assert "gen_ai.input.messages" not in event.attributes
    size, note = event.attributes["agentops.too_large"], event.attributes["note"]
    assert isinstance(size, int)
    assert size > 2_000_000
    assert isinstance(note, str)
    assert note.endswith("…")
