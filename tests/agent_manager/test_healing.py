import asyncio
import os
import signal
from datetime import timedelta

import pytest

from schemas.events import Event
from schemas.state import AgentState
from streams import topology
from tests.agent_manager.world import World, now, write_manifest
from tests.conftest import until


async def state_of(world: World, agent: str = "one") -> AgentState:
    state = await world.state(agent)
    assert state is not None
    return state


async def healthy(world: World, agent: str = "one") -> AgentState:
    """It runs and health has said so."""
    state = await world.becomes(agent, "running")
    await world.judged(agent, "HEALTHY")
    return state


async def test_an_unhealthy_agent_loses_its_faults_is_restarted_and_the_times_are_told(world: World) -> None:
    write_manifest(world.agents, "one")
    await world.start()
    before = await healthy(world)
    await world.tell("inject_fault", "one", kind="error", rate=1.0)
    began = now() - timedelta(seconds=1)
    await world.judged("one", "UNHEALTHY", reason="80% of requests fail", began_at=began)
    await until(lambda: len(world.launches("one")) == 2, "it is restarted")
    assert await world.faults("one") == []
    await world.becomes("one", "running")
    await world.judged("one", "RECOVERING")
    await world.judged("one", "HEALTHY")

    async def over() -> bool:
        state = await state_of(world)
        return state.incident is not None and state.incident.recovered_at is not None

    await until(over, "the incident is over")
    state = await state_of(world)
    incident = state.incident
    assert incident is not None
    assert (state.restarts, len(state.recent_restarts), state.pid != before.pid) == (1, 1, True)
    assert (incident.began_at, incident.reason, incident.action) == (
        began,
        "80% of requests fail",
        "restarted by self-healing (1)",
    )
    assert incident.time_to_detect_s is not None
    assert 1 < incident.time_to_detect_s < 2
    assert incident.time_to_recover_s is not None
    assert incident.time_to_recover_s > incident.time_to_detect_s

    async def recorded() -> bool:
        found = [(record.action, record.outcome) for record in await world.audit() if record.actor == "healing"]
        return found == [("restart", "success"), ("verify", "success")]

    await until(recorded, "healing is in the audit trail")
    restart = next(record for record in await world.audit() if record.actor == "healing")
    assert restart.reason == "80% of requests fail; cleared error"


async def test_a_verdict_from_before_the_restart_does_not_restart_it_again(world: World) -> None:
    write_manifest(world.agents, "one", healing={"backoff_initial_s": 0.05})
    world.options = {"verify_s": 1.5, "start_patience_s": 1.0}
    await world.start()
    await healthy(world)
    since = now()
    await world.judged("one", "UNHEALTHY", since=since, reason="probe fails")
    await until(lambda: len(world.launches("one")) == 2, "it is restarted")
    started = asyncio.get_running_loop().time()
    while asyncio.get_running_loop().time() - started < 1.0:
        await world.judged("one", "UNHEALTHY", since=since, reason="probe fails")
        await asyncio.sleep(0.05)
    assert len(world.launches("one")) == 2
    # Only when its time to become HEALTHY is up the old verdict counts again.
    await until(lambda: len(world.launches("one")) == 3, "it is tried again after the deadline")


async def test_a_killed_sidecar_is_restarted_within_a_moment(world: World) -> None:
    write_manifest(world.agents, "one")
    await world.start()
    before = await healthy(world)
    assert before.pid is not None
    began = asyncio.get_running_loop().time()
    os.kill(before.pid, signal.SIGKILL)
    await until(lambda: len(world.launches("one")) == 2, "it is restarted")
    assert asyncio.get_running_loop().time() - began < 3
    state = await world.becomes("one", "running")
    assert state.incident is not None
    assert state.incident.reason == "sidecar killed by SIGKILL"
    assert state.incident.time_to_detect_s is not None
    assert state.incident.time_to_detect_s < 1
    assert len(world.members("one")) == 2


async def test_one_that_keeps_failing_is_given_up_an_alert_is_raised_and_a_person_can_start_it_again(world: World) -> None:
    healing = {"max_restarts": 2, "backoff_initial_s": 0.05}
    path = write_manifest(world.agents, "one", environment={"LEAVES": "3"}, healing=healing)
    await world.start()

    async def given_up() -> bool:
        return (await state_of(world)).gave_up

    await until(given_up, "it gives up")
    assert len(world.launches("one")) == 3
    state = await state_of(world)
    assert (state.status, state.reason) == ("error", "sidecar exited with code 3")

    async def alerted() -> bool:
        last = (await world.client.jsm().stream_info(topology.TELEMETRY)).state.last_seq
        messages = [await world.client.jetstream().get_msg(topology.TELEMETRY, number) for number in range(1, last + 1)]
        events = [Event.model_validate_json(message.data or b"") for message in messages]
        return [event.alert.type for event in events if event.alert] == ["crash_loop"]

    await until(alerted, "an alert is raised")
    assert any(record.action == "give_up" for record in await world.audit())

    failed = await world.tell("start", "one")
    assert failed.error is not None
    assert (failed.error.code, failed.error.message) == ("failed", "sidecar exited with code 3")
    assert "something is missing" in failed.error.details["output"]
    path.write_text(path.read_text().replace("LEAVES", "STAYS"))

    async def described() -> bool:
        found = await world.tell("status", "one")
        return found.result is not None and "STAYS" in found.result["record"]["environment"]

    await until(described, "the mended manifest is read")
    assert (await world.tell("start", "one")).status == "success"
    state = await state_of(world)
    assert not state.gave_up
    assert state.recent_restarts == ()


async def test_with_healing_switched_off_only_recover_brings_it_back(world: World) -> None:
    write_manifest(world.agents, "one")
    await world.start()
    before = await healthy(world)
    assert (await world.tell("set_healing", "one", enabled=False)).result == {"healing_enabled": False}
    await world.tell("inject_fault", "one", kind="error")
    await world.judged("one", "UNHEALTHY", reason="errors")

    async def noticed() -> bool:
        state = await state_of(world)
        return state.incident is not None

    await until(noticed, "the incident is noted")
    assert (await state_of(world)).pid == before.pid

    async def say_healthy() -> None:
        await until(lambda: len(world.launches("one")) == 2, "it is restarted")
        await world.becomes("one", "running")
        await world.judged("one", "HEALTHY")

    saying = asyncio.create_task(say_healthy())
    recovered = await world.tell("recover", "one", user="alice")
    await saying
    assert recovered.status == "success"
    assert recovered.result is not None
    assert (recovered.result["health"], recovered.result["cleared"]) == ("HEALTHY", ["error"])

    async def over() -> bool:
        incident = (await state_of(world)).incident
        return incident is not None and incident.recovered_at is not None and incident.action == "recover by alice"

    await until(over, "the incident is over")
    assert not (await state_of(world)).healing_enabled
    await world.stop()
    await world.start()
    assert not (await state_of(world)).healing_enabled


async def test_a_recovery_that_does_not_reach_healthy_says_so(world: World) -> None:
    write_manifest(world.agents, "one")
    world.options = {"verify_s": 1.0}
    await world.start()
    await healthy(world)
    response = await world.tell("recover", "one")
    assert response.error is not None
    assert response.error.code == "timeout"
    assert "not HEALTHY within 1 s" in response.error.message


async def test_silence_heard_right_after_a_start_is_not_healed_until_the_grace_is_over(world: World) -> None:
    write_manifest(world.agents, "one", stop_timeout_s=0.5)
    await world.start()
    state = await healthy(world)
    await world.stop()
    assert state.pid is not None
    os.kill(state.pid, signal.SIGSTOP)
    world.options = {"grace_s": 1.5}
    await world.start()
    began = asyncio.get_running_loop().time()
    await world.judged("one", "UNHEALTHY", "inactive", reason="no heartbeat", last_heartbeat=now())
    inactive = await world.becomes("one", "inactive")
    assert inactive.reason == "no heartbeat"
    assert len(world.launches("one")) == 1
    await until(lambda: len(world.launches("one")) == 2, "it is restarted once the grace is over")
    assert asyncio.get_running_loop().time() - began > 1


async def test_an_agent_whose_process_left_on_its_own_is_brought_back(world: World) -> None:
    write_manifest(world.agents, "one")
    await world.start()
    await healthy(world)
    await world.judged("one", "HEALTHY", "stopped", reason="exited with code 0")
    await until(lambda: len(world.launches("one")) == 2, "it is restarted")


async def test_a_stopped_agent_is_left_alone_whatever_is_said_of_it(world: World) -> None:
    write_manifest(world.agents, "one")
    await world.start()
    await healthy(world)
    await world.tell("stop", "one")
    await world.judged("one", "UNHEALTHY", "inactive", reason="no heartbeat")
    await world.tell("status", "one")
    assert len(world.launches("one")) == 1
    assert (await state_of(world)).status == "stopped"


async def test_one_whose_manifest_is_gone_runs_on_but_is_not_restarted(world: World) -> None:
    path = write_manifest(world.agents, "one")
    await world.start()
    state = await healthy(world)
    path.unlink()

    async def refused() -> bool:
        response = await world.tell("start", "one")
        return response.error is not None and response.error.code == "refused"

    await until(refused, "its going is seen")
    assert state.pid in world.members("one")
    assert state.pid is not None
    os.kill(state.pid, signal.SIGKILL)
    await world.becomes("one", "error")
    assert len(world.launches("one")) == 1


async def test_a_missing_secret_is_a_reason_everyone_can_read(world: World) -> None:
    write_manifest(world.agents, "one", environment={"KEY": "${NO_SUCH_VARIABLE}"}, healing={"max_restarts": 1})
    await world.start()
    state = await world.becomes("one", "error")
    assert "names ${NO_SUCH_VARIABLE}, which is not set where the manager runs" in state.reason


async def test_secrets_reach_the_agent_and_nothing_else(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THE_SECRET", "hunter2hunter2")
    write_manifest(world.agents, "one", environment={"SECRET": "${THE_SECRET}"})
    await world.start()
    state = await world.becomes("one", "running")
    log = world.data / "agents" / "one" / "sidecar.log"
    await until(lambda: "secret: hunter2hunter2" in log.read_text(), "the agent has it")
    status = await world.tell("status", "one")
    assert "hunter2" not in state.model_dump_json() + status.model_dump_json()
    assert log.stat().st_mode & 0o077 == 0
