"""What a publisher says."""

import random
from datetime import UTC, datetime
from typing import Any

import orjson

from chaos.traffic import Parcel, Traffic, garbage
from chaos.verdict import _MARK
from schemas.events import Event
from schemas.reading import Rejected, read_event
from streams.messages import NDJSON

NOW = datetime(2026, 11, 20, tzinfo=UTC)


def parcels(seed: int = 1) -> tuple[Traffic, list[Parcel]]:
    traffic = Traffic("p", seed, 60.0)
    return traffic, [parcel for _ in range(120) for parcel in traffic.chunk(25, NOW)]


def test_the_same_seed_says_the_same_and_another_life_something_else() -> None:
    assert parcels(1)[1] == parcels(1)[1]
    ours = {event for parcel in parcels(1)[1] for event, *_ in parcel.events}
    theirs = {event for parcel in Traffic("plife2", 1, 60.0).chunk(1000, NOW) for event, *_ in parcel.events}
    assert len(ours) > 3000, "some calls are seen by two"
    assert not ours & theirs


def test_every_line_is_a_good_event_or_carries_a_mark() -> None:
    marked = 0
    for parcel in parcels()[1]:
        lines = parcel.data.split(b"\n")
        assert len(lines) == len(parcel.events) + len(parcel.marks)
        assert len(lines) == 1 or parcel.content_type == NDJSON
        for line in lines:
            found = _MARK.search(line)
            tenant = parcel.subject.split(".")[1]
            answer = read_event(line)
            if found is None:
                assert isinstance(answer, Event), answer
                assert answer.tenant.tenant_id == tenant
            else:
                assert isinstance(answer, Rejected) or answer.tenant.tenant_id != tenant
                assert found.group().decode() in parcel.marks
                marked += 1
    assert marked > 5


def test_garbage_is_never_an_event_of_its_tenant() -> None:
    good = orjson.loads(next(p for p in parcels()[1] if len(p.events) == 1 and not p.marks).data)
    for seed in range(100):
        bad = garbage(random.Random(seed), "mark-p-7-end", good)
        assert _MARK.search(bad)
        assert b"\n" not in bad
        answer = read_event(bad)
        assert isinstance(answer, Rejected) or answer.tenant.tenant_id == "another-tenant"


def test_repeats_come_when_they_are_due_and_say_the_same() -> None:
    traffic, sent = parcels()
    for parcel in sent:
        traffic.acknowledged(parcel, 100.0)
    assert all(repeat.repeats == "at_once" for repeat in traffic.due(100.0) if repeat.repeats != "conflict")
    due = list(traffic.due(200.0))
    late = [parcel for parcel in due if parcel.repeats is not None]
    assert {repeat.repeats for repeat in late} == {"late", "conflict"}
    good = [orjson.loads(line) for parcel in sent for line in parcel.data.split(b"\n") if not _MARK.search(line)]
    said = {event["event_id"]: event for event in good}
    for repeat in late:
        if repeat.repeats == "late" and not repeat.marks:
            for line in repeat.data.split(b"\n"):
                event = orjson.loads(line)
                assert event == said[event["event_id"]]
        if repeat.repeats == "conflict":
            assert repeat.marks
            assert orjson.loads(repeat.data)["event_id"] in said
    assert list(traffic.due(10_000.0)) == []


def test_some_calls_are_seen_by_the_proxy_and_by_opentelemetry_at_once_or_later_and_their_events_tell_so() -> None:
    traffic, sent = parcels()
    assert list(traffic.due(0.0)) == []
    later = [parcel for parcel in traffic.due(10_000.0) if parcel.repeats is None]
    now, then = (
        [orjson.loads(line) for parcel in some for line in parcel.data.split(b"\n") if not _MARK.search(line)]
        for some in (sent, later)
    )
    observed: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for event in (*now, *then):
        if by := event.get("attributes", {}).get("agentops.observed_by"):
            span = event["trace"]["parent_span_id" if by == "proxy" else "span_id"]
            observed.setdefault((event["trace"]["trace_id"], span), []).append(event)
    assert later
    assert {len(events) for events in observed.values()} == {2}
    pairs = list(observed.values())
    assert all(one["event_id"] != other["event_id"] for one, other in pairs)
    assert any("response_id" not in event["model_call"] for pair in pairs for event in pair)
    assert any(event["resource_usage"].get("estimated") for pair in pairs for event in pair)
