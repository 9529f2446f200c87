"""Whether an agent gets on with its work, as its sidecar sees it."""

from typing import Any
from uuid import uuid4

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar import progress
from sidecar.frames import Record
from sidecar.progress import Patience, Progress


def told(event_type: str, run: str = "r", **more: Any) -> Record:
    event = {"event_id": str(uuid4()), "event_type": event_type, "run": {"agent_id": "a", "run_id": run}, **more}
    return Record(KIND[event_type], "x", orjson.dumps(event))


KIND = {
    "run.started": "run", "run.completed": "run", "run.failed": "run", "step.completed": "step", "tool_call.completed": "tool_call",
    "tool_call.failed": "tool_call", "model_call.completed": "model_call",
}  # fmt: skip


def tool(name: str = "search", **more: Any) -> Record:
    return told("tool_call.completed", tool_call={"tool_call_id": str(uuid4()), "name": name}, **more)


def call(sent: int = 100) -> Record:
    return told(
        "model_call.completed",
        model_call={"model_call_id": str(uuid4()), "model": "m"},
        resource_usage={"input_tokens": sent, "output_tokens": 9},
    )


def test_a_run_that_does_not_move_is_stuck_and_one_more_step_is_progress() -> None:
    agent = Progress(Patience(after_s=60))
    agent.note([told("run.started")], 0.0)
    assert agent.stuck(60.0, busy=True) is None
    found = agent.stuck(61.0, busy=True)
    assert found is not None
    assert (found.reason, found.for_s) == ("stuck: no step for 61 s while a run is open", 61.0)
    assert agent.stuck(61.0, busy=False) is None, "nobody waits for it"
    agent.note([tool()], 62.0)
    assert agent.stuck(70.0, busy=True) is None


def test_an_agent_without_work_may_rest() -> None:
    agent = Progress(Patience(after_s=60))
    assert agent.stuck(1e6, busy=True) is None
    agent.note([told("run.started"), tool(), told("run.completed")], 0.0)
    assert (agent.open_runs, agent.stuck(1e6, busy=True)) == (0, None)
    agent.note([tool("late")], 1.0)
    assert agent.open_runs == 0, "a step does not begin a run"


@pytest.mark.parametrize("circle", [["search"], ["search", "read"], ["a", "b", "c", "d"]], ids=len)
def test_the_same_steps_in_turn_are_no_progress(circle: list[str]) -> None:
    agent = Progress(Patience(after_s=0, repeats=20))
    agent.note([told("run.started"), tool("plan")], 0.0)
    for turn in range(20):
        agent.note([tool(name) for name in circle], float(turn))
        assert agent.stuck(float(turn), busy=True) is None
    agent.note([tool(name) for name in circle * 2], 21.0)
    found = agent.stuck(30.0, busy=True)
    assert found is not None
    assert "repeated" in found.reason
    agent.note([tool("another")], 31.0)
    assert agent.stuck(31.0, busy=True) is None


def test_a_context_that_grows_is_progress_and_a_failure_again_and_again_is_none() -> None:
    agent = Progress(Patience(repeats=5))
    agent.note([told("run.started")], 0.0)
    for turn in range(50):
        agent.note([call(100 + turn), tool()], float(turn))
    assert agent.stuck(50.0, busy=True) is None
    failed: dict[str, Any] = {
        "error": {"type": "timeout", "message": "no answer"},
        "tool_call": {"tool_call_id": "t", "name": "search"},
    }
    agent.note([told("tool_call.failed", **failed) for _ in range(8)], 51.0)
    assert agent.stuck(51.0, busy=True) is not None


def test_one_run_in_circles_is_found_beside_others_that_get_on_and_ends_with_it() -> None:
    agent = Progress(Patience(repeats=5))
    agent.note([told("run.started", "bad"), told("run.started", "good")], 0.0)
    for turn in range(10):
        agent.note([told("step.completed", "bad", step={"step_id": "s", "step_type": "plan"})], float(turn))
        agent.note([told("step.completed", "good", step={"step_id": "s", "step_type": "plan", "name": f"{turn}"})], float(turn))
    found = agent.stuck(10.0, busy=True)
    assert found is not None
    assert "'plan'" in found.reason
    agent.note([told("run.failed", "bad")], 11.0)
    assert agent.stuck(11.0, busy=True) is None


def test_0_is_never_held_against_it() -> None:
    agent = Progress(Patience(after_s=0, repeats=0))
    agent.note([told("run.started"), *(tool() for _ in range(1000))], 0.0)
    assert agent.stuck(1e9, busy=True) is None


@given(st.lists(st.sampled_from(["run.started", "run.completed", "tool", "call"]), max_size=60), st.integers(1, 5))
def test_whatever_it_is_told_it_remembers_open_runs_alone_and_only_so_many(kinds: list[str], runs: int) -> None:
    agent = Progress(Patience())
    open_runs: set[str] = set()
    for number, kind in enumerate(kinds):
        run = f"r{number % runs}"
        if kind in {"run.started", "run.completed"}:
            agent.note([told(kind, run)], float(number))
            open_runs = open_runs | {run} if kind == "run.started" else open_runs - {run}
        else:
            agent.note([tool() if kind == "tool" else call()], float(number))
    assert agent.open_runs == len(open_runs)
    agent.note([told("run.started", f"more-{number}") for number in range(progress._MOST_RUNS + 9)], 99.0)
    assert agent.open_runs == progress._MOST_RUNS
