"""The pure core: whatever comes in, everything is accounted for, order is kept, and nothing raises."""

import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from privacy.rules import Rules
from processors.covered_loop import slices
from processors.validate.catching_up import rows_of
from processors.validate.judging import SHORTEST_EVENT, Judged, Limits, judge, take_apart
from processors.validate.messages import raw_events
from processors.validate.packing import Batch, pack
from processors.validate.quota import DeadQuota
from schemas.dead_letters import DeadLetter
from schemas.events import AcceptedEvent, Event
from schemas.reading import read_event
from streams.messages import CONTENT_TYPE, NDJSON, Received
from streams.micro_batches import lines
from tests.processors_validate.running import event

NOW_NS = time.time_ns()
IDS = [f"00000000-0000-7000-8000-{n:012d}" for n in range(6)]


def received(data: bytes, sequence: int = 1, subject: str = "telemetry.acme.gw.batch", *, ndjson: bool = True) -> Received:
    headers = {CONTENT_TYPE: NDJSON} if ndjson else {}
    return Received(subject, data, sequence, sequence, NOW_NS, 0, "", headers)


@st.composite
def raw_lines(draw: st.DrawFn) -> bytes:
    """Good events with few ids (so that they repeat and conflict), bad ones, and noise."""
    what = draw(st.sampled_from(["good", "good", "good", "other tenant", "broken", "noise"]))
    if what == "noise":
        return draw(st.binary(min_size=1, max_size=60)).replace(b"\n", b" ") or b"x"
    made = event(
        draw(st.sampled_from(["run.started", "log.emitted", "model_call.completed"])),
        event_id=draw(st.sampled_from(IDS)),
        occurred_at="2026-11-20T10:00:00Z",
        attributes={"n": draw(st.integers(0, 1))},
    )
    if made["event_type"] == "log.emitted":
        made["log"] = {"level": "info", "message": "hello"}
    if what == "other tenant":
        made["tenant"] = {"tenant_id": "globex"}
    data = orjson.dumps(made)
    return data[:-5] if what == "broken" else data


def decided(data: list[list[bytes]]) -> list[Judged]:
    return judge([take_apart(received(b"\n".join(rows), n), Limits()) for n, rows in enumerate(data, 1)], {})


def packed(judged: list[Judged], most: int = 999) -> list[Batch]:
    return list(pack(judged, DeadQuota(10**9), most))


@settings(max_examples=150, deadline=None)
@given(st.lists(st.lists(raw_lines(), min_size=1, max_size=8), min_size=1, max_size=6))
def test_everything_received_is_valid_dead_or_a_duplicate(data: list[list[bytes]]) -> None:
    judged = decided(data)
    for one in judged:
        assert one.received == len(one.accepted) + one.dead + one.duplicates
    batches = packed(judged)
    assert sum(b.received for b in batches) == sum(b.valid + b.dead + b.duplicates for b in batches)
    letters = [DeadLetter.model_validate_json(out.data) for b in batches for out in b.outputs if out.subject.startswith("dead.")]
    assert sum(letter.events for letter in letters) == sum(b.dead for b in batches)
    assert len({letter.letter_id for letter in letters}) == len(letters)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(raw_lines(), min_size=1, max_size=8), min_size=1, max_size=6), st.integers(20, 60))
def test_order_is_kept_by_tenant_and_kind_and_every_id_stands_once(data: list[list[bytes]], most: int) -> None:
    batches = packed(decided(data), most)
    assert all(len(batch.outputs) <= most for batch in batches)
    assert [m.sequence for batch in batches for m in batch.messages] == list(range(1, len(data) + 1))
    places: dict[str, list[tuple[int, int]]] = {}
    seen: Counter[str] = Counter()
    for batch in batches:
        for out in batch.outputs:
            if out.subject.startswith("events."):
                for line in lines(out.data):
                    one = AcceptedEvent.model_validate_json(line)
                    assert out.subject == f"events.{one.tenant.tenant_id}.{one.kind}"
                    places.setdefault(out.subject, []).append((one.ingest.sequence, one.ingest.position))
                    seen[str(one.event_id)] += 1
    assert all(found == sorted(found) for found in places.values())
    assert set(seen.values()) <= {1}


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(raw_lines(), min_size=1, max_size=8), min_size=1, max_size=4))
def test_the_index_can_be_rebuilt_from_what_was_stored(data: list[list[bytes]]) -> None:
    for batch in packed(decided(data)):
        stored = [out for out in batch.outputs if out.subject.startswith("events.")]
        rebuilt = [row for out in stored for row in rows_of(received(out.data, subject=out.subject))]
        assert sorted(rebuilt) == sorted(batch.rows)


@settings(max_examples=300, deadline=None)
@given(
    st.one_of(
        st.binary(max_size=300),
        st.recursive(st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=20)), st.lists, max_leaves=20).map(
            lambda value: str(value).replace("'", '"').encode("utf-8", "surrogatepass")
        ),
    ),
    st.text(max_size=30),
)
def test_no_bytes_and_no_subject_make_it_raise(data: bytes, subject: str) -> None:
    for where in (subject, "telemetry.acme.a1.run"):
        for ndjson in (True, False):
            judged = judge([take_apart(received(data, 1, where, ndjson=ndjson), Limits())], {})
            assert judged[0].received >= 1
            packed(judged)


_JSON = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**63), 2**63),
        st.floats(allow_nan=False, allow_infinity=False),
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=10),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(
            st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=8), inner, max_size=4
        ),
    ),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None)
@given(
    st.dictionaries(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=8), _JSON, max_size=5)
)
def test_an_accepted_line_is_the_event_and_where_it_came_from(attributes: dict[str, Any]) -> None:
    raw = orjson.dumps(event(attributes=attributes))
    looks_for_nothing = Rules("full", frozenset())
    (judged,) = judge([take_apart(received(raw, 7), Limits(), lambda _: looks_for_nothing)], {})
    (candidate,) = judged.accepted
    stored, sent = AcceptedEvent.model_validate_json(candidate.line), read_event(raw)
    assert isinstance(sent, Event)
    assert {**stored.model_dump(exclude={"ingest"})} == sent.model_dump()
    assert (stored.ingest.sequence, stored.ingest.position) == (7, 0)
    assert abs(stored.ingest.received_at - datetime.fromtimestamp(NOW_NS / 1e9, UTC)) < timedelta(milliseconds=1)


def test_no_valid_event_is_shorter_than_what_is_refused_unread() -> None:
    shortest = b'{"event_version":"v1","event_id":"%032d","event_type":"run.failed"' % 0
    rest = b',"occurred_at":"2026-11-20T00:00Z","tenant":{"tenant_id":"a"},"run":{"agent_id":"a"}}'
    least = (shortest + rest).replace(b"run.failed", b"agent.status_changed")
    assert isinstance(read_event(least), Event)
    assert len(shortest + rest) - len(b"run.failed") > SHORTEST_EVENT


def test_a_megabyte_of_nothing_is_judged_in_no_time() -> None:
    began = time.process_time()
    (judged,) = judge([take_apart(received(b"{}\n" * 333_000), Limits())], {})
    assert judged.received == judged.dead == 333_000
    assert time.process_time() - began < 5


def test_messages_are_cut_into_runs_that_keep_the_loop_responsive() -> None:
    found = [received(b"x" * size, n) for n, size in enumerate((5, 5, 30, 1, 1))]
    assert [[len(m.data) for m in run] for run in slices(found, 10)] == [[5, 5], [30], [1, 1]]


def test_pretty_printed_json_is_one_event_and_lines_of_objects_are_several() -> None:
    pretty = orjson.dumps(event(), option=orjson.OPT_INDENT_2)
    assert raw_events(received(pretty, ndjson=False)) == [pretty]
    assert len(raw_events(received(b'{"a":1}\r\n\r\n{"b":2}\r\n', ndjson=False))) == 2


def test_a_letter_fits_a_server_that_takes_less() -> None:
    """One that the server refuses would be tried for ever; its hash is kept instead."""
    raw = b"{" + b"x" * 900_000
    message = Received("telemetry.acme.a.run", raw, 1, 1, 1_770_000_000_000_000_000, 0, "", {})
    quota = DeadQuota(10**9)
    quota.fit(1024 * 1024)
    [batch] = pack(judge([take_apart(message, Limits())], {}), quota)
    assert max(len(out.data) for out in batch.outputs) <= 1024 * 1024 - 64 * 1024
    assert batch.omitted == 1
