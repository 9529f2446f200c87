"""Spans become the events of a run, whatever order they arrive in."""

from itertools import permutations
from typing import Any

from schemas.events import Event
from sidecar.otlp.sources import Source
from tests.sidecar_otlp.spans import BEGAN, SECOND, TRACE, Door, chat, only, span, types


def test_a_trace_becomes_a_run_with_its_steps_and_calls() -> None:
    root = span("invoke_agent shopper", gen_ai__operation__name="invoke_agent", gen_ai__agent__name="shopper", end_s=4)
    plan = span("plan", root, gen_ai__operation__name="plan", end_s=1)
    call = chat(plan, gen_ai__response__id="resp-1", start_s=0.25, end_s=1)
    tool = span("execute_tool search", root, gen_ai__operation__name="execute_tool", gen_ai__tool__name="search",
                gen_ai__tool__call__id="call-7", start_s=1, end_s=2)  # fmt: skip
    found = Door().takes(call, plan, tool, root)
    assert sorted(types(found)) == [
        "model_call.completed", "run.completed", "run.started", "run.started", "step.completed", "tool_call.completed",
    ]  # fmt: skip
    for event in found:
        assert (event.tenant.tenant_id, event.run.agent_id, event.run.run_id) == ("acme", "a1", TRACE.hex())
        assert event.trace is not None
        assert event.trace.trace_id == TRACE.hex()
    ended = only(found, "run.completed")
    assert (ended.run.status, ended.run.duration_ms) == ("completed", 4000)
    assert ended.occurred_at.timestamp() * SECOND == BEGAN + 4 * SECOND
    assert min(event.occurred_at for event in found if event.event_type == "run.started").timestamp() == BEGAN / SECOND
    billed = only(found, "model_call.completed")
    assert billed.model_call is not None
    assert billed.trace is not None
    assert billed.resource_usage is not None
    assert billed.model_call.model_dump(exclude_none=True) == {
        "model_call_id": call.span_id.hex(), "provider": "openai", "model": "gpt-4o", "step_id": plan.span_id.hex(),
        "response_id": "resp-1", "operation": "chat", "latency_ms": 750,
    }  # fmt: skip
    assert billed.trace.parent_span_id == plan.span_id.hex()
    assert (billed.resource_usage.input_tokens, billed.resource_usage.output_tokens) == (100, 20)
    assert billed.attributes["agentops.observed_by"] == "otel"
    used = only(found, "tool_call.completed")
    assert used.tool_call is not None
    assert (used.tool_call.tool_call_id, used.tool_call.name, used.tool_call.latency_ms) == ("call-7", "search", 1000)
    step = only(found, "step.completed")
    assert step.step is not None
    assert (step.step.step_id, step.step.step_type, step.step.name) == (plan.span_id.hex(), "plan", "plan")


def test_the_same_events_come_of_every_order_in_one_request_or_in_several() -> None:
    root = span("invoke_agent", gen_ai__operation__name="invoke_agent", gen_ai__usage__input_tokens=200,
                gen_ai__usage__output_tokens=40, gen_ai__request__model="gpt-4o", end_s=5)  # fmt: skip
    wrapper = chat(root, "ChatOpenAI")
    call, other = chat(wrapper), chat(root)
    wanted = {(call.span_id.hex(), 100), (other.span_id.hex(), 100)}
    for order in permutations((root, wrapper, call, other)):
        together = Door().takes(*order)
        assert {_billed(event) for event in together if event.resource_usage} == wanted
        assert len(only(together, "run.completed").attributes) < 20


def test_a_wrapper_and_its_call_are_billed_once_whichever_comes_first_in_requests_of_their_own() -> None:
    root = span("agent", gen_ai__operation__name="invoke_agent")
    wrapper = chat(root, "ChatOpenAI")
    call = chat(wrapper)
    for order in permutations((root, wrapper, call)):
        door = Door()
        found = [event for one in order for event in door.takes(one)]
        assert len([event for event in found if event.resource_usage]) == 1, [one.name for one in order]
        assert only(found, "run.completed")


def test_a_span_that_tells_nothing_between_them_does_not_hide_it() -> None:
    wrapper = chat(b"parent00", "ChatOpenAI")
    between = span("POST", wrapper, kind=3)
    call = chat(between)
    for order in ((call, between, wrapper), (wrapper, between, call)):
        door = Door()
        found = [event for one in order for event in door.takes(one)]
        assert len([event for event in found if event.resource_usage]) == 1, [one.name for one in order]


def test_what_wraps_billed_calls_is_kept_and_says_why_it_is_not_billed() -> None:
    wrapper = chat(b"parent00", "ChatOpenAI")
    found = Door().takes(chat(wrapper), wrapper)
    kept = only(found, "step.completed")
    assert kept.attributes["agentops.not_billed"] == "around calls that are billed"
    assert kept.attributes["agentops.usage.input"] == 100


def test_an_exporters_retry_brings_the_same_events_again() -> None:
    door = Door()
    root = span("agent", gen_ai__operation__name="invoke_agent")
    wrapper = chat(root)
    spans = (chat(wrapper), wrapper, root)
    first, again = door.takes(*spans), door.takes(*spans)
    assert [event.model_dump_json() for event in first] == [event.model_dump_json() for event in again]
    assert len({event.event_id for event in first}) == len(first)


def test_orphans_are_kept_and_their_run_is_known_to_be_under_way() -> None:
    found = Door().takes(chat(b"nowhere0"), span("GET /x", b"nowhere0", kind=3))
    assert sorted(types(found)) == ["model_call.completed", "run.started", "step.completed"]


def test_a_run_fails_with_its_root_and_says_why() -> None:
    root = span("agent", gen_ai__operation__name="invoke_agent", error="out of money", error__type="BudgetError")
    failed = only(Door().takes(root), "run.failed")
    assert failed.error is not None
    assert (failed.run.status, failed.error.type, failed.error.message) == ("failed", "BudgetError", "out of money")


def test_a_run_whose_caller_reports_elsewhere_ends_with_the_span_that_took_the_call() -> None:
    remote = 0x300
    taken = span("POST /ask", b"elsewher", kind=2, flags=remote, http__request__method="POST", end_s=3)
    found = Door().takes(chat(taken), taken)
    assert only(found, "run.completed").run.duration_ms == 3000
    step = only(found, "step.completed")
    assert step.step is not None
    assert (step.step.step_type, step.step.name) == ("http", "POST /ask")
    inside = span("child", b"elsewher", kind=1, flags=remote)
    assert "run.completed" not in types(Door().takes(inside))


def test_at_a_gateway_the_resource_says_whose_it_is() -> None:
    cases: tuple[tuple[dict[str, Any], dict[str, Any], str], ...] = (
        ({"service.name": "acme/shop one"}, {}, "acme-shop-one"),
        ({"service.name": "shop", "agentops.agent_id": "buyer"}, {}, "buyer"),
        ({"service.name": "manager"}, {}, "manager-agent"),
        ({"service.name": "unknown_service:python"}, {"gen_ai__agent__name": "helper"}, "helper"),
        ({"telemetry.sdk.name": "x"}, {}, "unknown-agent"),
    )
    for resource, attributes, agent in cases:
        found = Door(Source("acme")).takes(chat(b"parent00", **attributes), resource=resource)
        assert {event.run.agent_id for event in found} == {agent}


def _billed(event: Event) -> tuple[str | None, int]:
    assert event.trace is not None
    assert event.resource_usage is not None
    return event.trace.span_id, event.resource_usage.input_tokens
