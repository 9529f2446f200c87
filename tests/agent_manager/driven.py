"""What the drivers' one suite asks of every driver: how it is made, how an agent ends by itself, and what is left of it."""

import os
import signal
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from agent_manager.drivers import groups
from agent_manager.drivers.cloud_run.api import AdminApi
from agent_manager.drivers.cloud_run.driver import CloudRunDriver
from agent_manager.drivers.driver import Driver, Instance
from agent_manager.drivers.fake_cloud_run.server import FakeCloudRun
from agent_manager.drivers.local import LocalDriver
from schemas.state import AgentRecord, AgentState, CloudRunConfig
from tests.agent_manager.world import line
from tests.conftest import until

PLACE = "projects/demo/locations/europe-west1"


def now() -> datetime:
    return datetime.now(UTC)


class Setting(ABC):
    """One driver, and the world it acts on."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.noticed: list[str] = []
        self.operations: list[str | None] = []
        self.driver = self.another()

    def notice(self, instance: Instance) -> None:
        self.noticed.append(instance.instance_id)

    @abstractmethod
    def another(self) -> Driver[Any]:
        """A driver as the next manager would have it."""

    @abstractmethod
    def record(self, **changes: Any) -> AgentRecord:
        """An agent."""

    @abstractmethod
    def unstartable(self) -> tuple[AgentRecord, str]:
        """One that cannot be started, and what must be said about it."""

    @abstractmethod
    def running(self) -> int:
        """How many instances there really are."""

    @abstractmethod
    def ends(self, instance: Instance) -> None:
        """The instance ends by itself."""

    @abstractmethod
    def ending(self) -> str:
        """The reason that is then given."""

    @abstractmethod
    def settled(self) -> bool:
        """Whether nothing is under way."""

    async def close(self) -> None:
        await self.driver.close()

    async def up(self, instance: Instance, driver: Driver[Any] | None = None) -> None:
        async def answers() -> bool:
            return await (driver or self.driver).answers(instance)

        await until(answers, "it has come up", 20)

    def state(self, instance: Instance) -> AgentState:
        """What the manager would remember of it."""
        return AgentState(
            agent_id=instance.agent_id, tenant_id=instance.tenant_id, desired="running", status="running", version=instance.version,
            instance_id=instance.instance_id, started_at=instance.started_at, updated_at=now(), **self.driver.told(instance),
        )  # fmt: skip


class Local(Setting):
    """Processes, led by a stand-in for the sidecar."""

    def another(self) -> Driver[Any]:
        return LocalDriver(self.folder / "data", dict(os.environ), {}, self.notice, line)

    def record(self, **changes: Any) -> AgentRecord:
        given: dict[str, Any] = {
            "agent_id": "one", "tenant_id": "acme", "name": "One", "version": "1", "command": (sys.executable,),
            "working_directory": str(self.folder), "updated_at": now(), "updated_by": "test",
        }  # fmt: skip
        return AgentRecord(**(given | changes))

    def unstartable(self) -> tuple[AgentRecord, str]:
        return self.record(working_directory=str(self.folder / "gone")), "does not exist"

    def _group(self) -> str:
        return groups.group_name("acme", "one", groups.home(self.folder / "data"))

    def running(self) -> int:
        return sum(member.leads for member in groups.members(self._group()))

    def ends(self, instance: Instance) -> None:
        (leader,) = [member.pid for member in groups.members(self._group()) if member.leads]
        os.kill(leader, signal.SIGKILL)

    def ending(self) -> str:
        return "killed by SIGKILL"

    def settled(self) -> bool:
        return True

    async def close(self) -> None:
        await super().close()
        groups.clear(self._group())


class OnCloudRun(Setting):
    """A resource at the stand-in for Cloud Run."""

    resource = f"{PLACE}/services/one"
    named: dict[str, Any] = {"service": "one"}

    def __init__(self, folder: Path, server: FakeCloudRun) -> None:
        self.server = server
        server.cloud.deploy(self.resource)
        super().__init__(folder)

    def another(self) -> CloudRunDriver:
        def operating(tenant: str, agent: str, operation: str | None) -> None:
            self.operations.append(operation)

        return CloudRunDriver(AdminApi(self.server.target, 10.0), self.notice, operating, now, 0.1)

    def record(self, **changes: Any) -> AgentRecord:
        config = CloudRunConfig(project="demo", region="europe-west1", instances=2, **self.named)
        given: dict[str, Any] = {
            "agent_id": "one", "tenant_id": "acme", "name": "One", "version": "1", "driver": "cloud_run", "cloud_run": config,
            "working_directory": str(self.folder), "updated_at": now(), "updated_by": "test",
        }  # fmt: skip
        return AgentRecord(**(given | changes))

    def unstartable(self) -> tuple[AgentRecord, str]:
        config = CloudRunConfig(project="demo", region="europe-west1", **{name: cast("Any", "other") for name in self.named})
        return self.record(cloud_run=config), "not found"

    def running(self) -> int:
        return int(self.server.cloud.containers(self.resource) > 0)

    def ends(self, instance: Instance) -> None:
        resource = self.server.cloud.resources[self.resource]
        resource.scaling.Clear()
        resource.scaling.manual_instance_count = 0
        if "services" in self.resource:
            resource.scaling.scaling_mode = 2

    def ending(self) -> str:
        return "scaled to no container by somebody else"

    def settled(self) -> bool:
        return not self.server.cloud.resources[self.resource].reconciling


class OnWorkerPool(OnCloudRun):
    """The same for an agent that only consumes."""

    resource = f"{PLACE}/workerPools/one"
    named: dict[str, Any] = {"worker_pool": "one"}


SETTINGS: dict[str, Callable[[Path, FakeCloudRun], Setting]] = {
    "local": lambda folder, _: Local(folder),
    "service": OnCloudRun,
    "worker pool": OnWorkerPool,
}
