"""A full spool gives up the oldest metrics and logs, then heartbeats, never what money or history hangs on; and counts each."""

import tempfile
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.drop_counts import DropCounts
from sidecar.frames import Record
from sidecar.priorities import NEVER, rank
from sidecar.spool import Full, Spool, Stored
from tests.sidecar.test_spool import drain

BOUND = 60_000
KINDS = ("run", "model_call", "metric", "log", "heartbeat", "batch.log", "batch.run")


def one(kind: str, number: int, size: int = 900) -> Record:
    return Record(kind, str(number), b"x" * size)


def on_disk(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.iterdir() if ".seg" in path.name)


def numbers(records: list[Record], *kinds: str) -> list[int]:
    return [int(each.event_id) for each in records if not kinds or each.kind in kinds]


def fill(spool: Spool, *kinds: str, start: int = 0) -> int:
    """Until it is full; returns how many."""
    number = start
    while isinstance(answer := spool.append([one(kinds[number % len(kinds)], number)]), Stored) and not answer.displaced:
        number += 1
    return number


def test_metrics_and_logs_go_before_heartbeats_the_oldest_first_and_nothing_else_goes(tmp_path: Path) -> None:
    spool = Spool.open(tmp_path, BOUND)
    first = fill(spool, "heartbeat", "metric", "run", "log", "batch.metric")
    number = first + 1
    while isinstance(spool.append([one("run", number)]), Stored):
        number += 1
        counts = spool.drops.by_kind
        if counts["heartbeat"]:
            # No heartbeat went while a metric or a log was left.
            assert counts["metric"] == len([each for each in range(first + 1) if each % 5 in {1, 4}])
            assert counts["log"] == len([each for each in range(first + 1) if each % 5 == 3])
        assert on_disk(tmp_path) <= BOUND
    left = drain(spool)
    assert {each.kind for each in left} == {"run"}
    assert numbers(left) == [each for each in range(first + 1) if each % 5 == 2] + list(range(first + 1, number))
    spool.close()


def test_the_oldest_go_first(tmp_path: Path) -> None:
    spool = Spool.open(tmp_path, BOUND)
    last = fill(spool, "run", "log")
    dropped = spool.drops.by_kind["log"]
    assert dropped > 0
    logs = numbers(drain(spool), "log")
    assert logs == [each for each in range(last + 1) if each % 2][dropped:]
    spool.close()


@pytest.mark.parametrize(("full_of", "comes"), [("run", "metric"), ("heartbeat", "log"), ("run", "heartbeat"), ("run", "run")])
def test_nothing_goes_for_what_matters_less(tmp_path: Path, full_of: str, comes: str) -> None:
    spool = Spool.open(tmp_path, BOUND)
    number = 0
    while isinstance(spool.append([one("run", number)]), Stored) and number < 40:
        number += 1
    while isinstance(answer := spool.append([one(full_of, number)]), Stored) and not answer.displaced:
        number += 1
    before = spool.drops.total
    assert isinstance(spool.append([one(comes, 999, 6000)]), Full)
    assert spool.drops.total == before
    spool.close()


def test_an_own_share_takes_the_place_of_older_ones_and_no_more(tmp_path: Path) -> None:
    """Beyond the share one that comes costs as much as it brings, not everything beyond the share."""
    spool = Spool.open(tmp_path, BOUND)
    for number in range(6):
        spool.append([one("heartbeat", number)])
    number = 6
    while isinstance(answer := spool.append([one("log", number)]), Stored) and not answer.displaced:
        number += 1
    logs = spool.drops.by_kind["log"]
    for each in range(5):
        answer = spool.append([one("heartbeat", 1000 + each)], share=0.8)
        assert isinstance(answer, Stored)
        assert on_disk(tmp_path) <= BOUND
    # Ten thousand bytes lie beyond the share, five thousand came.
    assert spool.drops.by_kind["heartbeat"] == 0
    assert 0 < spool.drops.by_kind["log"] - logs <= 10
    assert numbers(drain(spool), "heartbeat") == [0, 1, 2, 3, 4, 5, 1000, 1001, 1002, 1003, 1004]
    spool.close()


def test_what_is_on_its_way_stays_and_comes_again_as_it_was(tmp_path: Path) -> None:
    spool = Spool.open(tmp_path, BOUND)
    spool.append([one("log", number, 200) for number in range(5)])
    taken = spool.take(100_000, 100)
    assert taken is not None
    number = begun = fill(spool, "log", start=5) + 1
    while number < 300:
        assert isinstance(spool.append([one("run" if number % 40 == 0 else "log", number)]), Stored)
        number += 1
    spool.close()
    again = Spool.open(tmp_path, BOUND)
    assert again.take(100_000, 100) == taken
    again.remove(taken)
    left = numbers(drain(again))
    assert left == sorted(left)
    runs = [each for each in range(begun, 300) if each % 40 == 0]
    assert [each for each in left if each in runs] == runs
    again.close()


@settings(max_examples=80, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.lists(st.tuples(st.sampled_from(KINDS), st.integers(10, 3000)), min_size=1, max_size=6),
            st.sampled_from(("nothing", "take", "drain some", "kill")),
        ),
        min_size=5,
        max_size=60,
    )
)
def test_whatever_happens_each_is_delivered_once_in_order_or_counted(
    steps: list[tuple[list[tuple[str, int]], str]],
) -> None:
    """A kill leaves what is on disk, and no more is remembered than that."""
    with tempfile.TemporaryDirectory() as name:
        directory, put, got = Path(name), dict[int, str](), list[Record]()
        spool = Spool.open(directory, 30_000)
        number = 0
        for offered, then in steps:
            records = [one(kind, number + place, size) for place, (kind, size) in enumerate(offered)]
            number += len(records)
            before = spool.drops.total
            answer = spool.append(records)
            if isinstance(answer, Stored):
                put |= {int(each.event_id): each.kind for each in records}
                assert spool.drops.total - before == sum(count for _, count in answer.displaced)
            else:
                assert spool.drops.total == before
            assert on_disk(directory) <= 30_000
            if then in {"take", "drain some"} and (batch := spool.take(5000, 10)) is not None and then == "drain some":
                got += batch.records
                spool.remove(batch)
            if then == "kill":
                spool.close()
                (directory / f"{9:020d}.seg.new").write_bytes(b"half of a segm")
                spool = Spool.open(directory, 30_000)
        got += drain(spool)
        assert spool.waiting_bytes == 0
        arrived = numbers(got)
        assert arrived == sorted(set(arrived))
        missing = Counter(kind.removeprefix("batch.") for each, kind in put.items() if each not in set(arrived))
        assert missing == spool.drops.by_kind
        assert all(rank(kind) < NEVER for kind in missing)
        spool.close()


def test_counts_outlive_the_process_and_a_damaged_file(tmp_path: Path) -> None:
    counts = DropCounts(tmp_path / "dropped.json")
    counts.add({"log": 3})
    counts.add({"log": 1, "metric": 2})
    assert DropCounts(tmp_path / "dropped.json").by_kind == {"log": 4, "metric": 2}
    (tmp_path / "dropped.json").write_bytes(b"[1")
    again = DropCounts(tmp_path / "dropped.json")
    again.add({"log": 1})
    assert DropCounts(tmp_path / "dropped.json").total == 1
