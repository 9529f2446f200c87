import asyncio
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from agent_manager.cli.up import leftovers
from agent_manager.drivers import groups, ports
from agent_manager.drivers.driver import LaunchError
from agent_manager.drivers.local import LocalDriver, LocalInstance
from agent_manager.drivers.output import TURN_OVER_BYTES
from schemas.state import AgentRecord, AgentState
from service.ports import port_is_free
from tests.agent_manager.world import LEADER, line
from tests.conftest import until


def record(tmp_path: Path, **changes: Any) -> AgentRecord:
    given: dict[str, Any] = {
        "agent_id": "one", "tenant_id": "acme", "name": "One", "version": "1", "command": ("true",),
        "working_directory": str(tmp_path), "updated_at": datetime.now(UTC), "updated_by": "test",
    }  # fmt: skip
    return AgentRecord(**(given | changes))


class Driving:
    """A driver, what it noticed, and a look at what is left."""

    def __init__(self, data: Path) -> None:
        self.noticed: list[str] = []
        self.data = data
        self.driver = self.another()

    def another(self) -> LocalDriver:
        return LocalDriver(self.data, dict(os.environ), {}, lambda instance: self.noticed.append(instance.instance_id), line)

    def alive(self) -> list[int]:
        return [member.pid for member in groups.members(groups.group_name("acme", "one", groups.home(self.data)))]

    async def up(self, instance: LocalInstance) -> None:
        await until(lambda: len(self.alive()) == 2, "leader and child run")
        await until(lambda: not port_is_free(instance.ports.door), "the door is open")


@pytest.fixture
async def driving(tmp_path: Path) -> AsyncIterator[Driving]:
    found = Driving(tmp_path / "data")
    yield found
    await found.driver.close()
    groups.clear(groups.group_name("acme", "one", groups.home(found.data)))
    assert found.alive() == []


async def test_an_agent_is_started_as_a_group_of_its_own_and_stopped_without_a_trace(driving: Driving, tmp_path: Path) -> None:
    instance = await driving.driver.start(record(tmp_path), "i1", None)
    await driving.up(instance)
    assert os.getpgid(instance.pid) == instance.pid != os.getpgid(0)
    exit_ = await driving.driver.stop(instance, 5)
    assert (exit_.code, exit_.signal) == (0, None)
    assert driving.alive() == []
    assert "leader of one" in (driving.data / "agents" / "one" / "sidecar.log").read_text()


async def test_one_that_ignores_term_is_killed_with_its_whole_group_when_its_time_is_up(driving: Driving, tmp_path: Path) -> None:
    instance = await driving.driver.start(record(tmp_path, environment={"STUBBORN": "1"}), "i1", None)
    await driving.up(instance)
    began = asyncio.get_running_loop().time()
    exit_ = await driving.driver.stop(instance, 0.3)
    assert exit_.signal == "SIGKILL"
    assert 1.2 < asyncio.get_running_loop().time() - began < 3
    assert driving.alive() == []


async def test_a_killed_leader_is_noticed_at_once_and_what_it_leaves_is_cleared_by_the_next_start(
    driving: Driving, tmp_path: Path
) -> None:
    instance = await driving.driver.start(record(tmp_path), "i1", None)
    await driving.up(instance)
    os.kill(instance.pid, signal.SIGKILL)
    began = asyncio.get_running_loop().time()
    await until(lambda: driving.noticed == ["i1"], "the exit is noticed")
    assert asyncio.get_running_loop().time() - began < 2
    exit_ = driving.driver.observe(instance)
    assert exit_ is not None
    assert exit_.reason == "killed by SIGKILL"
    assert len(driving.alive()) == 1
    again = await driving.driver.start(record(tmp_path), "i2", None)
    await driving.up(again)
    assert again.pid in driving.alive()
    await driving.driver.stop(again, 5)


async def test_exit_codes_are_kept(driving: Driving, tmp_path: Path) -> None:
    instance = await driving.driver.start(record(tmp_path, environment={"LEAVES": "3"}), "i1", None)
    await until(lambda: driving.driver.observe(instance) is not None, "it left")
    exit_ = driving.driver.observe(instance)
    assert exit_ is not None
    assert (exit_.code, exit_.reason) == (3, "exited with code 3")


async def test_a_second_driver_adopts_what_runs_and_can_stop_it(driving: Driving, tmp_path: Path) -> None:
    instance = await driving.driver.start(record(tmp_path), "i1", None)
    await driving.up(instance)
    other = driving.another()
    adopted = await other.adopt(record(tmp_path), None)
    assert adopted is not None
    assert (adopted.pid, adopted.instance_id, adopted.ports) == (instance.pid, "i1", instance.ports)
    assert await other.adopt(record(tmp_path, agent_id="two"), None) is None
    assert await other.stop(adopted, 5)
    assert driving.alive() == []
    await other.close()


async def test_a_copy_of_the_data_directory_knows_none_of_the_originals_agents(driving: Driving, tmp_path: Path) -> None:
    """The copy's run files name the original's processes; neither its manager nor its ``agentops up`` touches them."""
    instance = await driving.driver.start(record(tmp_path), "i1", None)
    await driving.up(instance)
    run_file = Path("agents", "one", "sidecar.json")
    await until((driving.data / run_file).exists, "the leader has written itself down")
    copy = tmp_path / "copy"
    shutil.copytree(driving.data, copy)
    assert json.loads((copy / run_file).read_text())["pid"] == instance.pid
    before = driving.alive()

    other = Driving(copy)
    assert await other.driver.adopt(record(tmp_path), state(instance)) is None
    beside = await other.driver.start(record(tmp_path), "i2", state(instance))
    await other.up(beside)
    assert leftovers.kill_agents(groups.home(copy)) == ["one"]
    await until(lambda: other.noticed == ["i2"], "its own agent is gone")
    assert leftovers.kill_agents(groups.home(copy)) == []
    await other.driver.close()

    assert driving.alive() == before
    assert driving.noticed == []
    # Put where the original was, it still is a copy.
    driving.data.rename(tmp_path / "away")
    copy.rename(driving.data)
    late = Driving(driving.data)
    assert await late.driver.adopt(record(tmp_path), state(instance)) is None
    assert leftovers.kill_agents(groups.home(driving.data)) == []
    assert driving.driver.observe(instance) is None
    # Its own manager, which began before, still reaches it.
    await driving.driver.stop(instance, 5)
    assert driving.noticed == ["i1"]


async def test_what_an_up_leaves_of_its_own_agents_is_killed_though_the_leader_has_gone(driving: Driving, tmp_path: Path) -> None:
    instance = await driving.driver.start(record(tmp_path), "i1", None)
    await driving.up(instance)
    os.kill(instance.pid, signal.SIGKILL)
    await until(lambda: driving.noticed == ["i1"], "the leader is gone")
    assert len(driving.alive()) == 1
    assert leftovers.kill_agents(groups.home(driving.data)) == ["one"]
    assert driving.alive() == []


async def test_an_id_that_belongs_to_another_process_by_now_is_not_signalled(driving: Driving) -> None:
    key = groups.group_name("acme", "one", groups.home(driving.data))
    stranger = await asyncio.create_subprocess_exec("sleep", "60", start_new_session=True)
    try:
        found = groups.Member(stranger.pid, (groups.created_at(stranger.pid) or 0) - 60, stranger.pid, None)
        assert not groups.kill(found, key)
        assert groups.created_at(stranger.pid) is not None
    finally:
        stranger.kill()
        await stranger.wait()


async def test_something_adopted_that_is_not_our_child_is_seen_to_end_too(driving: Driving, tmp_path: Path) -> None:
    group = groups.group_name("acme", "one", groups.home(driving.data))
    mark = groups.Mark(instance_id="i0", started_at=1.0, agent_port=1, proxy_port=2, door_port=3, version="1")
    environment = {**os.environ, groups.GROUP: group, groups.INSTANCE: mark.model_dump_json()}
    # A process in between dies at once, so that the sleeper is nobody's child of ours.
    code = "import subprocess; print(subprocess.Popen(['sleep', '60'], start_new_session=True, stdout=-3, stderr=-3).pid)"
    parent = await asyncio.create_subprocess_exec(sys.executable, "-c", code, env=environment, stdout=subprocess.PIPE)
    told, _ = await parent.communicate()
    pid = int(told)
    adopted = await driving.driver.adopt(record(tmp_path), None)
    assert adopted is not None
    assert adopted.pid == pid
    assert driving.driver.observe(adopted) is None
    os.kill(pid, signal.SIGKILL)
    await until(lambda: driving.noticed == ["i0"], "the end of a stranger's child is noticed")
    exit_ = driving.driver.observe(adopted)
    assert exit_ is not None
    assert exit_.code is None
    await driving.driver.stop(adopted, 1)


async def test_of_two_leaders_only_the_remembered_one_is_adopted_and_the_other_killed(driving: Driving, tmp_path: Path) -> None:
    first = await driving.driver.start(record(tmp_path), "i1", None)
    await driving.up(first)
    mark = groups.Mark(instance_id="i2", started_at=1.0, agent_port=1, proxy_port=2, door_port=3, version="1")
    environment = {
        **os.environ, groups.GROUP: groups.group_name("acme", "one", groups.home(driving.data)), groups.INSTANCE: mark.model_dump_json()
    }  # fmt: skip
    second = await asyncio.create_subprocess_exec("sleep", "60", start_new_session=True, env=environment)
    remembered = state(first)
    other = driving.another()
    adopted = await other.adopt(record(tmp_path), remembered)
    assert adopted is not None
    assert adopted.pid == first.pid
    assert await asyncio.wait_for(second.wait(), 5) == -signal.SIGKILL
    await other.stop(adopted, 5)
    await other.close()


def state(instance: LocalInstance) -> AgentState:
    return AgentState(
        agent_id="one", tenant_id="acme", desired="running", status="running", pid=instance.pid,
        process_created_at=instance.created_at, port=instance.ports.agent, proxy_port=instance.ports.proxy,
        sidecar_url=instance.ports.door_url, version="1", updated_at=datetime.now(UTC),
    )  # fmt: skip


async def test_ports_stay_the_same_across_restarts_while_they_are_free(driving: Driving, tmp_path: Path) -> None:
    instance = await driving.driver.start(record(tmp_path), "i1", None)
    await driving.driver.stop(instance, 5)
    again = await driving.driver.start(record(tmp_path), "i2", state(instance))
    assert again.ports == instance.ports
    await driving.driver.stop(again, 5)


def test_a_fixed_port_that_is_taken_refuses_the_start_and_a_chosen_one_moves_on(tmp_path: Path) -> None:
    with pytest.raises(LaunchError, match="proxy_port 8000 is taken"):
        ports.choose(record(tmp_path, proxy_port=8000), None, set(), is_free=lambda port: port != 8000)
    numbers = iter([21_000, 21_000, 21_001, 21_002, 21_003])
    chosen = ports.choose(
        record(tmp_path), None, set(), is_free=lambda port: port != 21_000, randrange=lambda a, b: next(numbers)
    )
    assert (chosen.agent, chosen.proxy, chosen.door) == (21_001, 21_002, 21_003)


async def test_what_cannot_be_started_says_why(driving: Driving, tmp_path: Path) -> None:
    with pytest.raises(LaunchError, match="does not exist"):
        await driving.driver.start(record(tmp_path / "gone"), "i1", None)
    with pytest.raises(LaunchError, match=r"\$\{NO_SUCH_VARIABLE\}"):
        await driving.driver.start(record(tmp_path, environment={"K": "${NO_SUCH_VARIABLE}"}), "i1", None)
    driving.driver.line = lambda *_: ["/no/such/program"]
    with pytest.raises(LaunchError, match="No such file"):
        await driving.driver.start(record(tmp_path), "i1", None)


async def test_a_log_that_has_grown_is_turned_over_at_the_next_start(driving: Driving, tmp_path: Path) -> None:
    path = driving.data / "agents" / "one" / "sidecar.log"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"x" * (TURN_OVER_BYTES + 1))
    instance = await driving.driver.start(record(tmp_path), "i1", None)
    assert path.with_suffix(".log.1").stat().st_size == TURN_OVER_BYTES + 1
    assert path.stat().st_size < 1000
    await driving.driver.stop(instance, 5)


def test_the_stand_in_is_there() -> None:
    assert LEADER.exists()
