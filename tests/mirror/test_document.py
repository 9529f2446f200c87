"""What a document says, and what others ask by changing it."""

from typing import Any

import pytest

from agent_manager.mirror.document import OWN, wishes


def told(
    faults: Any = (), desired: str | None = "running", *, before: tuple[str, ...] = (), state: str = "running"
) -> dict[str, Any]:
    return {
        "active_faults": faults if isinstance(faults, str) or faults is None else list(faults), "config": {"desired_state": desired},
        OWN: {"active_faults": list(before), "desired_state": state},
    }  # fmt: skip


def test_what_we_wrote_ourselves_asks_for_nothing_and_neither_does_what_we_never_wrote() -> None:
    assert wishes(told()).wishes == ()
    assert wishes(told(["LATENCY"], before=("LATENCY",))).wishes == ()
    assert wishes({"active_faults": ["LATENCY"], "status": "HEALTHY"}).wishes == ()


@pytest.mark.parametrize("given", ["LATENCY", "latency", "LATENCY_INJECTION"])
def test_a_fault_that_is_added_is_injected_and_one_that_is_taken_away_cleared(given: str) -> None:
    (wish,) = wishes(told([given])).wishes
    assert (wish.command, wish.params["kind"], wish.params["latency_ms"]) == ("inject_fault", "latency", 2500)
    (wish,) = wishes(told([], before=("LATENCY",))).wishes
    assert (wish.command, wish.params) == ("clear_faults", {"kind": "latency"})
    both = wishes(told(["ERROR"], before=("LATENCY",))).wishes
    assert [(one.command, one.params["kind"]) for one in both] == [("clear_faults", "latency"), ("inject_fault", "error")]
    assert wishes(told([given, "ERROR"], before=(given,))).wishes[0].params["kind"] == "error"


def test_a_fault_may_say_more_than_its_name() -> None:
    (wish,) = wishes(told([{"kind": "LATENCY", "latency_ms": 40, "duration_s": 5}])).wishes
    assert (wish.params["latency_ms"], wish.params["duration_s"]) == (40, 5)


def test_a_desired_state_is_a_command() -> None:
    assert [one.command for one in wishes(told(desired="stopped")).wishes] == ["stop"]
    assert [one.command for one in wishes(told(desired="running", state="stopped")).wishes] == ["start"]


@pytest.mark.parametrize(
    ("given", "where"),
    [
        (told(["NOISE"]), "active_faults[0]"), (told("LATENCY"), "active_faults"), (told(None), "active_faults"), (told([7]), "active_faults[0]"),
        (told([{"kind": "LATENCY", "duration_s": -1}]), "active_faults[0].duration_s"), (told(desired="asleep"), "config.desired_state"),
        (told(["ERROR", {"kind": "LATENCY", "loud": True}]), "active_faults[1].loud"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_named_and_nothing_of_it_is_done(given: dict[str, Any], where: str) -> None:
    found = wishes(given)
    assert [error.loc for error in found.errors] == [where]
    assert found.wishes == ()
