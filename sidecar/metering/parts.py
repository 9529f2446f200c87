"""The metering proxy of one sidecar, put together."""

import asyncio
from collections.abc import Coroutine, Mapping
from pathlib import Path
from typing import Any

from aiohttp import web
from nats.aio.client import Client

from schemas.policies import PolicyFlag
from sidecar.denials import Denials
from sidecar.enforcement import Enforcer
from sidecar.flags import FlagWatch
from sidecar.intake import Intake
from sidecar.metering.calls import Owner
from sidecar.metering.door import MeteringDoor
from sidecar.metering.meter import Meter
from sidecar.metering.providers import Upstream
from sidecar.metering.telling import Telling
from sidecar.metering.usage import Extractors
from sidecar.policies import Policies
from streams.topology import POLICY_FLAGS


class Metering:
    """What an app opens, runs and closes."""

    def __init__(
        self,
        upstreams: Mapping[str, Upstream],
        owner: Owner,
        enforcer: Enforcer,
        denials: Denials,
        intake: Intake,
        directory: Path,
    ) -> None:
        self._upstreams = upstreams
        tenant = owner.tenant
        self._tenant = tenant.tenant_id
        self._policies = Policies(
            tenant.tenant_id,
            owner.agent_id,
            workspace=tenant.workspace_id,
            project=tenant.project_id,
            path=directory / "policies.json",
        )
        self._telling = Telling(intake, tenant.tenant_id, owner.agent_id)
        self._meter = Meter(owner, Extractors(), self._telling.tell)
        self._door = MeteringDoor(self._upstreams, self._meter, tenant.tenant_id, enforcer, denials, self._policies)

    def application(self) -> web.Application:
        """The door; run it with ``auto_decompress=False`` and ``handler_cancellation=True``."""
        return self._door.application()

    def environment(self, address: str) -> dict[str, str]:
        """What an agent is told of its providers, where the door listens at ``address``."""
        return {
            variable: f"{address}{upstream.told_path}"
            for upstream in self._upstreams.values()
            for variable in upstream.route.variables
        }

    def works(self) -> list[tuple[Coroutine[Any, Any, None], str]]:
        """What runs as long as the sidecar does."""
        return [(self._telling.run(), "metering-telling"), (self._door.run(), "metering")]

    async def follow(self, client: Client) -> None:
        """Follows the policies until cancelled."""
        await FlagWatch(self._tenant, POLICY_FLAGS, PolicyFlag, self._policies).run(client)

    async def close(self) -> None:
        """Everything is told: the door is shut already."""
        self._meter.tidy(asyncio.get_running_loop().time(), last=True)
        await self._telling.flush()
