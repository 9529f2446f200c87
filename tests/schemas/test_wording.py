"""Whoever reads an error learns what the value must be, in words of this system."""

from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError
from pydantic_core.core_schema import ErrorType

from schemas import wording
from schemas.errors import field_errors
from schemas.events import Event
from schemas.queries import LedgerParams
from tests.events import event


def problems(model: type[BaseModel], value: Any) -> list[str]:
    with pytest.raises(ValidationError) as caught:
        model.model_validate(value)
    return [error.told() for error in field_errors(caught.value)]


def test_every_name_pydantic_knows_is_spelled_right() -> None:
    assert set(wording._SAID) <= set(get_args(ErrorType))


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"limit": "ten"}, "$.limit: must be a whole number (is ten)"),
        ({"limit": 0}, "$.limit: must be at least 1 (is 0)"),
        ({"tenant": "a b"}, "$.tenant: must be 1 to 64 letters, digits, _ or - (is a b)"),
        ({"since": "yesterday"}, "$.since: must be a time with a zone, such as 2026-11-20T08:00:00Z (is yesterday)"),
        ({"kind": "gift"}, "$.kind: must be 'charge', 'reversal' or 'adjustment' (is gift)"),
        ({"open": "perhaps"}, "$.open: must be true or false (is perhaps)"),
        ({"colour": 1}, "$.colour: is no field that is known here; leave it out, or correct its name (is 1)"),
    ],
)
def test_a_wrong_parameter_is_told_with_what_it_must_be(given: dict[str, Any], told: str) -> None:
    assert problems(LedgerParams, given) == [told]


PATHS = st.sampled_from(
    [
        ("run",),
        ("run", "agent_id"),
        ("tenant",),
        ("occurred_at",),
        ("event_type",),
        ("event_id",),
        ("attributes",),
        ("trace",),
        ("log",),
        ("error",),
    ]
)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=4,
)


@given(PATHS, VALUES)
def test_no_error_of_an_event_speaks_of_pydantic(path: tuple[str, ...], value: Any) -> None:
    made: dict[str, Any] = event("run.started")
    section = made
    for part in path[:-1]:
        section = section[part]
    section[path[-1]] = value
    try:
        Event.model_validate(made)
    except ValidationError as error:
        for one in field_errors(error):
            assert "Input should" not in one.msg
            assert "pydantic" not in one.msg
            assert one.msg
