"""The spool keeps what it took, in order, whatever happens to its last bytes."""

import os
import resource
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.frames import MAX_PAYLOAD_BYTES, Record, decode, encode
from sidecar.spool import Full, Spool, SpoolBusyError, Stored

RECORDS = st.lists(
    st.builds(
        Record,
        kind=st.sampled_from(["run", "heartbeat"]),
        event_id=st.uuids().map(str),
        line=st.binary(min_size=0, max_size=300).map(lambda raw: raw.replace(b"\n", b" ")),
    ),
    min_size=1,
    max_size=12,
)


def numbered(count: int, size: int = 100, start: int = 0) -> list[Record]:
    return [Record("run", str(number), b"x" * size) for number in range(start, start + count)]


def drain(spool: Spool, most_records: int = 1000) -> list[Record]:
    found: list[Record] = []
    while (batch := spool.take(100_000, most_records)) is not None:
        found += batch.records
        spool.remove(batch)
    return found


@given(st.lists(st.binary(min_size=1, max_size=200), max_size=10), st.data())
def test_a_cut_anywhere_leaves_exactly_the_complete_frames(payloads: list[bytes], data: st.DataObject) -> None:
    frames = [encode(payload) for payload in payloads]
    whole = b"".join(frames)
    cut = data.draw(st.integers(0, len(whole)))
    complete, size = 0, 0
    for frame in frames:
        if size + len(frame) > cut:
            break
        complete, size = complete + 1, size + len(frame)
    found = decode(whole[:cut])
    assert (list(found.payloads), found.end) == (payloads[:complete], size)


@given(
    st.lists(st.binary(min_size=1, max_size=200), max_size=10), st.one_of(st.binary(max_size=64), st.integers(1, 64).map(bytes))
)
def test_garbage_or_zeros_at_the_end_are_no_frames(payloads: list[bytes], garbage: bytes) -> None:
    whole = b"".join(encode(payload) for payload in payloads)
    found = decode(whole + garbage)
    assert (list(found.payloads), found.end) == (payloads, len(whole))


@settings(max_examples=60, deadline=None)
@given(RECORDS, st.data())
def test_a_spool_with_a_torn_tail_gives_back_exactly_what_was_whole(records: list[Record], data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        spool = Spool.open(directory, 1_000_000)
        ends = []
        for record in records:
            assert spool.append([record]) == Stored(1)
            ends.append(spool.waiting_bytes)
        spool.close()
        segment = next(directory.glob("*.seg"))
        cut = data.draw(st.integers(0, ends[-1]))
        garbage = data.draw(st.binary(max_size=40))
        segment.write_bytes(segment.read_bytes()[:cut] + garbage)
        whole = [record for record, end in zip(records, ends, strict=True) if end <= cut]
        again = Spool.open(directory, 1_000_000)
        # What comes after the tear is written behind what was whole.
        assert again.append(numbered(1)) == Stored(1)
        # Garbage may happen to continue the cut record as it was.
        kept = drain(again)
        assert kept[: len(whole)] == whole
        assert kept[-1:] == numbered(1)
        assert len(kept) - 1 in {len(whole), len(whole) + (1 if garbage else 0)}
        again.close()


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 20), st.integers(1, 30), st.booleans()), min_size=1, max_size=12))
def test_order_survives_any_mix_of_appending_removing_and_reopening(steps: list[tuple[int, int, bool]]) -> None:
    with tempfile.TemporaryDirectory() as name:
        spool = Spool.open(Path(name), 200_000)
        put, got = 0, []
        for count, most, reopen in steps:
            if isinstance(spool.append(numbered(count, 400, put)), Stored):
                put += count
            if (batch := spool.take(4000, most)) is not None:
                got += [int(record.event_id) for record in batch.records]
                spool.remove(batch)
            if reopen:
                spool.close()
                spool = Spool.open(Path(name), 200_000)
        got += [int(record.event_id) for record in drain(spool)]
        assert got == list(range(put))
        assert spool.waiting_bytes == 0
        spool.close()


def test_a_batch_taken_before_a_kill_is_taken_again_as_it_was(tmp_path: Path) -> None:
    """So it keeps its message id, and NATS drops the repeat."""
    spool = Spool.open(tmp_path, 1_000_000)
    spool.append(numbered(3))
    taken = spool.take(100_000, 100)
    assert taken is not None
    spool.close()
    again = Spool.open(tmp_path, 1_000_000)
    again.append(numbered(5, start=3))
    assert again.take(100_000, 100) == taken
    again.remove(taken)
    assert [record.event_id for record in drain(again)] == ["3", "4", "5", "6", "7"]
    again.close()


def test_a_full_spool_takes_nothing_and_has_room_again_once_drained(tmp_path: Path) -> None:
    spool = Spool.open(tmp_path, 100_000)
    while isinstance(spool.append(numbered(10, 900)), Stored):
        pass
    before = spool.waiting_bytes
    assert isinstance(spool.append(numbered(10, 900)), Full)
    assert spool.waiting_bytes == before <= 100_000
    assert isinstance(spool.append(numbered(1, 10), share=0.8), Full)
    assert len(drain(spool)) % 10 == 0
    assert spool.append(numbered(10, 900)) == Stored(10)
    spool.close()


@contextmanager
def at_most(what: int, most: int) -> Iterator[None]:
    """The operating system gives this process no more of ``what`` meanwhile."""
    before = resource.getrlimit(what)
    resource.setrlimit(what, (most, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(what, before)


def test_where_a_segment_cannot_be_begun_nothing_is_lost_and_the_next_try_goes_on(tmp_path: Path) -> None:
    """As on a disk without room for another file; what others open meanwhile stays theirs."""
    spool = Spool.open(tmp_path, 8 * 20_000)
    filled, more = numbered(15, 1_000), numbered(10, 1_000, start=15)
    assert spool.append(filled) == Stored(15)
    (newest,) = tmp_path.glob("*.seg")
    in_the_way = newest.with_stem(f"{int(newest.stem) + 1:020d}")
    in_the_way.touch()
    for number in range(3):
        assert isinstance(spool.append(more), Full)
        # Whoever opens a file now gets the lowest number that is free: were that the spool's still, the next try would close it.
        theirs = os.open(tmp_path / f"theirs-{number}", os.O_RDWR | os.O_CREAT)
        assert isinstance(spool.append(more), Full)
        assert os.write(theirs, b"theirs") == 6
        os.close(theirs)
        assert spool.append(numbered(1, 100, start=25 + number)) == Stored(1)
    in_the_way.unlink()
    assert spool.append(more) == Stored(10)
    assert drain(spool) == [*filled, *numbered(3, 100, start=25), *more]
    assert spool.unreadable == 0


@pytest.mark.parametrize("sync", [False, True])
def test_a_disk_that_is_full_in_the_midst_of_a_request_keeps_none_of_it_and_all_before(tmp_path: Path, sync: bool) -> None:
    spool = Spool.open(tmp_path, 8 * 20_000, sync=sync)
    filled = numbered(12, 1_000)
    assert spool.append(filled) == Stored(12)
    for size in (4_000, 6_500, 15_000):
        # The first two end within the segment that was begun before, the last one within one begun by the request.
        with at_most(resource.RLIMIT_FSIZE, 15_000):
            assert isinstance(spool.append([Record("run", "a", b"y" * size), Record("run", "b", b"z" * 16_000)]), Full)
    more = numbered(10, 1_000, start=12)
    assert spool.append(more) == Stored(10)
    spool.close()
    spool = Spool.open(tmp_path, 8 * 20_000, sync=sync)
    assert drain(spool) == [*filled, *more]
    assert spool.unreadable == 0


def test_a_record_larger_than_a_frame_is_given_up_alone_and_counted(tmp_path: Path) -> None:
    """In the file it would make everything behind it unreadable."""
    spool = Spool.open(tmp_path, 64_000_000)
    before, large, behind = numbered(1), Record("batch.model_call", "large", b"x" * MAX_PAYLOAD_BYTES), numbered(2, start=1)
    assert spool.append([*before, large, behind[0]]) == Stored(2, (("model_call", 1),))
    assert spool.append(behind[1:]) == Stored(1)
    assert drain(spool) == [*before, *behind]
    assert (spool.unreadable, spool.drops.by_kind) == (0, {"model_call": 1})
    spool.close()
    assert Spool.open(tmp_path, 64_000_000).drops.by_kind == {"model_call": 1}


def test_damage_in_the_middle_costs_one_segment_and_not_the_rest(tmp_path: Path) -> None:
    spool = Spool.open(tmp_path, 100_000)
    for number in range(30):
        spool.append(numbered(1, 2000, number))
    spool.close()
    first = min(tmp_path.glob("*.seg"))
    first.write_bytes(b"\xff" * first.stat().st_size)
    again = Spool.open(tmp_path, 100_000)
    left = [int(record.event_id) for record in drain(again)]
    assert again.unreadable == 1
    assert left == list(range(30 - len(left), 30))
    assert 20 <= len(left) < 30
    again.close()


def test_a_spool_has_one_user(tmp_path: Path) -> None:
    spool = Spool.open(tmp_path, 100_000)
    with pytest.raises(SpoolBusyError):
        Spool.open(tmp_path, 100_000)
    spool.close()
    Spool.open(tmp_path, 100_000).close()


def test_what_was_shipped_leaves_no_files_behind(tmp_path: Path) -> None:
    spool = Spool.open(tmp_path, 50_000_000)
    for number in range(40):
        spool.append(numbered(100, 9000, number * 100))
        drain(spool)
    assert sum(path.stat().st_size for path in tmp_path.glob("*.seg")) < 2_000_000
    spool.close()
