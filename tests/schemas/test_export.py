"""The committed JSON Schemas are the code's, and may only grow more permissive within a version."""

import copy
from collections.abc import Callable
from typing import Any

import pytest

from schemas.compatibility import breaking_changes
from schemas.export import GUARDED, problems, schema


def test_the_committed_schemas_are_up_to_date() -> None:
    assert problems() == []


def test_an_unchanged_schema_breaks_nothing() -> None:
    for name in GUARDED:
        assert breaking_changes(schema(name), schema(name)) == []


def require(contract: dict[str, Any]) -> None:
    contract["required"].append("trace")


def forget(contract: dict[str, Any]) -> None:
    del contract["properties"]["policy"]


def narrow(contract: dict[str, Any]) -> None:
    contract["properties"]["event_type"]["enum"].remove("run.failed")


def shorten(contract: dict[str, Any]) -> None:
    contract["$defs"]["ResourceUsage"]["properties"]["input_tokens"]["maximum"] = 10


def retype(contract: dict[str, Any]) -> None:
    contract["$defs"]["Step"]["properties"]["step_type"]["type"] = "integer"


def demand(contract: dict[str, Any]) -> None:
    rule = next(rule for rule in contract["allOf"] if rule["if"]["properties"]["event_type"]["const"] == "tool_call.completed")
    rule["then"]["required"].append("step")


@pytest.mark.parametrize("change", [require, forget, narrow, shorten, retype, demand])
def test_a_change_that_would_reject_an_old_event_is_found(change: Callable[[dict[str, Any]], None]) -> None:
    old = schema("event-v1")
    new = copy.deepcopy(old)
    change(new)
    assert breaking_changes(old, new)


def test_growth_is_allowed() -> None:
    old = schema("event-v1")
    new = copy.deepcopy(old)
    new["properties"]["event_type"]["enum"].append("run.paused")
    new["properties"]["weather"] = {"type": "string"}
    new["required"].remove("occurred_at")
    assert breaking_changes(old, new) == []
