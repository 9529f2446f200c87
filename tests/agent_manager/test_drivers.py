"""What holds for every driver."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agent_manager.drivers.driver import LaunchError
from agent_manager.drivers.fake_cloud_run.cloud import Cloud
from agent_manager.drivers.fake_cloud_run.server import FakeCloudRun
from tests.agent_manager.driven import SETTINGS, Setting
from tests.conftest import until


@pytest.fixture(params=list(SETTINGS))
async def setting(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Setting]:
    async with FakeCloudRun(Cloud(operation_s=0.05)) as server:
        found = SETTINGS[request.param](tmp_path, server)
        yield found
        await found.close()


async def test_an_agent_is_started_comes_up_and_is_stopped_without_a_trace(setting: Setting) -> None:
    instance = await setting.driver.start(setting.record(), "i1", None)
    await setting.up(instance)
    assert setting.running() == 1
    assert setting.driver.observe(instance) is None
    exit_ = await setting.driver.stop(instance, 5)
    assert exit_.reason
    assert setting.running() == 0


async def test_started_twice_it_runs_once(setting: Setting) -> None:
    first = await setting.driver.start(setting.record(), "i1", None)
    again = await setting.driver.start(setting.record(), "i1", None)
    await setting.up(again)
    assert setting.running() == 1
    assert (again.agent_id, again.instance_id) == (first.agent_id, first.instance_id)


async def test_a_restart_is_an_end_and_a_start_with_a_reason_and_ends_with_one_other_instance(setting: Setting) -> None:
    first = await setting.driver.start(setting.record(), "i1", None)
    await setting.up(first)
    before = setting.driver.told(first)
    await setting.driver.stop(first, 5, restarting="it was slow")
    second = await setting.driver.start(setting.record(), "i2", setting.state(first), restarted="it was slow")
    await setting.up(second)
    assert setting.running() == 1
    after = setting.driver.told(second)
    assert (before["pid"], before["revision"]) != (after["pid"], after["revision"])


async def test_the_next_manager_adopts_what_runs_and_can_stop_it(setting: Setting) -> None:
    record = setting.record(version="7")
    instance = await setting.driver.start(record, "i1", None)
    await setting.up(instance)
    other = setting.another()
    adopted = await other.adopt(record, setting.state(instance))
    assert adopted is not None
    assert (adopted.instance_id, adopted.version) == ("i1", "7")
    assert abs((adopted.started_at - instance.started_at).total_seconds()) < 1
    await setting.up(adopted, other)
    await other.stop(adopted, 5)
    assert setting.running() == 0
    await other.close()


async def test_nothing_is_adopted_of_an_agent_that_does_not_run(setting: Setting) -> None:
    record = setting.record()
    instance = await setting.driver.start(record, "i1", None)
    await setting.up(instance)
    remembered = setting.state(instance)
    await setting.driver.stop(instance, 5)
    other = setting.another()
    assert await other.adopt(record, remembered) is None
    await other.close()


async def test_an_end_that_nobody_asked_for_is_noticed_with_its_reason(setting: Setting) -> None:
    instance = await setting.driver.start(setting.record(), "i1", None)
    await setting.up(instance)
    setting.noticed.clear()
    setting.ends(instance)
    await until(lambda: setting.driver.observe(instance) is not None, "the end is seen")
    exit_ = setting.driver.observe(instance)
    assert exit_ is not None
    assert setting.ending() in exit_.reason
    await until(lambda: "i1" in setting.noticed, "the end is told")


async def test_what_cannot_be_started_says_why_and_leaves_nothing(setting: Setting) -> None:
    record, said = setting.unstartable()
    with pytest.raises(LaunchError, match=said):
        await setting.driver.start(record, "i1", None)
    assert setting.noticed == []


async def test_a_start_that_is_broken_off_anywhere_leaves_one_instance_or_none_and_the_next_manager_finds_it(
    setting: Setting,
) -> None:
    record = setting.record()
    for turns in range(12):
        starting = asyncio.create_task(setting.driver.start(record, f"i{turns}", None))
        for _ in range(turns):
            await asyncio.sleep(0)
        starting.cancel()
        done = (await asyncio.gather(starting, return_exceptions=True))[0]
        assert setting.running() <= 1
        other = setting.another()
        adopted = await other.adopt(record, None)
        if not isinstance(done, BaseException):
            assert adopted is not None
            assert adopted.instance_id == done.instance_id
        if adopted is not None:
            await other.stop(adopted, 5)
        await other.close()
    assert setting.running() <= 1


async def test_a_stop_that_is_broken_off_can_be_asked_for_again(setting: Setting) -> None:
    for turns in (0, 1, 3, 8, 20):
        instance = await setting.driver.start(setting.record(), f"i{turns}", None)
        await setting.up(instance)
        stopping = asyncio.create_task(setting.driver.stop(instance, 5))
        for _ in range(turns):
            await asyncio.sleep(0)
        stopping.cancel()
        await asyncio.gather(stopping, return_exceptions=True)
        await setting.driver.stop(instance, 5)
        assert setting.running() == 0
        assert setting.settled()
