"""What the event contract accepts, refuses, and says about it."""

import json
from decimal import Decimal
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.errors import field_errors
from schemas.events import KIND_OF, REQUIRED, Event
from schemas.export import schema
from schemas.reading import Rejected, read_event
from tests.events import event, new_id, raw


def accepted(value: dict[str, Any]) -> Event:
    read = read_event(raw(value))
    assert isinstance(read, Event), read
    return read


def rejected(value: Any) -> Rejected:
    read = read_event(value if isinstance(value, bytes) else raw(value))
    assert isinstance(read, Rejected), read
    return read


@pytest.mark.parametrize("event_type", sorted(KIND_OF))
def test_every_event_type_is_accepted_with_its_sections_and_by_the_exported_schema(event_type: str) -> None:
    value = event(event_type)
    assert accepted(value).kind == KIND_OF[event_type]
    jsonschema.validate(json.loads(raw(value)), schema("event-v1"))


@pytest.mark.parametrize(("event_type", "section"), [(t, s) for t, needed in REQUIRED.items() for s in needed])
def test_a_missing_section_is_named_and_the_exported_schema_agrees(event_type: str, section: str) -> None:
    value = event(event_type)
    if section == "run.run_id":
        del value["run"]["run_id"]
    else:
        del value[section]
    found = rejected(value)
    assert found.reason == "contract_violation"
    assert [error.loc for error in found.errors] == [f"$.{section}"]
    assert event_type in found.errors[0].msg
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(json.loads(raw(value)), schema("event-v1"))


@pytest.mark.parametrize(
    ("path", "wrong", "loc"),
    [
        ("resource_usage.input_tokens", "12", "$.resource_usage.input_tokens"),
        ("resource_usage.input_tokens", -1, "$.resource_usage.input_tokens"),
        ("resource_usage.input_tokens", 10**30, "$.resource_usage.input_tokens"),
        ("resource_usage.input_tokens", 1.5, "$.resource_usage.input_tokens"),
        ("model_call.provider", "", "$.model_call.provider"),
        ("model_call.provider", "open\x00ai", "$.model_call.provider"),
        ("tenant.tenant_id", "no spaces", "$.tenant.tenant_id"),
        ("tenant.tenant_id", "a" * 65, "$.tenant.tenant_id"),
        ("run.agent_id", "agent.with.dots", "$.run.agent_id"),
        ("run.agent_id", "wild*card", "$.run.agent_id"),
        ("event_id", "not-a-uuid", "$.event_id"),
        ("event_type", "run.exploded", "$.event_type"),
        ("occurred_at", "yesterday", "$.occurred_at"),
        ("occurred_at", "2026-01-01T00:00:00", "$.occurred_at"),
        ("occurred_at", "0001-01-01T00:00:00+14:00", "$.occurred_at"),
        ("surprise", 1, "$.surprise"),
        ("tenant.surprise", 1, "$.tenant.surprise"),
    ],
)
def test_a_wrong_value_is_refused_with_its_json_path(path: str, wrong: Any, loc: str) -> None:
    value = event("model_call.completed")
    *parents, last = path.split(".")
    inside = value
    for name in parents:
        inside = inside[name]
    inside[last] = wrong
    if isinstance(wrong, int) and abs(wrong) > 2**64:
        body = raw(value | {"resource_usage": {"input_tokens": 0, "output_tokens": 1}}).replace(
            b'"input_tokens":0', b'"input_tokens":%d' % wrong
        )
    else:
        body = raw(value)
    found = rejected(body)
    assert loc in [error.loc for error in found.errors]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "malformed_json"),
        (b"{", "malformed_json"),
        (b"\xff\xfe", "malformed_json"),
        (b"[]", "not_an_object"),
        (b'"text"', "not_an_object"),
        (b"null", "not_an_object"),
        (b"{}", "unknown_version"),
        (b'{"event_version":"v7"}', "unknown_version"),
        (b'{"event_version":"v1"}', "contract_violation"),
        (b'{"a":"\x00"}', "nul_byte"),
        (b"[" * 200_000, "malformed_json"),
        (b'{"event_version":"v1","attributes":' + b"[" * 5000 + b"]" * 5000 + b"}", "malformed_json"),
        (b" " * 1_000_001, "too_large"),
    ],
)
def test_garbage_has_a_reason(body: bytes, reason: str) -> None:
    found = rejected(body)
    assert found.reason == reason
    assert found.errors


def test_a_nul_hidden_in_attributes_is_refused() -> None:
    assert rejected(event(attributes={"deep": [{"a": "x\x00y"}]})).reason == "nul_byte"
    assert accepted(event(attributes={"deep": "a written \\u0000 is text"})).attributes == {"deep": "a written \\u0000 is text"}


def test_a_v0_event_with_a_number_nobody_can_write_again_is_refused_and_named() -> None:
    old = {
        "event_version": "v0", "event_id": "0190a000-0000-7000-8000-000000000001", "event_type": "run.started",
        "occurred_at": "2026-11-01T00:00:00Z", "tenant": {"tenant_id": "acme"}, "run": {"run_id": "r", "agent_id": "a"},
        "attributes": {"n": 10**30},
    }  # fmt: skip
    found = read_event(json.dumps(old).encode())
    assert isinstance(found, Rejected)
    assert (found.reason, found.errors[0].loc) == ("contract_violation", "$.attributes.n")


def test_tokens_include_cache_and_reasoning_or_the_event_is_refused() -> None:
    usage = {
        "input_tokens": 10,
        "output_tokens": 5,
        "cache_read_tokens": 6,
        "cache_write_tokens": 4,
        "reasoning_tokens": 5,
        "total_tokens": 15,
    }
    accepted(event("model_call.completed", resource_usage=usage))
    for wrong in ({"cache_read_tokens": 7}, {"reasoning_tokens": 6}, {"total_tokens": 16}):
        found = rejected(event("model_call.completed", resource_usage=usage | wrong))
        assert found.errors[0].loc == "$.resource_usage"


def test_money_is_exact_to_nine_digits() -> None:
    read = accepted(event("model_call.completed", cost={"cost_usd": "0.000000001"}))
    assert read.cost is not None
    assert read.cost.cost_usd == Decimal("0.000000001")
    assert '"cost_usd":"0.000000001"' in read.model_dump_json(exclude_none=True)
    assert rejected(event("model_call.completed", cost={"cost_usd": "0.0000000001"})).errors[0].loc == "$.cost.cost_usd"


def test_times_from_1970_and_2100_are_events_like_others() -> None:
    assert accepted(event(occurred_at="1970-01-01T00:00:00Z")).occurred_at.year == 1970
    assert accepted(event(occurred_at="2100-12-31T23:59:59.999999+01:00")).occurred_at.year == 2100


def test_an_error_shows_the_value_but_never_a_secret() -> None:
    found = rejected(event(api_key="sk-live-123", nonsense="x" * 1000))
    shown = {error.loc: error.value for error in found.errors}
    assert shown["$.api_key"] == "(withheld)"
    assert shown["$.nonsense"] is not None
    assert len(shown["$.nonsense"]) < 200
    assert "sk-live" not in str(found)


def test_a_rejection_says_whose_it_claims_to_be() -> None:
    value = event(tenant="acme", surprise=1)
    found = rejected(value)
    assert (found.tenant_id, found.event_type, found.event_id) == ("acme", "run.started", value["event_id"])


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
        max_leaves=20,
    )
)
def test_any_json_is_an_event_or_rejected_with_errors(value: Any) -> None:
    read = read_event(json.dumps(value).encode())
    assert isinstance(read, Rejected)
    assert read.errors


@given(st.binary(max_size=300))
def test_any_bytes_are_rejected_without_raising(body: bytes) -> None:
    assert isinstance(read_event(body), Rejected)


@given(
    st.sampled_from(sorted(KIND_OF)),
    st.sampled_from(["tenant", "run", "event_id", "occurred_at", "trace", "attributes", "step", "error"]),
    st.none() | st.integers() | st.text(max_size=5) | st.lists(st.integers(), max_size=2),
)
def test_a_field_of_any_wrong_kind_never_raises(event_type: str, field: str, wrong: Any) -> None:
    value = event(event_type)
    value[field] = wrong
    read = read_event(json.dumps(value).encode())
    assert isinstance(read, Event | Rejected)


def v0(event_type: str, **sections: Any) -> dict[str, Any]:
    return {
        "event_version": "v0", "event_id": new_id(), "event_type": event_type, "occurred_at": "2026-02-07T10:00:00Z",
        "tenant": {"tenant_id": "acme", "workspace_id": "w", "project_id": "p"}, "run": {"run_id": "r", "agent_id": "a"},
        "trace": {"trace_id": "t", "span_id": "s"},
    } | sections  # fmt: skip


def test_v0_is_upcast_and_cached_tokens_become_cache_reads() -> None:
    usage = {
        "provider": "openai",
        "model": "gpt-4o",
        "input_tokens": 100,
        "output_tokens": 20,
        "cached_tokens": 40,
        "total_tokens": 80,
    }
    read = accepted(v0("model.completed", resource_usage=usage, cost={"cost_usd": 0.1}))
    assert read.event_version == "v1"
    assert read.event_type == "model_call.completed"
    assert read.resource_usage is not None
    assert (read.resource_usage.cache_read_tokens, read.resource_usage.total_tokens) == (40, 120)
    assert read.cost is not None
    assert read.cost.cost_usd == Decimal("0.1")


def test_a_v0_total_that_fits_neither_sum_is_refused() -> None:
    usage = {
        "provider": "openai",
        "model": "gpt-4o",
        "input_tokens": 100,
        "output_tokens": 20,
        "cached_tokens": 40,
        "total_tokens": 99,
    }
    assert rejected(v0("model.completed", resource_usage=usage)).reason == "contract_violation"


def test_a_v0_run_with_usage_is_no_billable_call() -> None:
    read = accepted(v0("run.completed", resource_usage={"input_tokens": 5, "output_tokens": 5}))
    assert read.resource_usage is None
    assert read.model_call is None
    assert "v0_resource_usage" in read.attributes


@pytest.mark.parametrize(
    "value",
    [
        v0("run.failed", error={"message": "broke"}),
        v0("run.failed"),
        v0("step.completed"),
        v0("policy.decision", policy={"policy_id": "p", "decision": "block", "actor": {"id": "u1"}}),
        v0(
            "budget.threshold_hit",
            budget={"budget_id": "b", "scope": "tenant", "period": "month", "threshold": 0.8, "limit_usd": 10, "spent_usd": 8.5},
        ),
        v0("alert.emitted", alert={"alert_id": "a", "type": "threshold", "threshold": 1.0}),
    ],
    ids=lambda value: value["event_type"],
)
def test_every_v0_section_has_a_place_in_v1(value: dict[str, Any]) -> None:
    accepted(value)
    jsonschema.validate(value, schema("event-v0"))


def test_a_v0_error_is_located_too() -> None:
    found = rejected(v0("run.started", nonsense=1))
    assert found.errors[0].loc == "$.nonsense"
    assert field_errors.__doc__
