"""A sidecar beside a real agent: it starts, watches, reports and stops it."""

import asyncio
import json
import os
import socket
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import orjson
import psutil
import pytest
from aiohttp import web
from nats.aio.client import Client

from schemas.events import Event
from schemas.reading import read_event
from sidecar.cli import read
from sidecar.listener import CannotStartError, Listener
from streams import subjects
from streams.embedded import EmbeddedServer
from tests.conftest import until
from tests.sidecar.running import HTTP_PROBE, Sidecar, Telemetry


def gone(process: psutil.Process) -> bool:
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


async def test_an_agent_is_started_watched_and_reported(sidecar: Sidecar, telemetry: Telemetry) -> None:
    await sidecar.start("--probe", HTTP_PROBE, "--probe", "process", "--name", "Agent One", "--version", "1.2.3")
    started = await telemetry.find("agent.started")
    assert started["agent"]["pid"] == sidecar.run["agent_pid"]
    assert started["agent"]["proxy_url"] == sidecar.proxy
    await telemetry.find("agent.heartbeat", health__status="HEALTHY", agent__status="running")
    for _ in range(4):
        assert (await sidecar.get())[0] == 200
    beat = await telemetry.find("agent.heartbeat", metrics__requests=4)
    assert (beat["agent"]["name"], beat["agent"]["version"]) == ("Agent One", "1.2.3")
    assert [check["name"] for check in beat["health"]["checks"]] == ["http /health", "process"]
    assert beat["health"]["interval_s"] == 0.5
    metrics = beat["metrics"]
    assert metrics["memory_rss_bytes"] > 1_000_000
    assert metrics["process_count"] == 1
    assert metrics["error_rate"] == 0
    assert 0 < metrics["latency_ms"] < 1000
    assert {"cpu_percent", "threads", "system_cpu_percent", "system_memory_percent", "spool_bytes"} <= metrics.keys()
    for event, subject in zip(telemetry.events, telemetry.subjects, strict=True):
        read = read_event(orjson.dumps(event))
        assert isinstance(read, Event), read
        assert subject in {f"telemetry.acme.a1.{read.kind}", "telemetry.acme.a1.batch"}


async def test_the_agent_is_told_what_it_needs_and_no_secret(sidecar: Sidecar) -> None:
    await sidecar.start("--name", "One", "--agent-type", "chat", "--version", "2", "--workspace", "w", "--project", "p")
    await until(sidecar.answers, "the agent answers")
    _, told = await sidecar.get("/environment")
    expected = {
        "AGENT_ID": "a1", "AGENT_NAME": "One", "AGENT_TYPE": "chat", "AGENT_VERSION": "2", "AGENTOPS_TENANT": "acme",
        "AGENTOPS_WORKSPACE": "w", "AGENTOPS_PROJECT": "p", "AGENTOPS_SIDECAR_URL": sidecar.door,
        "PORT": str(sidecar.run["agent_port"]),
    }  # fmt: skip
    assert expected.items() <= told.items()
    assert told["NATS_URL"].startswith("nats://")
    assert "NATS_PASSWORD" not in told
    assert "the agent begins\nand complains\n" in (sidecar.data / "agents/a1/agent.log").read_text()


async def test_asked_to_stop_it_stops_the_agent_and_says_so(sidecar: Sidecar, telemetry: Telemetry) -> None:
    await sidecar.start("--probe", HTTP_PROBE)
    await until(sidecar.answers, "the agent answers")
    agent = sidecar.agent
    assert await sidecar.stop() == 0
    assert gone(agent)
    stopped = await telemetry.find("agent.stopped")
    assert (stopped["agent"]["reason"], stopped["agent"]["status"]) == ("stopped by command", "stopped")
    assert telemetry.events[-1] == stopped
    assert not (sidecar.data / "agents/a1/sidecar.json").exists()


async def test_asked_to_stop_after_a_crash_it_says_that_the_silence_is_meant(sidecar: Sidecar, telemetry: Telemetry) -> None:
    await sidecar.start()
    await until(sidecar.answers, "the agent answers")
    sidecar.agent.kill()
    await telemetry.find("agent.stopped", agent__status="error", agent__signal="SIGKILL")
    assert await sidecar.stop() == 0
    stopped = await telemetry.find("agent.stopped", agent__status="stopped")
    assert stopped["agent"]["reason"] == "stopped by command"
    assert telemetry.events[-1] == stopped


async def test_an_agent_that_ignores_term_is_killed_with_all_it_started(sidecar: Sidecar, telemetry: Telemetry) -> None:
    code = (
        "import signal, subprocess, sys, time; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
        "subprocess.Popen([sys.executable, '-c', 'import signal, time; signal.signal(15, signal.SIG_IGN); print(1, flush=True); time.sleep(600)']);"
        "time.sleep(600)"
    )
    await sidecar.start("--stop-timeout", "0.3", command=[sys.executable, "-c", code])
    agent = sidecar.agent
    log = sidecar.data / "agents/a1/agent.log"
    await until(lambda: log.exists() and log.read_text() == "1\n", "its child runs")
    child = agent.children()[0]
    assert await sidecar.stop() == 0
    assert gone(agent)
    assert gone(child)
    stopped = await telemetry.find("agent.stopped")
    assert (stopped["agent"]["signal"], stopped["agent"]["reason"]) == ("SIGKILL", "stopped by command")


@pytest.mark.parametrize(("how", "code", "name"), [("kill", None, "SIGKILL"), ("exit", 3, None)])
async def test_an_agent_that_dies_is_reported_at_once(
    sidecar: Sidecar, telemetry: Telemetry, how: str, code: int | None, name: str | None
) -> None:
    """The heartbeat does not wait for its turn, nor the proxy for a timeout; the manager decides what follows."""
    await sidecar.start("--heartbeat", "60")
    await until(sidecar.answers, "the agent answers")
    if how == "kill":
        sidecar.agent.kill()
    else:
        assert (await sidecar.get(f"/exit/{code}"))[0] in {502, 503}
    stopped = await telemetry.find("agent.stopped", within_s=2)
    assert (stopped["agent"].get("exit_code"), stopped["agent"].get("signal")) == (code, name)
    beat = await telemetry.find("agent.heartbeat", within_s=2, agent__status="error")
    assert beat["health"]["status"] == "UNHEALTHY"
    assert "agent process ended" in beat["health"]["reason"]
    status, body = await sidecar.get()
    assert (status, body["error"]["type"]) == (503, "agent_unreachable")


async def test_a_command_that_cannot_start_is_an_agent_that_ended(sidecar: Sidecar, telemetry: Telemetry) -> None:
    await sidecar.start(command=["/no/such/program"])
    stopped = await telemetry.find("agent.stopped")
    assert stopped["agent"]["exit_code"] == 127
    assert "cannot start" in stopped["agent"]["reason"]


async def test_a_hung_agent_is_found_by_its_probes(sidecar: Sidecar, telemetry: Telemetry) -> None:
    await sidecar.start("--probe", HTTP_PROBE, "--probe", "process:interval=0.1,failures=1", "--heartbeat", "60")
    await telemetry.find("agent.heartbeat", health__status="HEALTHY")
    sidecar.agent.suspend()

    async def found() -> bool:
        bad = [event for event in await telemetry.read() if event.get("health", {}).get("status") == "UNHEALTHY"]
        reasons = [{check["name"]: check.get("error") for check in event["health"]["checks"]} for event in bad]
        return any("no answer" in (said["http /health"] or "") and said["process"] == "stopped" for said in reasons)

    await until(found, "both probes missed")
    sidecar.agent.resume()
    bad = len(telemetry.events)

    async def good() -> bool:
        return any(event.get("health", {}).get("status") == "HEALTHY" for event in (await telemetry.read())[bad:])

    await until(good, "healthy again")


async def test_an_agent_dies_with_its_sidecar(sidecar: Sidecar) -> None:
    """A sidecar that was killed must not leave an agent serving unobserved."""
    await sidecar.start()
    agent = sidecar.agent
    await sidecar.kill()
    await until(lambda: gone(agent), "the agent is gone")


async def test_an_agent_known_by_its_address_alone_is_watched_too(
    server: EmbeddedServer, sidecar: Sidecar, telemetry: Telemetry, tmp_path: Path
) -> None:
    await sidecar.start()
    await until(sidecar.answers, "the agent answers")
    other = Sidecar(tmp_path, server.settings("sidecar"), sidecar.http, "b2")
    await other.start("--url", f"http://127.0.0.1:{sidecar.run['agent_port']}", "--probe", "tcp:interval=0.1,failures=2")
    assert (await other.get())[1] == {"pid": sidecar.run["agent_pid"]}
    await telemetry.find("agent.heartbeat", run__agent_id="b2", health__status="HEALTHY")
    sidecar.agent.kill()
    await telemetry.find("agent.heartbeat", run__agent_id="b2", health__status="UNHEALTHY", agent__status="running")
    assert await other.stop() == 0


async def test_the_documented_agent_topics_are_served(sidecar: Sidecar, client: Client) -> None:
    told = {"status": await client.subscribe(subjects.AGENT_STATUS), "metrics": await client.subscribe(subjects.AGENT_METRICS)}
    await client.flush()
    await sidecar.start("--probe", HTTP_PROBE)
    metrics = json.loads((await told["metrics"].next_msg(5)).data)
    assert metrics.keys() == {"agent_id", "metrics", "timestamp"}
    statuses = []
    while "running" not in statuses:
        status = json.loads((await told["status"].next_msg(5)).data)
        assert status.keys() == {"agent_id", "status", "metadata"}
        statuses.append(status["status"])
    answer = json.loads((await client.request(subjects.agent_query("a1"), b"", timeout=2)).data)
    assert answer["result"]["pid"] == sidecar.run["agent_pid"]
    asked = orjson.dumps({"command": "status", "agent_id": "a1", "command_id": "c1", "params": {}})
    answer = json.loads((await client.request(subjects.agent_command("a1"), asked, timeout=2)).data)
    assert (answer["status"], answer["command_id"], answer["result"]["health"]) == ("success", "c1", "HEALTHY")
    refused = json.loads((await client.request(subjects.agent_command("a1"), b'{"command": "dance"}', timeout=2)).data)
    assert (refused["status"], refused["error"]["code"]) == ("error", "unknown_command")
    for odd in (b'{"command": "' + b"x" * 20_000 + b'"}', b'{"command": "\\ud800", "command_id": "\\ud800"}', b"[" * 5000, b"[]"):
        refused = json.loads((await client.request(subjects.agent_command("a1"), odd, timeout=2)).data)
        assert refused["status"] == "error"


async def test_the_health_door_tells_what_it_waits_for(sidecar: Sidecar) -> None:
    await sidecar.start()

    async def ready() -> bool:
        async with sidecar.http.get(f"{sidecar.door}/readyz") as response:
            return response.status == 200

    await until(ready, "ready")
    async with sidecar.http.get(f"{sidecar.door}/metrics") as response:
        assert "agentops_spool_bytes" in await response.text()
    sidecar.agent.kill()

    async def not_ready() -> bool:
        async with sidecar.http.get(f"{sidecar.door}/readyz") as response:
            return "agent" in (await response.json())["waiting_for"]

    await until(not_ready, "the agent's end is told")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--agent-id", "a", "--tenant", "t"], "--command or its --url"),
        (["--agent-id", "manager", "--tenant", "t", "--", "x"], "reserved"),
        (["--agent-id", "a b", "--tenant", "t", "--", "x"], "--agent-id"),
        (["--agent-id", "a", "--tenant", "t", "--probe", "dns", "--", "x"], "--probe"),
        (["--agent-id", "a", "--", "x"], "tenant"),
    ],
)
def test_wrong_use_ends_with_2_and_the_reason(options: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        read(options)
    assert ended.value.code == 2
    assert said in capsys.readouterr().err.splitlines()[-1]


@pytest.mark.parametrize(
    "options",
    [["--command", "run", "--fast"], ["--command", "--", "run", "--fast"], ["--command", "run --fast"], ["--", "run", "--fast"]],
)
def test_the_command_is_everything_after_its_mark(options: list[str]) -> None:
    assert read(["--agent-id", "a", "--tenant", "t", *options]).command == ("run", "--fast")


async def test_a_taken_port_is_told_clearly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sidecar.listener.PATIENCE_S", 0.2)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(CannotStartError, match=f"cannot listen on 127.0.0.1:{port} for the door .* choose another port"):
            await Listener(web.Application(), "127.0.0.1", port, "door").start()


async def test_a_sidecar_that_cannot_write_stops_its_agent_and_says_why(sidecar: Sidecar, tmp_path: Path) -> None:
    """The agent had begun already: nobody would watch it."""
    born = tmp_path / "born"
    in_the_way = sidecar.data / "agents" / "a1" / "sidecar.new"
    in_the_way.mkdir(parents=True)
    script = f"import os, pathlib, time; pathlib.Path({str(born)!r}).write_text(str(os.getpid())); time.sleep(600)"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "sidecar", *sidecar.option_list([]), "--", sys.executable, "-c", script,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT, env={**os.environ, "NATS_URL": "nats://127.0.0.1:1"},
    )  # fmt: skip
    said, _ = await process.communicate()
    assert process.returncode not in {0, None}
    assert b"its agent was stopped" in said
    assert b"Traceback" not in said
    assert not born.exists() or not psutil.pid_exists(int(born.read_text() or -1))


async def test_a_second_sidecar_of_the_same_agent_does_not_start(sidecar: Sidecar, tmp_path: Path) -> None:
    await sidecar.start(command=["sleep", "600"])
    options = ["--agent-id", "a1", "--tenant", "acme", "--data", str(tmp_path / "data"), "--", "sleep", "600"]
    second = await asyncio.create_subprocess_exec(sys.executable, "-m", "sidecar", *options, stderr=asyncio.subprocess.PIPE)
    _, error = await second.communicate()
    assert second.returncode == 1
    assert b"another sidecar uses" in error


async def test_an_agent_that_has_work_and_gets_nowhere_is_stuck_until_it_gets_on(sidecar: Sidecar, telemetry: Telemetry) -> None:
    def told(event_type: str, **more: Any) -> dict[str, Any]:
        return {
            "event_version": "v1", "event_id": str(uuid4()), "event_type": event_type, "occurred_at": datetime.now(UTC).isoformat(),
            "tenant": {"tenant_id": "acme"}, "run": {"agent_id": "a1", "run_id": "r"}, **more,
        }  # fmt: skip

    await sidecar.start("--stuck-after", "0.4", "--stuck-repeats", "3")
    await telemetry.find("agent.heartbeat", health__status="HEALTHY", agent__status="running")
    await sidecar.post(told("run.started"))
    still = await telemetry.find("agent.heartbeat", health__status="STUCK")
    assert "no step for" in still["health"]["reason"]
    assert [one["value"] > 0.4 for one in still["metrics"]["samples"] if one["name"] == "no_progress_for"] == [True]
    step = {"step_id": "s", "step_type": "plan"}
    await sidecar.post(*(told("step.completed", step=step) for _ in range(9)))
    await telemetry.find("agent.heartbeat", health__reason="stuck: step 'plan' repeated 9 times without progress")
    await sidecar.post(told("run.completed"))
    number = len(await telemetry.read())

    async def well() -> bool:
        return any(one.get("health", {}).get("status") == "HEALTHY" for one in (await telemetry.read())[number:])

    await until(well, "it is HEALTHY again")
