"""Whole batches only, wherever the reads were cut."""

from hypothesis import given
from hypothesis import strategies as st

from processors.health.closing import PATIENCE_S, Closing
from streams import subjects
from streams.messages import Received


def message(sequence: int, subject: str) -> Received:
    return Received(subject, b"", sequence, sequence, 0, 0, "")


def event(sequence: int) -> Received:
    return message(sequence, subjects.events("acme", "heartbeat"))


def record(sequence: int) -> Received:
    return message(sequence, subjects.covered("validate"))


def test_a_batch_is_held_until_its_record_is_there() -> None:
    closing = Closing()
    assert closing.take([event(1), event(2)], 0.0) == []
    assert [each.sequence for each in closing.take([record(3), event(4)], 0.01)] == [1, 2, 3]
    assert [each.sequence for each in closing.take([record(5)], 0.02)] == [4, 5]


def test_what_no_record_follows_is_taken_as_it_is_after_a_moment() -> None:
    closing = Closing()
    closing.take([event(1)], 0.0)
    assert closing.take([], PATIENCE_S / 2) == []
    assert [each.sequence for each in closing.take([], PATIENCE_S)] == [1]


@given(st.lists(st.booleans(), max_size=30), st.lists(st.integers(0, 30), max_size=8))
def test_nothing_is_lost_or_turned_around_wherever_it_is_cut(records: list[bool], cuts: list[int]) -> None:
    story = [record(n) if is_record else event(n) for n, is_record in enumerate(records, 1)]
    closing, taken, start = Closing(), list[Received](), 0
    for cut in [*sorted({min(cut, len(story)) for cut in cuts}), len(story)]:
        ready = closing.take(story[start:cut], 0.0)
        assert not ready or ready[-1].subject.startswith("covered.")
        taken += ready
        start = cut
    taken += closing.take([], 1.0)
    assert taken == story
