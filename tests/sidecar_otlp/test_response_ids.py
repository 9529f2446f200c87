"""The provider's id where an emitter only quotes the response, in the words its instrumentation was heard to use."""

from typing import Any

import orjson
import pytest

from sidecar.otlp.response_ids import quoted
from tests.sidecar_otlp.spans import Door, only, span

LANGCHAIN = {
    "generations": [[{"text": "", "message": {"id": ["langchain", "schema"], "kwargs": {"id": "lc_run--1-0", "response_metadata": {"id": "chatcmpl-2"}}}}]],
    "llm_output": {"id": "chatcmpl-1"},
    "run": None,
}  # fmt: skip
STREAMED = {
    "generations": [[{"message": {"kwargs": {"id": "lc_run--1", "response_metadata": {}, "tool_calls": [{"id": "call_1"}]}}}]],
    "llm_output": None,
}


@pytest.mark.parametrize(
    ("attributes", "found"),
    [
        ({"output.value": {"id": "chatcmpl-1", "choices": []}}, "chatcmpl-1"),
        ({"output.value": LANGCHAIN}, "chatcmpl-1"),
        ({"output.value": LANGCHAIN | {"llm_output": None}}, "chatcmpl-2"),
        ({"output.value": STREAMED}, None),
        ({"llm.invocation_parameters": {"id": "resp_1", "model": "gpt-5"}}, "resp_1"),
        ({"output.value": [{"tool_calls": [{"id": "call_1"}]}], "llm.invocation_parameters": {"verbosity": "low"}}, None),
        ({"output.value": {"id": 7}}, None),
        ({"output.value": {"id": ""}}, None),
        ({}, None),
    ],
)
def test_only_the_responses_own_id_is_taken(attributes: dict[str, Any], found: str | None) -> None:
    assert quoted({name: orjson.dumps(value).decode() for name, value in attributes.items()}) == found


@pytest.mark.parametrize("text", ['{"id": ', "It is 21 degrees", '{"id": "x"}' + " " * 300_000, ["id"], 7, None])
def test_what_is_no_json_or_too_long_has_none(text: Any) -> None:
    assert quoted({"output.value": text}) is None


def test_the_event_of_such_a_span_has_the_id_and_a_plain_error_type() -> None:
    told: dict[str, Any] = {
        "openinference__span__kind": "LLM",
        "llm__model_name": "gpt-5",
        "output__value": orjson.dumps(LANGCHAIN).decode(),
    }
    call = only(Door().takes(span(**told, llm__token_count__prompt=7)), "model_call.completed").model_call
    assert call is not None
    assert call.response_id == "chatcmpl-1"
    failed = span("chat", error="no", gen_ai__operation__name="chat", error__type="<class 'openai.InternalServerError'>")
    error = only(Door().takes(failed), "model_call.failed").error
    assert error is not None
    assert error.type == "openai.InternalServerError"
