"""Cloud Run: what is asked of Google, how its moods are borne, and what is said to the person who must mend something."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import grpc
import pytest

from agent_manager.drivers.cloud_run.api import AdminApi
from agent_manager.drivers.driver import LaunchError, StopError
from agent_manager.drivers.fake_cloud_run.answers import Trouble
from agent_manager.drivers.fake_cloud_run.cloud import Cloud
from agent_manager.drivers.fake_cloud_run.server import FakeCloudRun
from tests.agent_manager.driven import OnCloudRun, OnWorkerPool
from tests.conftest import until

UPDATE = {OnCloudRun: "Services.UpdateService", OnWorkerPool: "WorkerPools.UpdateWorkerPool"}


@pytest.fixture(params=[OnCloudRun, OnWorkerPool], ids=["service", "worker pool"])
async def setting(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[OnCloudRun]:
    async with FakeCloudRun(Cloud(operation_s=0.05)) as server:
        found: OnCloudRun = request.param(tmp_path, server)
        yield found
        await found.close()


@pytest.fixture
async def service(tmp_path: Path) -> AsyncIterator[OnCloudRun]:
    async with FakeCloudRun(Cloud(operation_s=0.05)) as server:
        found = OnCloudRun(tmp_path, server)
        yield found
        await found.close()


def masks(setting: OnCloudRun) -> list[list[str]]:
    return [list(request.update_mask.paths) for method, request in setting.server.cloud.calls if method == UPDATE[type(setting)]]


async def test_start_and_stop_set_the_number_of_containers_and_make_no_revision(setting: OnCloudRun) -> None:
    cloud = setting.server.cloud
    before = set(cloud.revisions)
    instance = await setting.driver.start(setting.record(), "i1", None)
    await setting.up(instance)
    assert cloud.containers(setting.resource) == 2
    await setting.driver.stop(instance, 5)
    assert cloud.containers(setting.resource) == 0
    assert set(cloud.revisions) == before
    assert masks(setting) == [["scaling", "annotations"], ["scaling"]]
    assert all(request.service.etag for method, request in cloud.calls if method == "Services.UpdateService")


async def test_a_restart_is_a_new_revision_of_the_same_image_under_its_own_name(setting: OnCloudRun) -> None:
    cloud = setting.server.cloud
    for number in (1, 2):
        instance = await setting.driver.start(setting.record(), f"run{number}", None, restarted="again")
        await setting.up(instance)
        assert cloud.serving(setting.resource) == {f"one-run{number}": 100}
    assert {one.containers[0].image for one in cloud.revisions.values()} == {"demo/agent:1"}


@pytest.mark.parametrize("code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.ABORTED])
@pytest.mark.parametrize("after_effect", [False, True], ids=["refused", "answer lost"])
async def test_what_google_turns_away_for_the_moment_is_asked_again_and_done_once(
    setting: OnCloudRun, code: grpc.StatusCode, after_effect: bool
) -> None:
    cloud = setting.server.cloud
    cloud.troubles.append(Trouble(UPDATE[type(setting)], code, times=2 if not after_effect else 1, after_effect=after_effect))
    cloud.troubles.append(Trouble("Operations.GetOperation", grpc.StatusCode.UNAVAILABLE, times=2))
    before = len(cloud.revisions)
    instance = await setting.driver.start(setting.record(), "i1", None, restarted="again")
    await setting.up(instance)
    assert len(cloud.revisions) == before + 1
    assert cloud.serving(setting.resource) == {"one-i1": 100}


async def test_a_change_by_somebody_else_in_between_is_kept(setting: OnCloudRun) -> None:
    cloud = setting.server.cloud
    read = cloud.get

    async def and_then_somebody_writes(kind: Any, request: Any) -> Any:
        answer = type(cloud.resources[setting.resource])()
        answer.CopyFrom(await read(kind, request))
        resource = cloud.resources[setting.resource]
        if "owner" not in resource.labels:
            resource.labels["owner"] = "somebody"
            resource.etag = '"theirs"'
        return answer

    async with FakeCloudRun(cast("Cloud", _Interrupted(cloud, and_then_somebody_writes))) as server:
        setting.server = server
        driver = setting.another()
        instance = await driver.start(setting.record(), "i1", None)
        await setting.up(instance, driver)
        await driver.close()
    assert cloud.resources[setting.resource].labels["owner"] == "somebody"
    assert cloud.containers(setting.resource) == 2


class _Interrupted:
    """A cloud of which one method is another."""

    def __init__(self, cloud: Cloud, get: Any) -> None:
        self._cloud, self.get = cloud, get

    def __getattr__(self, name: str) -> Any:
        return getattr(self._cloud, name)


@pytest.mark.parametrize(
    ("trouble", "said"),
    [
        (
            Trouble("*", grpc.StatusCode.PERMISSION_DENIED, "Permission 'run.services.get' denied", -1),
            r"lacks roles/run\.developer on project 'demo'",
        ),
        (
            Trouble("*", grpc.StatusCode.PERMISSION_DENIED, "Permission 'iam.serviceaccounts.actAs' denied on a@b.com", -1),
            r"lacks roles/iam\.serviceAccountUser on a@b\.com",
        ),
        (
            Trouble("*", grpc.StatusCode.PERMISSION_DENIED, "Cloud Run API is off", -1, reason="SERVICE_DISABLED"),
            r"gcloud services enable run\.googleapis\.com --project demo",
        ),
        (Trouble("*", grpc.StatusCode.NOT_FOUND, "no such thing", -1), r"Deploy it once, .* lacks roles/run\.developer"),
        (Trouble("*", grpc.StatusCode.INVALID_ARGUMENT, "bad mask", -1), r"refused \(.*bad mask"),
    ],
)
async def test_what_google_refuses_is_explained_with_what_helps(setting: OnCloudRun, trouble: Trouble, said: str) -> None:
    setting.server.cloud.troubles.append(replace(trouble))
    with pytest.raises(LaunchError, match=said):
        await setting.driver.start(setting.record(), "i1", None)


async def test_a_stop_that_is_refused_says_so_and_the_agent_is_known_to_run_on(setting: OnCloudRun) -> None:
    instance = await setting.driver.start(setting.record(), "i1", None)
    await setting.up(instance)
    setting.server.cloud.troubles.append(Trouble(UPDATE[type(setting)], grpc.StatusCode.PERMISSION_DENIED, "no"))
    with pytest.raises(StopError, match=r"roles/run\.developer"):
        await setting.driver.stop(instance, 5)
    assert setting.driver.observe(instance) is None
    assert setting.running() == 1


async def test_patience_with_google_ends_and_says_so(setting: OnCloudRun) -> None:
    driver = setting.another()
    driver.api = AdminApi(setting.server.target, 0.3)
    setting.server.cloud.troubles.append(Trouble("*", grpc.StatusCode.UNAVAILABLE, "try later", -1))
    with pytest.raises(LaunchError, match="Trying again helps"):
        await driver.start(setting.record(), "i1", None)
    await driver.close()


async def test_a_revision_that_never_becomes_ready_ends_the_instance_with_googles_reason(setting: OnCloudRun) -> None:
    setting.server.cloud.failing_revisions.append("The user-provided container failed to start and listen on PORT=8080.")
    instance = await setting.driver.start(setting.record(), "i1", None, restarted="again")
    await until(lambda: setting.driver.observe(instance) is not None, "the failure is seen")
    exit_ = setting.driver.observe(instance)
    assert exit_ is not None
    assert "failed to start and listen on PORT=8080" in exit_.reason


async def test_an_operation_is_waited_for_by_the_next_manager(setting: OnCloudRun) -> None:
    setting.server.cloud.operation_s = 0.8
    record = setting.record()
    instance = await setting.driver.start(record, "i1", None, restarted="again")
    (operation,) = setting.operations
    assert operation is not None
    remembered = setting.state(instance).model_copy(update={"operation": operation})
    await setting.driver.close()

    setting.server.cloud.calls.clear()
    setting.driver = other = setting.another()
    adopted = await other.adopt(record, remembered)
    assert adopted is not None
    assert adopted.instance_id == "i1"
    assert not await other.answers(adopted)
    await setting.up(adopted)
    asked = {request.name for method, request in setting.server.cloud.calls if method == "Operations.GetOperation"}
    assert asked == {operation}
    assert setting.operations[-1] is None
    assert setting.server.cloud.count(UPDATE[type(setting)]) == 0


async def test_a_stop_that_a_killed_manager_had_begun_is_seen_through_by_the_next(setting: OnCloudRun) -> None:
    record = setting.record()
    instance = await setting.driver.start(record, "i1", None)
    await setting.up(instance)
    setting.server.cloud.operation_s = 0.8
    stopping = asyncio.create_task(setting.driver.stop(instance, 5))
    await until(lambda: setting.running() == 0, "Google was asked")
    await until(lambda: setting.operations[-1] is not None, "the operation is kept")
    remembered = setting.state(instance).model_copy(update={"operation": setting.operations[-1]})
    stopping.cancel()
    await asyncio.gather(stopping, return_exceptions=True)
    other = setting.another()
    adopted = await other.adopt(record, remembered)
    assert adopted is not None
    assert (await other.stop(adopted, 5)).reason == "scaled to no container"
    assert setting.settled()
    assert setting.operations[-1] is None
    assert await other.adopt(record, remembered) is None
    await other.close()


async def test_while_google_is_away_the_next_manager_believes_what_it_remembers(setting: OnCloudRun) -> None:
    record = setting.record()
    instance = await setting.driver.start(record, "i1", None)
    await setting.up(instance)
    trouble = Trouble("*", grpc.StatusCode.UNAVAILABLE, "away", -1)
    setting.server.cloud.troubles.append(trouble)
    other = setting.another()
    adopted = await other.adopt(record, setting.state(instance))
    assert adopted is not None
    assert adopted.instance_id == "i1"
    assert other.observe(adopted) is None
    trouble.times = 0
    await setting.up(adopted, other)
    await other.close()


async def test_a_rollback_sends_everything_to_the_revision_before_and_a_restart_renews_that_one(setting: OnCloudRun) -> None:
    cloud = setting.server.cloud
    driver = setting.another()
    first = await driver.start(setting.record(), "good", None, restarted="deploy")
    await setting.up(first, driver)
    cloud.resources[setting.resource].template.containers[0].image = "demo/agent:bad"
    bad = await driver.start(setting.record(), "bad", None, restarted="deploy")
    await setting.up(bad, driver)
    assert cloud.serving(setting.resource) == {"one-bad": 100}
    known = await driver.revisions(setting.record())
    assert [(one.name, one.serving, one.ready) for one in known][:2] == [("one-bad", True, True), ("one-good", False, True)]

    assert await driver.rollback(setting.record()) == "one-good"
    assert cloud.serving(setting.resource) == {"one-good": 100}
    again = await driver.start(setting.record(), "again", None, restarted="it hung")
    await setting.up(again, driver)
    assert cloud.serving(setting.resource) == {"one-again": 100}
    assert cloud.revisions[f"{setting.resource}/revisions/one-again"].containers[0].image == "demo/agent:1"
    with pytest.raises(LaunchError, match="not found"):
        await driver.rollback(setting.record(), "one-unknown")
    await driver.close()


async def test_a_service_that_somebody_deleted_has_ended(service: OnCloudRun) -> None:
    instance = await service.driver.start(service.record(), "i1", None)
    await service.up(instance)
    del service.server.cloud.resources[service.resource]
    await until(lambda: service.driver.observe(instance) is not None, "the loss is seen")
    assert (await service.driver.stop(instance, 1)).reason == "was already gone"
    service.server.cloud.deploy(service.resource)


async def test_where_it_runs_is_told_with_its_address_and_its_logs(service: OnCloudRun) -> None:
    instance = await service.driver.start(service.record(), "i1", None)
    await service.up(instance)
    told = service.driver.told(instance)
    assert told["resource"] == service.resource
    assert told["proxy_url"] == "https://one-fake.a.run.app"
    assert told["revision"] in service.server.cloud.serving(service.resource)
    assert told["logs_url"].startswith("https://console.cloud.google.com/logs/query;query=resource.type")
    assert told["pid"] is None


async def test_two_managers_that_write_at_once_lose_nothing_of_each_other(service: OnCloudRun) -> None:
    drivers = [service.another() for _ in range(4)]
    await asyncio.gather(*(driver.start(service.record(), f"i{number}", None) for number, driver in enumerate(drivers)))
    assert service.server.cloud.containers(service.resource) == 2
    await asyncio.gather(*(driver.close() for driver in drivers))
