import asyncio
import json
from typing import Any

from agent_manager.commands import reading
from agent_manager.commands.desk import respond
from agent_manager.lifecycle.jobs import Refused
from schemas.commands import CommandResponse
from schemas.events import Event
from streams import subjects, topology
from tests.agent_manager.world import TENANT, World, now, write_manifest
from tests.conftest import stream_messages, until


async def test_stop_start_and_restart_do_what_they_say_and_tell_pid_and_address(world: World) -> None:
    write_manifest(world.agents, "one")
    await world.start()
    first = await world.becomes("one", "running")

    stopped = await world.tell("stop", "one")
    assert stopped.status == "success"
    assert world.members("one") == []
    state = await world.state("one")
    assert state is not None
    assert (state.desired, state.status, state.reason, state.pid) == ("stopped", "stopped", "stopped by tester", None)
    assert (await world.tell("stop", "one")).result == {"status": "stopped", "already_stopped": True}

    started = await world.tell("start", "one")
    assert started.status == "success"
    assert started.result is not None
    assert started.result["proxy_url"] == first.proxy_url
    assert {started.result["pid"], started.result["agent_pid"]} <= set(world.members("one"))
    again = await world.tell("start", "one")
    assert again.result is not None
    assert again.result["already_running"]

    restarted = await world.tell("restart", "one")
    assert restarted.result is not None
    assert restarted.result["pid"] != started.result["pid"]
    assert len(world.launches("one")) == 3

    async def acknowledged() -> bool:
        return await stream_messages(world.client, topology.COMMANDS) == 0

    await until(acknowledged, "what is answered is acknowledged next")


async def test_everything_asked_is_in_the_audit_trail_with_who_asked(world: World) -> None:
    write_manifest(world.agents, "one")
    await world.start()
    await world.becomes("one", "running")
    good = await world.tell("inject_fault", "one", user="alice", kind="latency", latency_ms=2500, duration_s=60)
    assert await world.faults("one") == ["latency"]
    bad = await world.tell("inject_fault", "one", user="mallory", kind="latency", latency_ms="much")
    record = await world.audited(good.command_id)
    assert (record.actor, record.action, record.outcome) == ("alice", "inject_fault", "success")
    assert record.params["latency_ms"] == 2500
    record = await world.audited(bad.command_id)
    assert (record.actor, record.outcome) == ("mallory", "error")
    assert "latency_ms" in record.reason


async def test_a_fault_replaces_another_of_its_kind_and_can_be_cleared_alone(world: World) -> None:
    write_manifest(world.agents, "one", autostart=False)
    await world.start()
    await world.tell("inject_fault", "one", kind="latency", latency_ms=10)
    await world.tell("inject_fault", "one", kind="error", rate=1.0)
    await world.tell("inject_fault", "one", kind="latency", latency_ms=20)
    assert await world.faults("one") == ["error", "latency"]
    cleared = await world.tell("clear_faults", "one", kind="error")
    assert cleared.result == {"cleared": ["error"], "active": ["latency"]}
    assert (await world.tell("clear_faults", "one")).result == {"cleared": ["latency"], "active": []}
    assert await world.faults("one") == []


async def test_a_fault_can_be_injected_where_only_a_sidecar_reports(world: World) -> None:
    await world.start()
    await world.judged("elsewhere", "HEALTHY")
    await until(lambda: bool(world.manager and world.manager._fleet and world.manager._fleet.keepers()), "it is heard of")
    assert (await world.tell("inject_fault", "elsewhere", kind="hang", duration_s=5)).status == "success"
    assert await world.faults("elsewhere") == ["hang"]
    refused = await world.tell("restart", "elsewhere")
    assert refused.error is not None
    assert refused.error.code == "refused"


async def test_what_is_wrong_is_answered_by_field(world: World) -> None:
    write_manifest(world.agents, "one", autostart=False)
    await world.start()

    async def code(body: dict[str, Any]) -> tuple[str, str]:
        response = await world.send(body)
        assert response.error is not None
        return response.error.code, json.dumps(response.error.details) + response.error.message

    assert (await code(world.request("start", "nobody")))[0] == "unknown_agent"
    assert (await code(world.request("explode", "one")))[0] == "unknown_command"
    unknown_field = await code(world.request("start", "one") | {"force": True})
    assert unknown_field[0] == "invalid"
    assert "$.force" in unknown_field[1]
    no_time = world.request("start", "one")
    del no_time["timestamp"]
    assert "$.timestamp" in (await code(no_time))[1]
    assert "$.enabled" in (await code(world.request("set_healing", "one", enabled="yes")))[1]
    assert "$.kind" in (await code(world.request("inject_fault", "one")))[1]
    assert (await code(world.request("start", "one", lasting_s=-1)))[0] == "expired"
    huge = await code(world.request("start", "one", reason="x" * reading.MOST_BYTES))
    assert huge[0] == "invalid"


async def test_bytes_that_are_no_command_are_answered_recorded_and_gone(world: World) -> None:
    await world.start()
    subject = subjects.command(TENANT, "tester", "one")
    for body in (b"", b"\xff\x00", b"[]", b"{", b'{"command_id": "a b"}', b"[" * 50_000):
        await world.client.jetstream().publish(subject, body)

    async def gone() -> bool:
        return await stream_messages(world.client, topology.COMMANDS) == 0

    await until(gone, "nothing is left in the stream")
    records = [record for record in await world.audit() if record.action == "unknown"]
    assert len(records) == 6
    assert {record.actor for record in records} == {"tester"}


async def test_an_agent_id_that_differs_from_the_subject_is_refused(world: World) -> None:
    write_manifest(world.agents, "one", autostart=False)
    write_manifest(world.agents, "two", autostart=False)
    await world.start()
    body = world.request("start", "one")
    answers = await world.client.subscribe(subjects.command_response(body["command_id"]))
    await world.client.jetstream().publish(subjects.command(TENANT, "tester", "two"), json.dumps(body).encode())
    response = CommandResponse.model_validate_json((await answers.next_msg(timeout=5)).data)
    await answers.unsubscribe()
    assert response.error is not None
    assert response.error.details["errors"][0]["loc"] == "$.agent_id"


async def test_the_same_command_twice_is_carried_out_once_and_answered_twice(world: World) -> None:
    write_manifest(world.agents, "one")
    await world.start()
    await world.becomes("one", "running")
    body = world.request("restart", "one")
    first = await world.send(body)
    second = await world.send(body)
    assert first == second
    assert len(world.launches("one")) == 2
    await world.audited(body["command_id"])
    # Another sender cannot spend the same id.
    third = await world.send(body, user="other")
    assert third.result is not None
    assert first.result is not None
    assert third.result["pid"] != first.result["pid"]


async def test_commands_of_one_agent_are_carried_out_in_order_and_agents_do_not_wait_for_each_other(world: World) -> None:
    write_manifest(world.agents, "slow", environment={"STUBBORN": "1"}, stop_timeout_s=0.2)
    write_manifest(world.agents, "quick")
    await world.start()
    await world.becomes("slow", "running")
    await world.becomes("quick", "running")
    done: list[str] = []

    async def tell(label: str, body: dict[str, Any]) -> None:
        await world.send(body)
        done.append(label)

    async with asyncio.TaskGroup() as tasks:
        for label, command, agent in (
            ("1", "restart", "slow"), ("2", "status", "slow"), ("3", "stop", "slow"), ("4", "status", "slow"), ("q", "restart", "quick")
        ):  # fmt: skip
            tasks.create_task(tell(label, world.request(command, agent)))
            await asyncio.sleep(0.02)
    assert [label for label in done if label != "q"] == ["1", "2", "3", "4"]
    assert done[0] == "q"


async def test_the_bridge_takes_the_documented_minimum_and_answers_both_ways(world: World) -> None:
    write_manifest(world.agents, "one")
    await world.start()
    await world.becomes("one", "running")
    said = await world.client.subscribe(subjects.MANAGER_RESPONSE)
    body = {"command": "restart", "agent_id": "one", "params": {}, "timestamp": now().isoformat()}
    reply = await world.client.request(subjects.MANAGER_COMMAND, json.dumps(body).encode(), timeout=15)
    response = CommandResponse.model_validate_json(reply.data)
    assert (response.status, response.command, response.agent_id) == ("success", "restart", "one")
    assert CommandResponse.model_validate_json((await said.next_msg(timeout=5)).data) == response
    assert (await world.audited(response.command_id)).actor == "bridge"

    async def refused(body: bytes) -> str:
        answer = CommandResponse.model_validate_json((await world.client.request(subjects.MANAGER_COMMAND, body, timeout=5)).data)
        assert answer.error is not None
        return answer.error.code

    assert await refused(b"{}") == "invalid"
    assert await refused(b"\xff") == "invalid"
    assert await refused(b'{"command": "start", "agent_id": "nobody"}') == "unknown_agent"
    assert await refused(b'{"command": "fly", "agent_id": "one"}') == "unknown_command"
    await said.unsubscribe()


async def test_the_bridge_answers_questions(world: World) -> None:
    write_manifest(world.agents, "one")
    write_manifest(world.agents, "bad", port="x")
    await world.start()
    await world.becomes("one", "running")

    async def ask(**query: str) -> dict[str, Any]:
        reply = await world.client.request(subjects.MANAGER_QUERY, json.dumps(query).encode(), timeout=5)
        answer: dict[str, Any] = json.loads(reply.data)
        return answer

    agents = (await ask(query="agents"))["agents"]
    assert [(row["agent_id"], row["status"], row["desired"]) for row in agents] == [("one", "running", "running")]
    assert (await ask(query="agent", agent_id="one"))["agent"]["record"]["agent_id"] == "one"
    status = await ask(query="status")
    assert status["agents"] == {"running": 1}
    assert "$.port" in status["manifest_problems"][0]
    assert (await ask(query="agent", agent_id="x"))["error"]["code"] == "unknown_agent"
    assert (await ask(query="weather"))["error"]["code"] == "invalid"


async def test_a_registered_agent_is_announced_once(world: World) -> None:
    path = write_manifest(world.agents, "one", autostart=False, version="1")
    await world.start()

    async def announced() -> list[Event]:
        last = (await world.client.jsm().stream_info(topology.TELEMETRY)).state.last_seq
        messages = [await world.client.jetstream().get_msg(topology.TELEMETRY, number) for number in range(1, last + 1)]
        return [Event.model_validate_json(message.data or b"") for message in messages]

    async def times(count: int) -> bool:
        return len(await announced()) == count

    await until(lambda: times(1), "it is announced")
    path.write_text(path.read_text().replace("'1'", "'2'"))
    await until(lambda: times(2), "its change is announced")
    last = (await announced())[-1]
    assert last.agent is not None
    assert last.agent.version == "2"
    assert last.attributes == {"changed": ["version"]}
    await world.stop()
    await world.start()
    assert await times(2)


def test_a_command_name_that_no_record_can_hold_is_refused_by_another_name() -> None:
    """Else its audit record could never be written, and the command would come again for ever."""
    for name in ('"\\u0000start"', '"\\ud800"'):
        body = f'{{"command": {name}, "agent_id": "one"}}'.encode()
        read = reading.read(body, "command.demo.tester.one", "fallback")
        assert isinstance(read, reading.Unreadable)
        assert (read.code, read.command) == ("unknown_command", "unknown")
        assert read.message.isprintable()
    read = reading.read(b'{"command": "stop", "command_id": "c", "od\\u0000d": 1}', "command.demo.tester.one", "fallback")
    assert isinstance(read, reading.Unreadable)
    response = respond(read, Refused(read.code, read.message), now())
    assert response.error is not None
    assert "\x00" not in response.error.message
