"""Every series of every rule: bounded, and open to agents that come later."""

from processors.alerts.board import Board
from processors.alerts.readings import Reading
from processors.alerts.rules import Rule
from processors.alerts.series import Measurement
from tests.processors_health.telling import at

UNHEALTHY = Rule.model_validate(
    {"name": "down", "metric": "agent_unhealthy", "comparison": "==", "threshold": 1, "severity": "critical"}
)


def reading(agent: str, value: float, occurred: float = 0) -> Reading:
    return Reading("agent_unhealthy", "acme", Measurement(value, at(0), f"{agent}-{value}", at(occurred)), agent)


def test_agents_that_are_gone_make_room_for_new_ones_and_trouble_is_never_forgotten() -> None:
    board = Board([UNHEALTHY], most=3)
    assert [change.state for change in board.take([reading("ill", 1)])] == ["firing"]
    board.take([reading(agent, value) for agent in ("a1", "a2") for value in (1, 0)])
    assert len(board.series) == 3
    board.unsaved.clear()
    assert [change.state for change in board.take([reading("a3", 1)])] == ["firing"]
    assert set(board.series) == {"down.acme.ill", "down.acme.a3"}
    assert [change.state for change in board.take([reading("ill", 0)])] == ["resolved"]
    assert board.left_aside == 0


def test_what_is_not_written_yet_is_not_forgotten() -> None:
    board = Board([UNHEALTHY], most=1)
    board.take([reading("a1", 1), reading("a1", 0)])
    board.take([reading("a2", 1)])
    assert set(board.series) == {"down.acme.a1"}
    assert board.left_aside == 1


def test_a_healthy_agent_has_no_series_and_a_late_measurement_of_it_raises_nothing() -> None:
    board = Board([UNHEALTHY])
    board.take([reading("a1", 0, occurred=10)])
    assert board.series == {}
    assert board.take([reading("a1", 1, occurred=9)]) == []
    assert [change.state for change in board.take([reading("a1", 1, occurred=11)])] == ["firing"]
    assert board.take([reading("a1", 0, occurred=10)]) == []
    assert [change.state for change in board.take([reading("a1", 0, occurred=12)])] == ["resolved"]
