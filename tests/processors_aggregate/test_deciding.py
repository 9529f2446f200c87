"""The pure cores: pauses, the ceiling, stream identity, spans, latency buckets."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.aggregate.ceiling import Ceiling, Exceeded, Within
from processors.aggregate.columns import EVENTS, LEDGER
from processors.aggregate.gathering import LARGEST_SHARE, pause_s
from processors.aggregate.queries.spans import COLUMNS, tree
from processors.aggregate.rollups import middle_of
from processors.aggregate.standing import Follows, Wiped, judge
from processors.aggregate.warehouse import Offset
from schemas.events import KIND_OF, Event
from schemas.ledger import LedgerEntry

T0 = datetime(2026, 11, 20, tzinfo=UTC)


@given(took=st.floats(0, 10), events=st.integers(0, 10_000), share=st.floats(0.01, 0.49))
def test_a_trickle_takes_its_share_of_the_time_and_nothing_waits_too_long(took: float, events: int, share: float) -> None:
    pause = pause_s(took, events, share, 0.015, 0.25)
    assert 0.015 <= pause <= 0.25
    if pause < 0.25:
        assert took <= (took + pause) * max(share, min(LARGEST_SHARE, events / 100)) * 1.000001


@given(st.lists(st.tuples(st.integers(0, 5), st.floats(0, 100)), max_size=50))
def test_the_ceiling_counts_exactly_what_lies_in_its_window(steps: list[tuple[int, float]]) -> None:
    ceiling, now, seen = Ceiling(10, 60.0), 0.0, []
    for letters, later in steps:
        now += later
        seen.append((now, letters))
        inside = sum(number for at, number in seen if at > now - 60.0)
        verdict = ceiling.count(letters, now)
        assert isinstance(verdict, Exceeded if inside > 10 else Within)


def test_a_stream_wiped_or_made_anew_is_noticed() -> None:
    offset = Offset("EVENTS", T0, 100, T0, 1, 1, 1)
    assert judge("EVENTS", None, T0, 5) == Follows(0, 5)
    assert judge("EVENTS", offset, T0, 120) == Follows(100, 20)
    wiped = judge("EVENTS", offset, T0, 5)
    assert isinstance(wiped, Wiped)
    assert "ends at 5" in wiped.reason
    anew = judge("EVENTS", offset, T0 + timedelta(hours=1), 500)
    assert isinstance(anew, Wiped)
    assert "made anew" in anew.reason


@given(st.floats(0, 10**12))
def test_a_latency_bucket_is_at_most_two_percent_off(latency: float) -> None:
    assert middle_of(latency) == pytest.approx(latency, rel=0.0201, abs=0.001)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["run", "step", "model_call", "tool_call"]), st.integers(0, 6), st.integers(0, 6), st.integers(0, 3)
        ),
        max_size=30,
    )
)
def test_any_events_make_a_tree_with_each_parent_before_its_children(made: list[tuple[str, int, int, int]]) -> None:
    """Also where parents form a circle, are missing, or are their own."""
    events: list[dict[str, Any]] = []
    for number, (kind, span, parent, step) in enumerate(made):
        events.append(
            dict.fromkeys(COLUMNS)
            | {
                "tenant_id": "acme", "event_id": f"e{number:03}", "event_type": f"{kind}.{'started' if number % 3 == 0 and kind in {'run', 'step'} else 'completed'}",
                "occurred_at": T0 + timedelta(seconds=number), "span_id": f"s{span}" if span else None,
                "parent_span_id": f"s{parent}" if parent else None, "kind": kind, "thing": f"{kind}{step}", "step_id": f"step{step}",
                "latency_ms": 5.0, "cost_usd": None,
            }
        )  # fmt: skip
    rows = tree(events)
    assert sum(row["kind"] in {"model_call", "tool_call"} for row in rows) == sum(
        kind in {"model_call", "tool_call"} for kind, *_ in made
    )
    assert {row["event_id"] for row in rows} <= {event["event_id"] for event in events}
    depth = -1
    for row in rows:
        assert row["depth"] <= depth + 1
        depth = row["depth"]


def test_a_span_that_would_begin_before_time_does_begins_with_it() -> None:
    told = {
        "tenant_id": "acme", "event_id": "e", "event_type": "tool_call.completed", "occurred_at": datetime(1, 1, 1, 0, 1),  # noqa: DTZ001
        "kind": "tool_call", "thing": "t", "step_id": None, "latency_ms": 1e12,
    }  # fmt: skip
    (row,) = tree([dict.fromkeys(COLUMNS) | told])
    assert row["started_at"] == datetime(1, 1, 1)  # noqa: DTZ001


def _leaves(schema: dict[str, Any], definitions: dict[str, Any], path: tuple[str, ...] = ()) -> set[tuple[str, ...]]:
    for option in schema.get("anyOf", ()):
        if option.get("type") != "null":
            return _leaves(option, definitions, path)
    if "$ref" in schema:
        return _leaves(definitions[schema["$ref"].rsplit("/", 1)[1]], definitions, path)
    if "properties" not in schema:
        return {path}
    return {leaf for name, inner in schema["properties"].items() for leaf in _leaves(inner, definitions, (*path, name))}


def test_every_field_of_the_contract_has_a_column_or_stays_as_an_attribute() -> None:
    """A field added to the contract and forgotten here would be lost without a sign."""
    schema = Event.model_json_schema()
    leaves = _leaves(schema, schema["$defs"]) - {("event_version",), ("attributes",), ("cost", "currency")}
    for kind in set(KIND_OF.values()):
        table = EVENTS[kind]
        held = {column.path for column in table.columns}
        left = {leaf for leaf in leaves - held if not any(".".join(leaf).startswith(name) for name in table.left_over)}
        assert left == set(), kind


def test_every_field_of_the_ledger_has_a_column() -> None:
    schema = LedgerEntry.model_json_schema()
    assert _leaves(schema, schema["$defs"]) == {column.path for column in LEDGER.columns}
