"""What a tab may ask for."""

from datetime import timedelta
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboard.hub.asking import QUESTIONS, Pollster
from dashboard.hub.orders import ORDERS, Acknowledge, Nonsense, Order, Painted, read
from schemas.commands import Command, FaultParams
from schemas.queries import QUERIES
from tests.dashboard.things import START


@pytest.mark.parametrize("action", sorted(ORDERS))
def test_every_button_is_a_valid_command(action: str) -> None:
    order = read({"action": action, "agent": "demo.chat-service"})
    assert isinstance(order, Order)
    command = order.message("c1", START)
    assert Command.model_validate_json(command.model_dump_json(exclude_none=True)) == command
    assert command.expires_at - command.timestamp == timedelta(seconds=60)


def test_inject_latency_asks_for_two_and_a_half_seconds_for_five_minutes() -> None:
    order = read({"action": "inject-latency", "agent": "demo.a"})
    assert isinstance(order, Order)
    fault = FaultParams.model_validate(order.params)
    assert (fault.kind, fault.latency_ms, fault.duration_s) == ("latency", 2500.0, 300.0)


def test_inject_error_fails_every_request() -> None:
    order = read({"action": "inject-error", "agent": "demo.a"})
    assert isinstance(order, Order)
    fault = FaultParams.model_validate(order.params)
    assert (fault.kind, fault.rate) == ("error", 1.0)


def test_a_tab_acknowledges_and_says_what_it_has_painted() -> None:
    assert read({"action": "acknowledge", "alert": "a1"}) == Acknowledge("a1")
    assert read({"painted": 7}) == Painted(7)


@pytest.mark.parametrize(
    "said",
    [
        None,
        [],
        "restart",
        {},
        {"action": "format-disk", "agent": "demo.a"},
        {"action": "restart"},
        {"action": "restart", "agent": "a"},
        {"action": "restart", "agent": "demo.a.b"},
        {"action": "restart", "agent": "demo.*"},
        {"action": "restart", "agent": "demo.a", "params": {}},
        {"painted": "7"},
        {"action": "acknowledge", "alert": ""},
    ],
)
def test_anything_else_is_nonsense(said: Any) -> None:
    assert isinstance(read(said), Nonsense)


@given(st.recursive(st.none() | st.integers() | st.text(), lambda inner: st.dictionaries(st.text(), inner) | st.lists(inner)))
def test_no_message_of_a_tab_breaks_the_reader(said: Any) -> None:
    read(said)


def test_every_question_is_one_the_warehouse_knows() -> None:
    for question in QUESTIONS:
        QUERIES[question.query].model_validate_json(orjson.dumps(question.parameters(START)))


def test_a_question_is_asked_again_after_its_interval() -> None:
    pollster = Pollster()
    assert len(pollster.due(100.0)) == len(QUESTIONS)
    for question in QUESTIONS:
        pollster.asked(question, 100.0)
    assert pollster.due(100.5) == []
    assert [question.name for question in pollster.due(101.0)] == ["throughput"]
    pollster.forget()
    assert len(pollster.due(101.0)) == len(QUESTIONS)
