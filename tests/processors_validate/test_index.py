"""The duplicate index by itself: what it says it knows it knows, whatever happens to its process and its files."""

import asyncio
import os
import random
import signal
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from processors.duplicates.index import DuplicateIndex, IndexUnavailableError, IndexUnusableError
from schemas.ids import event_key, uuid7

DAY_MS = 86_400_000
DAY = 20_777
NOON = DAY * DAY_MS + DAY_MS // 2


def keys(number: int, unix_ms: int = NOON, seed: int = 1) -> list[bytes]:
    """Keys of ``number`` ids made one a millisecond."""
    chance = random.Random(seed)
    return [event_key("acme", uuid7(unix_ms + each, chance.getrandbits(74))) for each in range(number)]


def rows(of: list[bytes]) -> list[tuple[bytes, bytes]]:
    """What an index is given: each key with a payload that follows from it."""
    return [(key, key[-8:]) for key in of]


def opened(path: Path, identity: str = "stream 1") -> DuplicateIndex:
    index = DuplicateIndex(path)
    index.open(identity)
    return index


def test_an_id_is_known_days_later_and_after_a_restart(tmp_path: Path) -> None:
    index, first = opened(tmp_path / "index"), keys(500)
    index.add(rows(first), 7, DAY)
    for later in range(1, 20):
        index.add(rows(keys(200, NOON + later * DAY_MS, later)), 7 + later, DAY + later)
    assert index.known(first) == dict(rows(first))
    index.close()
    index = opened(tmp_path / "index")
    assert index.applied == 26
    assert index.known(first + keys(5, NOON + 40 * DAY_MS, 99)) == dict(rows(first))
    index.close()


def test_keys_of_ids_made_in_order_are_in_order_and_no_two_tenants_share_one() -> None:
    made = keys(100)
    assert made == sorted(made)
    one = uuid7(NOON, 5)
    assert event_key("acme", one) != event_key("globex", one)
    assert {len(event_key(tenant, one)) for tenant in ("a", "b" * 64)} == {16}


def test_progress_without_rows_is_kept_over_a_proper_close(tmp_path: Path) -> None:
    index = opened(tmp_path / "index")
    index.add([], 40, DAY)
    index.close()
    index = opened(tmp_path / "index")
    assert index.applied == 40
    index.close()


def test_what_was_stored_before_the_horizon_is_swept_in_small_steps_and_the_rest_stays(tmp_path: Path) -> None:
    index = opened(tmp_path / "index")
    old, kept = keys(3000), keys(3000, NOON + DAY_MS, 2)
    # Stored long after it was made: only the day it was stored counts.
    late = keys(50, NOON - 400 * DAY_MS, 3)
    index.add(rows(old), 1, DAY)
    index.add(rows(kept + late), 2, DAY + 1)
    steps = [index.sweep(DAY + 1, 500) for _ in range(20)]
    assert sum(steps) == len(old)
    assert max(steps) <= 500
    assert index.known(old) == {}
    assert index.known(kept + late) == dict(rows(kept + late))
    assert index.applied == 2
    index.close()


def test_a_sweep_that_has_seen_everything_rests_until_the_next_day_also_after_a_restart(tmp_path: Path) -> None:
    index = opened(tmp_path / "index")
    index.add(rows(keys(100)), 1, DAY)
    assert index.sweep(DAY, 500) == 0
    index.add(rows(keys(100, seed=5)), 2, DAY - 1)
    assert index.sweep(DAY, 500) == 0
    index.close()
    index = opened(tmp_path / "index")
    assert index.sweep(DAY, 500) == 0
    assert index.sweep(DAY + 1, 500) == 200
    index.close()


def test_an_index_of_another_stream_is_refused_and_made_anew_once_destroyed(tmp_path: Path) -> None:
    index = opened(tmp_path / "index")
    index.add(rows(keys(10)), 1, DAY)
    index.close()
    with pytest.raises(IndexUnusableError, match="another stream"):
        index.open("stream 2")
    index.destroy()
    index.open("stream 2")
    assert (index.applied, index.known(keys(10))) == (0, {})
    index.close()


@pytest.mark.parametrize("damage", ["overwritten", "cut", "gone"])
def test_damage_is_told_and_never_taken_for_ids_never_seen(tmp_path: Path, damage: str) -> None:
    index, made = opened(tmp_path / "index"), keys(5000)
    index.add(rows(made), 9, DAY)
    index.close()
    for file in (tmp_path / "index").glob("*.sst"):
        data = file.read_bytes()
        match damage:
            case "overwritten":
                file.write_bytes(data[:5000] + os.urandom(50_000) + data[55_000:])
            case "cut":
                file.write_bytes(data[: len(data) // 2])
            case "gone":
                file.unlink()
    index = DuplicateIndex(tmp_path / "index")
    # A cut file is noticed when it is opened, a bad block when it is read.
    with pytest.raises(IndexUnusableError):
        index.open("stream 1")
        index.known(made)
    index.close()
    if damage == "overwritten":
        # It opens, but remembers what it has met.
        index.open("stream 1")
    else:
        index.destroy()
        index.open("stream 1")
    assert index.applied == 0
    index.close()


def test_a_torn_end_of_the_log_takes_rows_and_progress_back_together(tmp_path: Path) -> None:
    index = opened(tmp_path / "index")
    for step in range(100):
        index.add(rows(keys(10, NOON + step * 1000, step)), step + 1, DAY)
    store = index._db
    assert store is not None
    copy = tmp_path / "copy"
    copy.mkdir()
    # As a machine that lost power leaves it: the log without its last bytes.
    for file in (tmp_path / "index").iterdir():
        data = file.read_bytes()
        (copy / file.name).write_bytes(data[: len(data) * 6 // 10] if file.suffix == ".log" else data)
    index.close()
    index = opened(copy)
    assert 20 < index.applied < 100
    for step in range(index.applied):
        assert len(index.known(keys(10, NOON + step * 1000, step))) == 10
    index.close()


def test_a_second_index_on_the_path_stands_beside_the_first_and_is_tidied_up_a_day_after_its_end(tmp_path: Path) -> None:
    first, second = opened(tmp_path / "index"), opened(tmp_path / "index")
    first.add(rows(keys(10)), 3, DAY)
    assert (second.applied, second.known(keys(10))) == (0, {})
    second.add(rows(keys(10)), 3, DAY)
    first.close()
    third = opened(tmp_path / "index")
    assert third.applied == 3
    assert len(second.known(keys(10))) == 10
    second.close()
    third.close()
    opened(tmp_path / "index").close()
    assert {path.name for path in tmp_path.iterdir()} == {"index", "index.1"}
    for file in (tmp_path / "index.1", *(tmp_path / "index.1").iterdir()):
        os.utime(file, (1, 1))
    opened(tmp_path / "index").close()
    assert [path.name for path in tmp_path.iterdir()] == ["index"]


def test_a_place_that_cannot_be_written_is_no_damage(tmp_path: Path) -> None:
    (tmp_path / "index").write_text("a file stands here")
    with pytest.raises(IndexUnavailableError, match="index"):
        opened(tmp_path / "index")


WRITER = f"""
import random, sys
from pathlib import Path
from processors.duplicates.index import DuplicateIndex
from schemas.ids import event_key, uuid7
index = DuplicateIndex(Path(sys.argv[1]))
index.open("stream 1")
step = index.applied
print(step, flush=True)
while True:
    chance = random.Random(step)
    keys = [event_key("acme", uuid7({NOON} + step * 1000 + each, chance.getrandbits(74))) for each in range(1000)]
    index.add([(key, key[-8:]) for key in keys], step + 1, {DAY})
    step += 1
    print(step, flush=True)
"""


async def test_kill_nine_in_the_middle_of_writing_leaves_exactly_what_it_claims(tmp_path: Path) -> None:
    acknowledged = 0
    for _ in range(3):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", WRITER, str(tmp_path / "index"), stdout=asyncio.subprocess.PIPE, cwd=Path.cwd()
        )
        assert process.stdout is not None
        resumed_at = int(await process.stdout.readline())
        assert resumed_at >= acknowledged
        for _ in range(random.randrange(5, 30)):
            acknowledged = int(await process.stdout.readline())
        process.send_signal(signal.SIGKILL)
        await process.wait()
    index = opened(tmp_path / "index")
    assert index.applied >= acknowledged
    for step in range(index.applied):
        made = keys(1000, NOON + step * 1000, step)
        assert index.known(made) == dict(rows(made)), step
    beyond = index.applied
    assert index.known(keys(1000, NOON + beyond * 1000, beyond)) == {}
    index.close()


small_keys = st.integers(0, 40).map(lambda number: event_key("t", uuid7(NOON + number // 3, number)))
steps = st.lists(
    st.one_of(
        st.tuples(
            st.just("add"), st.lists(st.tuples(small_keys, st.binary(min_size=8, max_size=8)), max_size=8), st.integers(0, 3)
        ),
        st.tuples(st.just("sweep"), st.integers(0, 5), st.integers(1, 10)),
        st.tuples(st.just("reopen"), st.none(), st.none()),
    ),
    max_size=25,
)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(steps=steps)
def test_it_is_a_dictionary_that_forgets_by_day(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, object, object]]
) -> None:
    path = tmp_path_factory.mktemp("model") / "index"
    index, model, today, applied = opened(path), dict[bytes, tuple[bytes, int]](), DAY, 0
    universe = [event_key("t", uuid7(NOON + number // 3, number)) for number in range(41)]
    for name, first, second in steps:
        match name, first, second:
            case "add", list(added), int(days):
                today, applied = today + days, applied + 1
                index.add(added, applied, today)
                model |= {key: (payload, today) for key, payload in added}
            case "sweep", int(age), int(most):
                before = today - age
                for _ in range(len(universe) // most + 10):
                    index.sweep(before, most)
                if before > DAY:
                    model = {key: row for key, row in model.items() if row[1] >= before}
            case "reopen", _, _:
                index.close()
                index = opened(path)
        assert index.applied == applied
        assert index.known(universe) == {key: payload for key, (payload, _) in model.items()}
    index.close()
