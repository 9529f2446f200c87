"""When a partition may be taken, and how many an instance keeps: pure."""

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st

from processors.leasing import SILENT_S, Free, Place, Seen, Taken, fair_share, judge, to_give_back
from schemas.leases import Lease

ME = Place("host-a", 100)


def seen(host: str = "host-b", pid: int = 7, at_s: float = 50.0) -> Seen:
    return Seen(Lease(instance=f"{host}-{pid}", since=datetime(2026, 2, 7, tzinfo=UTC), host=host, pid=pid), 12, at_s)


def alive(_: int) -> bool:
    return True


def gone(_: int) -> bool:
    return False


def test_a_partition_without_a_claim_is_free() -> None:
    assert judge(None, 50, ME, alive) == Free(0, "nobody has it")


def test_a_claim_stands_until_it_was_silent_for_two_seconds_of_the_listeners_clock() -> None:
    assert judge(seen(), 50 + SILENT_S - 0.01, ME, alive) == Taken("host-b-7")
    answer = judge(seen(), 50 + SILENT_S, ME, alive)
    assert answer == Free(12, "host-b-7 has been silent for 2.0 s")


def test_a_claim_of_a_process_that_is_gone_from_this_place_is_free_at_once() -> None:
    assert judge(seen("host-a"), 50, ME, gone) == Free(12, "the process of host-a-7 is gone")
    assert isinstance(judge(seen("host-a"), 50, ME, alive), Taken)


def test_process_ids_of_another_place_mean_nothing() -> None:
    assert isinstance(judge(seen("host-b"), 50, ME, gone), Taken)


def test_an_earlier_claim_of_this_very_process_has_to_be_waited_for() -> None:
    assert isinstance(judge(seen("host-a", 100), 50, ME, gone), Taken)


@given(st.integers(1, 64), st.integers(1, 20))
def test_fair_shares_hold_all_partitions_and_differ_by_one_at_most_from_even(partitions: int, instances: int) -> None:
    share = fair_share(partitions, instances)
    assert (share - 1) * instances < partitions <= share * instances


@given(st.dictionaries(st.integers(0, 31), st.booleans()), st.integers(0, 32))
def test_only_what_is_too_much_goes_back_and_only_what_may_be_moved(held: dict[int, bool], share: int) -> None:
    back = to_give_back(held, share)
    assert all(held[partition] for partition in back)
    assert len(back) == min(max(0, len(held) - share), sum(held.values()))
