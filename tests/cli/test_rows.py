import os
from datetime import timedelta
from pathlib import Path

from agent_manager.cli import readable
from agent_manager.cli.connection import Place
from agent_manager.cli.doctor import findings, looking
from agent_manager.cli.fleet.outcomes import sentence
from agent_manager.cli.fleet.rows import Fleet, Found, Several, Unknown, agent_rows, find
from agent_manager.cli.fleet.tables import AGENT_COLUMNS, agent_cells
from agent_manager.cli.running import Endpoints
from schemas.commands import CommandError, CommandResponse
from streams.settings import NatsSettings
from tests.cli.fleet_values import latency_fault, now, observation, record, state


def test_an_agent_known_to_the_sidecar_alone_is_shown_too() -> None:
    rows = agent_rows(Fleet({}, {}, {"demo.far": observation("far")}, {}), now())
    assert [(row.agent_id, row.health, row.pid, row.sidecar_pid, row.desired) for row in rows] == [
        ("far", "HEALTHY", 4002, None, None)
    ]


def test_the_unhealthy_come_first_and_the_sidecars_version_wins() -> None:
    fleet = Fleet(
        {"demo.a": record("a"), "demo.b": record("b")},
        {"demo.a": state("a"), "demo.b": state("b")},
        {"demo.a": observation("a"), "demo.b": observation("b", health="UNHEALTHY", reason="3 heartbeats missed")},
        {"demo.a": latency_fault("a"), "demo.b": latency_fault("b", minutes=-1)},
    )
    rows = agent_rows(fleet, now())
    assert [(row.agent_id, row.version, row.faults) for row in rows] == [("b", "1.0.1", ()), ("a", "1.0.1", ("latency",))]
    assert all(len(cells) == len(AGENT_COLUMNS) for cells in agent_cells(rows, now()))


def test_an_agent_id_means_one_agent_or_says_what_is_missing() -> None:
    keys = ["acme.a", "demo.a", "demo.b"]
    assert find(keys, "b", None) == Found("demo.b")
    assert find(keys, "a", None) == Several(("acme", "demo"))
    assert find(keys, "a", "acme") == Found("acme.a")
    assert find(keys, "c", None) == Unknown(("a", "a", "b"))


def test_outcomes_are_sentences() -> None:
    done = CommandResponse(status="success", command="restart", agent_id="a", command_id="1", result={"pid": 7}, timestamp=now())
    late = CommandResponse(
        status="error",
        command="stop",
        agent_id="a",
        command_id="1",
        error=CommandError(code="timeout", message="no answer"),
        timestamp=now(),
    )
    assert sentence(done) == "a: restarted (pid 7)"
    assert "agentops doctor" in sentence(late)
    until = (now() + timedelta(minutes=5)).isoformat()
    fault = CommandResponse(
        status="success", command="inject_fault", agent_id="a", command_id="1", result={"fault": {"kind": "latency", "until": until}},
        timestamp=now(),
    )  # fmt: skip
    assert sentence(fault) == f"a: latency fault injected, ends by itself in 5 min (at {readable.short_clock(until, now())})"


def test_the_doctor_names_what_to_do() -> None:
    unwell = agent_rows(
        Fleet(
            {}, {"demo.a": state("a", healing_enabled=False)}, {"demo.a": observation("a", health="UNHEALTHY", reason="hung")}, {}
        ),
        now(),
    )[0]
    found = findings.agent(unwell, now())
    assert (found.level, "agents recover a" in found.advice) == ("problem", True)
    assert findings.lag("cost", "x", 5, 2.0, "").level == "ok"
    assert findings.lag("cost", "x", 5, 31.0, "").level == "problem"
    assert findings.lag("cost", "x", 0, None, "").level == "ok"
    assert findings.lag("cost", "x", 2000, 1.0, "").level == "warning"
    assert findings.server("nats://x", "2.10.4", True, 1).level == "problem"
    assert findings.server("nats://x", "2.12.0-beta.1", True, 1).level == "ok"
    assert findings.clock(-70).level == "problem"
    assert findings.door("manager", True, None, "x.log").advice == "Read x.log"
    assert (
        findings.agent(
            agent_rows(Fleet({}, {"demo.a": state("a", status="stopped", desired="stopped")}, {}, {}), now() + timedelta(1))[0],
            now(),
        ).level
        == "ok"
    )


async def test_the_doctor_tells_a_silent_warehouse_by_its_process() -> None:
    """Nobody listens at the discard port: a process that is there, and does not answer."""
    name = "processors-aggregate"
    endpoints = Endpoints(
        "nats://x", "data", os.getpid(), health={name: "http://127.0.0.1:9"}, processes={name: os.getpid()}
    )  # fmt: skip
    told = await looking.aggregate(Place(NatsSettings(), "up.json", endpoints, Path("data")))
    assert told.startswith("processors-aggregate: does not answer on its health door.")
    assert "python -m" not in told
