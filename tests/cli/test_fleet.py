import asyncio
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from agent_manager.cli import running
from schemas.commands import Command, CommandError, CommandResponse
from streams import subjects
from streams.embedded import EmbeddedServer
from tests.cli.calling import agentops, begin, operator
from tests.cli.fleet_values import latency_fault, observation, put, record, state


@pytest.fixture
async def manager(client: Client) -> AsyncIterator[list[tuple[str, Command]]]:
    """Stands where the manager listens, keeps what it is told, and answers; ``summary-service`` refuses."""
    heard: list[tuple[str, Command]] = []

    async def answer(message: Msg) -> None:
        command = Command.model_validate_json(message.data)
        heard.append((message.subject, command))
        assert message.headers is not None
        assert message.headers["Nats-TTL"].endswith("s")
        bad = command.agent_id == "summary-service"
        response = CommandResponse(
            status="error" if bad else "success", command=command.command, agent_id=command.agent_id, command_id=command.command_id,
            result=None if bad else {"pid": 77}, error=CommandError(code="failed", message="exited at once") if bad else None,
            timestamp=datetime.now(UTC),
        )  # fmt: skip
        await client.publish(
            subjects.command_response_to(message.subject.split(".")[2], command.command_id), response.model_dump_json().encode()
        )

    subscription = await client.subscribe("command.>", cb=answer)
    yield heard
    await subscription.unsubscribe()


async def test_agents_are_listed_and_shown_from_the_buckets(server: EmbeddedServer, client: Client) -> None:
    login = operator(server)
    await put(client, record("chat-service"), state("chat-service"), observation("chat-service"), latency_fault("chat-service"))
    await put(client, record("idle"), state("idle", status="stopped", desired="stopped", pid=None))
    listed, table, shown, missing, faults = await asyncio.gather(
        agentops("agents", "list", "--json", variables=login),
        agentops("agents", "list", variables=login),
        agentops("agents", "show", "chat-service", variables=login),
        agentops("agents", "show", "chat-servic", variables=login),
        agentops("faults", "list", "--json", variables=login),
    )
    rows = {row["agent_id"]: row for row in listed.json()}
    chat = rows["chat-service"]
    assert chat["pid"] == 4002
    assert chat["sidecar_pid"] == 4001
    assert (chat["tenant_id"], chat["version"], chat["status"], chat["health"], chat["desired"]) == (
        "demo",
        "1.0.1",
        "running",
        "HEALTHY",
        "running",
    )
    assert (chat["latency_ms"], chat["error_rate"], chat["restarts"], chat["faults"], chat["healing"]) == (
        812.5,
        0.02,
        2,
        ["latency"],
        True,
    )
    assert chat["proxy_url"] == "http://127.0.0.1:9001"
    assert (rows["idle"]["status"], rows["idle"]["health"]) == ("stopped", None)
    assert "812 ms" in table.out
    assert "recovered in 3.5 s" in shown.out
    assert "Did you mean 'chat-service'?" in missing.failed()
    assert [(row["agent_id"], row["kind"], row["in_force"]) for row in faults.json()] == [("chat-service", "latency", False)]


async def test_commands_reach_the_manager_under_our_own_name_and_their_outcome_is_told(
    server: EmbeddedServer, client: Client, manager: list[tuple[str, Command]]
) -> None:
    login = operator(server)
    await put(client, state("chat-service"), state("summary-service"))
    good, bad, both, fault, healing, clear = await asyncio.gather(
        agentops("agents", "restart", "chat-service", variables=login),
        agentops("agents", "start", "summary-service", variables=login),
        agentops("agents", "stop", "--all", "--json", variables=login),
        agentops(
            "faults",
            "inject",
            "chat-service",
            "latency",
            "--latency-ms",
            "2500",
            "--duration",
            "2m",
            "--reason",
            "drill",
            variables=login,
        ),
        agentops("agents", "healing", "chat-service", "off", variables=login),
        agentops("faults", "clear", "chat-service", "--kind", "latency", variables=login),
    )
    assert good.out == "chat-service: restarted (pid 77)\n"
    assert "exited at once" in bad.failed()
    assert both.code == 1
    assert sorted(answer["status"] for answer in json.loads(both.out)) == ["error", "success"]
    assert (fault.code, healing.code, clear.code) == (0, 0, 0)
    told = {(subject, command.command): command.params for subject, command in manager}
    assert told["command.demo.operator.chat-service", "inject_fault"] == {
        "kind": "latency",
        "duration_s": 120.0,
        "latency_ms": 2500.0,
        "reason": "drill",
    }
    assert told["command.demo.operator.chat-service", "set_healing"] == {"enabled": False}
    assert told["command.demo.operator.chat-service", "clear_faults"] == {"kind": "latency"}


async def test_a_manager_that_is_away_is_an_error_with_advice(server: EmbeddedServer, client: Client) -> None:
    await put(client, state("chat-service"))
    said = await agentops("agents", "stop", "chat-service", "--timeout", "1", variables=operator(server))
    assert "no answer within 1 s" in said.failed()
    assert "agentops doctor" in said.err


async def test_the_system_of_a_data_directory_is_found_by_its_file(
    server: EmbeddedServer, client: Client, tmp_path: Path
) -> None:
    import os

    await put(client, state("chat-service"))
    login = operator(server)
    users = {"operator": running.Login(login["NATS_USER"], login["NATS_PASSWORD"])}
    running.write(tmp_path, running.Endpoints(login["NATS_URL"], str(tmp_path), os.getpid(), users=users))
    listed, exported = await asyncio.gather(
        agentops("agents", "list", "--json", "--data", str(tmp_path), variables={}),
        agentops("env", "--data", str(tmp_path), variables={}),
    )
    assert [row["agent_id"] for row in listed.json()] == ["chat-service"]
    assert f"export NATS_URL={login['NATS_URL']}" in exported.out
    assert f"export NATS_PASSWORD={login['NATS_PASSWORD']}" in exported.out


async def test_a_wrong_password_is_said_to_be_one(server: EmbeddedServer) -> None:
    said = await agentops("agents", "list", variables=operator(server) | {"NATS_PASSWORD": "wrong"})
    assert "refused the login" in said.failed()


async def test_logs_are_printed_from_the_end_and_followed(tmp_path: Path) -> None:
    folder = tmp_path / "agents" / "chat-service"
    folder.mkdir(parents=True)
    log = folder / "agent.log"
    log.write_text("".join(f"line {number}\n" for number in range(100)))
    variables = {"AGENTOPS_DATA": str(tmp_path)}
    said = await agentops("agents", "logs", "chat-service", "-n", "2", variables=variables)
    assert said.out == "line 98\nline 99\n"
    unknown = await agentops("agents", "logs", "other", variables=variables)
    assert "chat-service" in unknown.failed()
    following = await begin("agents", "logs", "chat-service", "-n", "1", "--follow", variables=variables)
    assert following.stdout is not None
    async with asyncio.timeout(15):
        assert await following.stdout.readline() == b"line 99\n"
        with log.open("a") as file:
            file.write("more\n")
        assert await following.stdout.readline() == b"more\n"
    following.terminate()
    await following.communicate()
