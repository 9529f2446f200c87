"""With the real sidecar, and validate and health as processes beside: what kill -9 leads to."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from agent_manager.drivers.command_line import sidecar
from schemas.events import AcceptedEvent, Event
from schemas.state import Observation
from streams import topology
from streams.kv import TypedBucket
from tests.agent_manager.world import TENANT, World, write_manifest
from tests.conftest import until

AGENT = """
import http.server, os, socketserver
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        body = os.environ["AGENT_ID"].encode()
        self.send_response(200); self.send_header("Content-Length", str(len(body))); self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_): pass
socketserver.TCPServer.allow_reuse_address = True
socketserver.TCPServer(("127.0.0.1", int(os.environ["PORT"])), Handler).serve_forever()
"""


@pytest.fixture
async def processors(world: World) -> AsyncIterator[None]:
    """Validate and health at work."""
    nats = world.server.settings()
    assert nats.password is not None
    environment = {
        **os.environ, "NATS_URL": nats.url, "NATS_USER": nats.user or "", "NATS_PASSWORD": nats.password.get_secret_value(),
        "AGENTOPS_DATA": str(world.data),
    }  # fmt: skip
    world.data.mkdir(exist_ok=True)
    with (world.data / "processors.log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "processors", "validate", "health", env=environment, stdout=log, stderr=log
        )
    yield
    process.terminate()
    await process.wait()


async def observation(world: World) -> Observation | None:
    bucket = await TypedBucket.open(world.client, topology.OBSERVATIONS, Observation)
    entry = await bucket.get(f"{TENANT}.one")
    return entry.value if entry else None


async def told_of(world: World) -> list[Event]:
    """Every event about agents' lives so far."""
    last = (await world.client.jsm().stream_info(topology.EVENTS)).state.last_seq
    found = []
    for sequence in range(1, last + 1):
        message = await world.client.jsm().get_msg(topology.EVENTS, sequence)
        if (message.subject or "").endswith(".agent"):
            found += [AcceptedEvent.model_validate_json(line) for line in (message.data or b"").split(b"\n")]
    return list(found)


async def healthy(world: World, not_pid: int | None = None) -> Observation:
    """The agent is HEALTHY, as another process than before."""

    async def said() -> bool:
        seen = await observation(world)
        return seen is not None and (seen.health, seen.status) == ("HEALTHY", "running") and seen.pid not in {None, not_pid}

    await until(said, "it is HEALTHY", 30)
    seen = await observation(world)
    assert seen is not None
    return seen


async def recovered(world: World, restarts: int) -> None:
    async def over() -> bool:
        state = await world.state("one")
        assert state is not None
        incident = state.incident
        return state.restarts == restarts and incident is not None and incident.recovered_at is not None

    await until(over, f"incident {restarts} is over", 20)


async def test_killed_agents_and_killed_sidecars_are_back_in_no_time_and_nothing_is_left_in_the_end(
    world: World, processors: None, tmp_path: Path
) -> None:
    script = tmp_path / "agent.py"
    script.write_text(AGENT)
    write_manifest(
        world.agents,
        "one",
        command=["python", str(script)],
        probes=[{"kind": "http", "path": "/", "interval_s": 0.2}, {"kind": "process", "interval_s": 0.1}],
        heartbeat_interval_s=0.5,
        healing={"backoff_initial_s": 0.1},
    )
    world.line = sidecar
    world.options = {"verify_s": 15.0, "start_patience_s": 15.0}
    await world.start()
    first = await healthy(world)
    state = await world.state("one")
    assert state is not None
    assert state.proxy_url is not None
    async with httpx.AsyncClient(trust_env=False) as http:
        assert (await http.get(state.proxy_url)).text == "one"

    assert first.pid is not None
    os.kill(first.pid, signal.SIGKILL)
    second = await healthy(world, not_pid=first.pid)
    await recovered(world, 1)
    state = await world.state("one")
    assert state is not None
    assert state.incident is not None
    assert state.incident.reason == "process was killed by SIGKILL"
    assert state.incident.time_to_detect_s is not None
    assert state.incident.time_to_detect_s < 1

    assert state.pid is not None
    os.kill(state.pid, signal.SIGKILL)
    await healthy(world, not_pid=second.pid)
    await recovered(world, 2)
    again = await world.state("one")
    assert again is not None
    assert again.proxy_url == state.proxy_url

    told = [(one.event_type, one.agent.reason) for one in await told_of(world) if one.agent is not None and one.agent.reason]
    why = "restarted by self-healing: process was killed by SIGKILL"
    assert ("agent.stopped", why) in told
    assert ("agent.started", why) in told
    assert ("agent.status_changed", f"{why}; not verified yet") in told
    assert ("agent.started", "restarted by self-healing: sidecar killed by SIGKILL") in told
    assert not [reason for _, reason in told if "stopped by command" in reason]

    assert (await world.tell("restart", "one")).status == "success"
    assert (await world.tell("recover", "one", within_s=40)).status == "success"
    assert (await world.tell("stop", "one")).status == "success"
    assert world.members("one") == []
    state = await world.state("one")
    assert state is not None
    assert state.restarts == 4
