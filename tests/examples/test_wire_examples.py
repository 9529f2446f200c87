"""The programs that meet AgentOps with a NATS client alone, against the real server and topology."""

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE, Process
from pathlib import Path
from typing import Final

from nats.aio.client import Client

from schemas.events import Event
from schemas.reading import read_event
from streams.embedded import EmbeddedServer

EXAMPLES: Final = Path(__file__).resolve().parents[2] / "examples"


async def program(name: str, server: EmbeddedServer, user: str) -> Process:
    settings = server.settings(user)
    assert settings.user is not None
    assert settings.password is not None
    environment = {
        "PATH": os.environ["PATH"],
        "NATS_URL": settings.url,
        "NATS_USER": settings.user,
        "NATS_PASSWORD": settings.password.get_secret_value(),
    }
    return await asyncio.create_subprocess_exec(sys.executable, EXAMPLES / name, env=environment, stdout=PIPE, stderr=PIPE)


async def test_a_run_published_with_a_nats_client_alone_is_stored_and_valid(server: EmbeddedServer, client: Client) -> None:
    child = await program("publish_events.py", server, "operator")
    out, err = await asyncio.wait_for(child.communicate(), 10)
    assert child.returncode == 0, err.decode()
    messages = [await client.jetstream().get_msg("TELEMETRY", sequence) for sequence in (1, 2, 3)]
    assert [message.subject for message in messages] == [
        f"telemetry.demo.my-agent.{kind}" for kind in ("run", "model_call", "run")
    ]
    for message in messages:
        event = read_event(message.data or b"")
        assert isinstance(event, Event), event
        assert event.run.run_id == out.decode().strip()
        assert (message.headers or {})["Nats-Msg-Id"] == str(event.event_id)


async def test_an_alert_reaches_a_subscriber_that_knows_only_nats(server: EmbeddedServer, client: Client) -> None:
    child = await program("alert_subscriber.py", server, "dashboard")
    assert child.stdout is not None
    assert (await asyncio.wait_for(child.stdout.readline(), 10)).startswith(b"listening")
    alert = {
        "state": "firing",
        "severity": "critical",
        "rule": "agent-down",
        "agent_id": "chat-service",
        "summary": "three heartbeats missed",
    }
    await client.jetstream().publish("alerts.demo.critical.agent-down", json.dumps(alert).encode())
    line = (await asyncio.wait_for(child.stdout.readline(), 5)).decode().strip()
    assert line == "firing critical agent-down chat-service three heartbeats missed"
    child.terminate()
    await asyncio.wait_for(child.communicate(), 5)


async def test_a_subscriber_whose_server_goes_away_says_so_in_short_lines(server: EmbeddedServer) -> None:
    child = await program("alert_subscriber.py", server, "dashboard")
    assert child.stdout is not None
    assert child.stderr is not None
    assert (await asyncio.wait_for(child.stdout.readline(), 10)).startswith(b"listening")
    await server.kill()
    first = await asyncio.wait_for(child.stderr.readline(), 10)
    child.terminate()
    _, rest = await asyncio.wait_for(child.communicate(), 5)
    lines = (first + rest).decode().splitlines()
    assert lines
    assert all(line.startswith("NATS: ") and line.endswith("trying again") for line in lines), lines
