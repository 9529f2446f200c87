"""Splitting into micro-batches keeps every line, in order, within the limits."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from streams.micro_batches import lines, split

JSON_LINES = st.lists(
    st.binary(min_size=1, max_size=60).filter(lambda line: b"\n" not in line and bool(line.strip())), max_size=60
)


@given(JSON_LINES, st.integers(1, 200), st.integers(1, 10))
def test_joining_the_batches_gives_the_lines_back(given_lines: list[bytes], max_bytes: int, max_lines: int) -> None:
    batches = list(split(given_lines, max_bytes, max_lines))
    assert [line for batch in batches for line in lines(batch.data)] == given_lines
    assert sum(batch.count for batch in batches) == len(given_lines)


@given(JSON_LINES, st.integers(1, 200), st.integers(1, 10))
def test_no_batch_is_over_a_limit_but_a_single_long_line(given_lines: list[bytes], max_bytes: int, max_lines: int) -> None:
    for batch in split(given_lines, max_bytes, max_lines):
        assert 1 <= batch.count <= max_lines
        assert len(batch.data) <= max_bytes or batch.count == 1


@given(JSON_LINES, st.integers(1, 200), st.integers(1, 10))
def test_batches_are_as_few_as_filling_in_order_allows(given_lines: list[bytes], max_bytes: int, max_lines: int) -> None:
    batches = list(split(given_lines, max_bytes, max_lines))
    for one, following in pairwise(batches):
        first = lines(following.data)[0]
        assert one.count == max_lines or len(one.data) + 1 + len(first) > max_bytes
