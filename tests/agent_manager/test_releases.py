"""Versions, trials and promotions, decided without a world."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_manager.healing.verdict import Fit, Mending, Sick
from agent_manager.lifecycle.reconcile import Absent, Alive, Ended, Seen
from agent_manager.registry.releases import MOST, added, bounded, changed, differences, previous_good, release
from agent_manager.registry.trial import Pass, TakeBack, Wait, judged
from schemas.state import AgentRecord
from schemas.versions import Canary, Releases

NOW = datetime(2026, 11, 1, tzinfo=UTC)
PATIENCE = timedelta(seconds=15)


def record(version: str, **more: Any) -> AgentRecord:
    values: dict[str, Any] = {"agent_id": "one", "tenant_id": "acme", "name": "one", "command": ("python",)}
    return AgentRecord(version=version, working_directory="/x", updated_at=NOW, updated_by="x", **(values | more))


def history(*versions: str) -> Releases:
    found: Releases | None = None
    for version in versions:
        found = added(found, record(version), now=NOW, by="x", current=True)
    assert found is not None
    return found


def test_the_last_good_version_before_the_current_one_is_the_one_to_go_back_to() -> None:
    found = history("1", "2", "3", "4")
    assert previous_good(None) is None
    assert previous_good(found) is None
    found = changed(changed(found, "1", good_at=NOW), "2", good_at=NOW)
    good = previous_good(found)
    assert good is not None
    assert good.version == "2"
    back = previous_good(found.model_copy(update={"current": "2"}))
    assert back is not None
    assert back.version == "1"


def test_a_version_registered_with_another_content_must_prove_itself_again() -> None:
    found = changed(history("1", "2"), "1", good_at=NOW, stage="prod")
    same = added(found, record("1"), now=NOW, by="x", current=False)
    assert same == found
    said = release(added(found, record("1", owner="y"), now=NOW, by="x", current=False), "1")
    assert said is not None
    assert (said.record.owner, said.good_at, said.stage) == ("y", NOW, "prod")
    other = added(found, record("1", environment={"LEVEL": "2"}), now=NOW, by="x", current=False)
    kept = release(other, "1")
    assert kept is not None
    assert (kept.good_at, kept.stage, other.current) == (None, "dev", "2")
    assert [one.version for one in other.releases] == ["1", "2"]


@given(st.lists(st.integers(min_value=0, max_value=200), min_size=1, max_size=120))
def test_the_current_version_is_always_at_hand_and_the_rest_is_bounded(numbers: list[int]) -> None:
    found = bounded(history(*map(str, numbers)))
    assert len(found.releases) <= MOST
    current = release(found, found.current)
    assert current is not None
    assert found.current == str(numbers[-1])


def test_a_difference_names_field_and_both_values() -> None:
    found = differences(record("1", tags=("a",)), record("2", tags=("b",)))
    assert [(one.field, one.before, one.after) for one in found] == [("version", "1", "2"), ("tags", ["a"], ["b"])]


def alive(verdict: Any, *, was_fit: bool = True, since: datetime = NOW) -> Alive:
    return Alive(since, confirmed=True, was_fit=was_fit, verdict=verdict)


SICK = Sick("errors", NOW)


@pytest.mark.parametrize(
    ("seen", "running", "rate", "after_s", "becomes"),
    [
        (alive(Fit(NOW)), "2", 0.0, 10, Wait),
        (alive(Fit(NOW)), "2", 0.0, 61, Pass),
        (alive(Fit(NOW)), "2", 0.5, 10, TakeBack),
        (alive(Fit(NOW)), "1", 0.5, 10, Wait),
        (alive(SICK), "2", None, 1, TakeBack),
        (alive(SICK, was_fit=False), "2", None, 1, Wait),
        (alive(SICK, was_fit=False), "2", None, 16, TakeBack),
        (alive(Mending(), was_fit=False), "2", None, 61, TakeBack),
        (Ended("exit 1", NOW), "2", None, 1, TakeBack),
        (Absent(), None, None, 1, Wait),
        (Absent(), None, None, 61, TakeBack),
    ],
)
def test_what_becomes_of_a_trial(seen: Seen, running: str | None, rate: float | None, after_s: float, becomes: type) -> None:
    canary = Canary(version="2", previous="1", began_at=NOW, until=NOW + timedelta(minutes=1), max_error_rate=0.05, by="x")
    now = NOW + timedelta(seconds=after_s)
    assert isinstance(judged(canary, seen, running=running, error_rate=rate, patience=PATIENCE, now=now), becomes)
