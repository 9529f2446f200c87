"""The table, row by row: every attribute ends where its row says, in whatever convention."""

from typing import Any

import pytest

from schemas.events import Event
from sidecar.otlp.mapping import CONTENT, EMITTERS, FAMILIES, HOSTS, KEPT, MODELS, OPERATIONS, PLACES, ROWS, Emitter, Family, Row
from sidecar.otlp.spans import judge, sort
from sidecar.otlp.traces import emitter
from tests.sidecar_otlp.spans import Door, only, span

EXAMPLES: dict[str, Any] = {
    "streamed": True, "finish_reason": ["stop"], "first_chunk_s": 0.5, "first_chunk_ms": 500.0, "cost_usd": 0.25, "input": 90,
    "input_uncached": 30, "output": 40, "cache_read": 30, "cache_write": 30, "cache_write_1h": 7, "reasoning": 8, "total": 130,
    "input_audio": 9, "output_audio": 11, "cache_read_audio": 5, "web_searches": 2, "score": 0.75, "operation": "chat",
}  # fmt: skip


def example(row: Row) -> Any:
    return EXAMPLES.get(row.field, f"an example of {row.field}")


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.convention}:{row.attribute}")
def test_a_row_puts_its_attribute_into_its_field(row: Row) -> None:
    told = sort([(row.attribute, example(row))])
    assert told.fields == {row.field: example(row)}
    if row.field in CONTENT:
        assert told.extra == {CONTENT[row.field]: example(row)}
    else:
        assert told.extra == ({row.attribute: example(row)} if row.field in KEPT else {})


def test_every_field_has_a_place() -> None:
    assert {row.field for row in ROWS} == set(PLACES)


def test_no_attribute_has_two_meanings() -> None:
    names = [row.attribute for row in ROWS]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("field", sorted({row.field for row in ROWS}))
def test_of_several_names_of_a_field_the_current_one_counts_in_any_order(field: str) -> None:
    several = [(row.attribute, f"value of {row.attribute}") for row in ROWS if row.field == field]
    wanted = several[0][1]
    assert sort(several).fields[field] == wanted
    assert sort(reversed(several)).fields[field] == wanted


COUNTS = {
    "input": "input_tokens", "output": "output_tokens", "cache_read": "cache_read_tokens", "cache_write": "cache_write_tokens",
    "reasoning": "reasoning_tokens", "cache_write_1h": "cache_write_1h_tokens", "input_audio": "input_audio_tokens",
    "output_audio": "output_audio_tokens", "cache_read_audio": "cache_read_audio_tokens", "web_searches": "web_searches",
}  # fmt: skip
WHOLE = {
    "gen_ai.operation.name": "chat", "gen_ai.provider.name": "openai", "gen_ai.request.model": "gpt-4o",
    "gen_ai.usage.input_tokens": 90, "gen_ai.usage.output_tokens": 40, "gen_ai.usage.cache_read.input_tokens": 30,
    "gen_ai.usage.cache_write.input_tokens": 30, "gen_ai.usage.audio.input_tokens": 9,
}  # fmt: skip


@pytest.mark.parametrize("row", [row for row in ROWS if row.field in COUNTS], ids=lambda row: row.attribute)
def test_every_name_of_a_count_is_billed(row: Row) -> None:
    same = {other.attribute for other in ROWS if other.field == row.field}
    attributes = {name: value for name, value in WHOLE.items() if name not in same} | {row.attribute: EXAMPLES[row.field]}
    usage = only(Door().takes(span(**_spelled(attributes))), "model_call.completed").resource_usage
    assert usage is not None
    assert getattr(usage, COUNTS[row.field]) == EXAMPLES[row.field]


NAMED = {
    "provider": ("model_call", "provider"), "model": ("model_call", "model"), "model_asked": ("model_call", "model"),
    "response_id": ("model_call", "response_id"), "service_tier": ("model_call", "service_tier"),
    "workflow": ("run", "workflow_id"), "run_id": ("run", "run_id"), "finish_reason": ("model_call", "finish_reason"),
}  # fmt: skip


@pytest.mark.parametrize("row", [row for row in ROWS if row.field in NAMED], ids=lambda row: row.attribute)
def test_every_name_of_a_name_is_told(row: Row) -> None:
    same = {other.attribute for other in ROWS if other.field in {row.field, "model_asked" if row.field == "model" else ""}}
    attributes = {name: value for name, value in WHOLE.items() if name not in same} | {row.attribute: "some-name"}
    section, name = NAMED[row.field]
    assert getattr(getattr(_called(attributes), section), name) == "some-name"


TOLD = {
    "first_chunk_s": ("time_to_first_token_ms", 500.0), "first_chunk_ms": ("time_to_first_token_ms", 500.0), "streamed": ("streamed", True),
}  # fmt: skip


@pytest.mark.parametrize("row", [row for row in ROWS if row.field in TOLD], ids=lambda row: row.attribute)
def test_every_name_of_how_a_call_went_is_told(row: Row) -> None:
    name, wanted = TOLD[row.field]
    assert getattr(_called(WHOLE | {row.attribute: EXAMPLES[row.field]}).model_call, name) == wanted


@pytest.mark.parametrize("row", [row for row in ROWS if row.field == "cost_usd"], ids=lambda row: row.attribute)
def test_every_name_of_what_the_client_believes_it_paid_is_told(row: Row) -> None:
    cost = _called(WHOLE | {row.attribute: 0.25}).cost
    assert cost is not None
    assert str(cost.cost_usd) == "0.25"


@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_makes_of_a_span_what_the_table_says(name: str) -> None:
    assert judge(1, "any", sort([("gen_ai.operation.name", name)])) == OPERATIONS[name]
    assert judge(1, "any", sort([("openinference.span.kind", name.upper())])) == OPERATIONS[name]


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.prefix)
def test_flattened_content_is_put_together_under_the_one_key_it_may_have(family: Family) -> None:
    dot = "" if family.prefix.endswith(".") else "."
    told = sort([
        (f"{family.prefix}{dot}1.role", "user"), (f"{family.prefix}{dot}0.role", "system"), (f"{family.prefix}{dot}0.content", "x"),
    ])  # fmt: skip
    assert told.extra == {CONTENT[family.field]: [{"role": "system", "content": "x"}, {"role": "user"}]}


@pytest.mark.parametrize("row", EMITTERS, ids=lambda row: row.name)
def test_an_emitter_is_known_by_its_scope_and_bills_cache_once(row: Emitter) -> None:
    scope = f"{row.scope}x" if row.scope.endswith(".") else row.scope or "somebody"
    assert emitter(scope).name == row.name
    for provider, counted_apart in (("anthropic", row.cache != "included"), ("openai", row.cache == "apart")):
        attributes = WHOLE | {"gen_ai.provider.name": provider, "gen_ai.request.model": "m", "gen_ai.usage.audio.input_tokens": 0}
        usage = only(Door().takes(span(**_spelled(attributes)), scope=scope), "model_call.completed").resource_usage
        assert usage is not None
        assert (usage.cache_read_tokens, usage.cache_write_tokens) == (30, 30)
        assert usage.input_tokens == (150 if counted_apart else 90), (provider, scope)


@pytest.mark.parametrize(("host", "provider"), HOSTS.items())
def test_a_server_tells_the_provider_where_nothing_else_does(host: str, provider: str) -> None:
    address = f"https://mine{host}/v1/chat" if host.startswith(".") else f"https://{host}:443/v1/chat"
    event = _called(_without_provider("m") | {"url.full": address})
    assert event.model_call is not None
    assert (event.model_call.provider, event.attributes["agentops.provider"]) == (provider, "from the server's name")


@pytest.mark.parametrize(("beginning", "provider"), MODELS.items())
def test_a_models_name_tells_the_provider_as_the_last_resort(beginning: str, provider: str) -> None:
    for named in ({}, {"gen_ai.system": "Langchain"}):
        event = _called(_without_provider(f"{beginning}9") | named)
        assert event.model_call is not None
        assert (event.model_call.provider, event.attributes["agentops.provider"]) == (provider, "from the model's name")


def _without_provider(model: str) -> dict[str, Any]:
    return {name: value for name, value in WHOLE.items() if "provider" not in name} | {"gen_ai.request.model": model}


def _spelled(attributes: dict[str, Any]) -> dict[str, Any]:
    return {name.replace(".", "__"): value for name, value in attributes.items()}


def _called(attributes: dict[str, Any]) -> Event:
    return only(Door().takes(span(**_spelled(attributes))), "model_call.completed")
