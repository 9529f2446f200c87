"""The Admin API with what its clients lack: updates that are decided anew after a conflict, and patience with Google."""

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

import grpc
import structlog
from google.api_core import exceptions
from google.cloud import run_v2
from google.cloud.run_v2.services.revisions.transports import RevisionsGrpcAsyncIOTransport
from google.cloud.run_v2.services.services.transports import ServicesGrpcAsyncIOTransport
from google.cloud.run_v2.services.worker_pools.transports import WorkerPoolsGrpcAsyncIOTransport
from google.longrunning import operations_pb2
from google.protobuf import field_mask_pb2

from agent_manager.drivers.cloud_run.changes import Change, Resource, Unchanged
from agent_manager.drivers.cloud_run.failures import AGAIN
from agent_manager.drivers.cloud_run.place import Place

log = structlog.get_logger(__name__)

_CALL_S: Final = 20.0
"""One call to Google."""
_FIRST_WAIT_S: Final = 0.2
_LONGEST_WAIT_S: Final = 8.0


class OperationFailedError(Exception):
    """Google gave up on an operation; asking for the same again fails again."""


@dataclass(slots=True)
class AdminApi:
    """``endpoint``: where an API without logins answers; None: Google's own, with the machine's login."""

    endpoint: str | None
    patience_s: float
    """A call that may succeed later is repeated for this long."""
    _clients: dict[type, Any] = field(default_factory=dict)
    _channel: grpc.aio.Channel | None = None

    def _client(self, of: type[Any], transport: Any) -> Any:
        if of not in self._clients:
            if self.endpoint is None:
                self._clients[of] = of()
            else:
                self._channel = self._channel or grpc.aio.insecure_channel(self.endpoint)
                self._clients[of] = of(transport=transport(channel=self._channel))
        return self._clients[of]

    @property
    def _services(self) -> Any:
        return self._client(run_v2.ServicesAsyncClient, ServicesGrpcAsyncIOTransport)

    @property
    def _worker_pools(self) -> Any:
        return self._client(run_v2.WorkerPoolsAsyncClient, WorkerPoolsGrpcAsyncIOTransport)

    @property
    def _revisions(self) -> Any:
        return self._client(run_v2.RevisionsAsyncClient, RevisionsGrpcAsyncIOTransport)

    async def read(self, place: Place) -> Resource:
        """The resource as it is now; one call, no repeats."""
        if place.kind == "service":
            return await self._services.get_service(name=place.name, timeout=_CALL_S, retry=None)
        return await self._worker_pools.get_worker_pool(name=place.name, timeout=_CALL_S, retry=None)

    async def change(self, place: Place, decide: Callable[[Resource], Change]) -> tuple[Resource, str | None]:
        """Reads, edits and writes with the etag that was read, until it holds; the resource and the operation begun.

        After a conflict or a lost answer it looks again before it asks again, so nothing is done twice.
        """

        async def once() -> tuple[Resource, str | None]:
            resource = await self.read(place)
            changed = decide(resource)
            if isinstance(changed, Unchanged):
                return resource, None
            mask = field_mask_pb2.FieldMask(paths=changed.mask)
            if place.kind == "service":
                request = run_v2.UpdateServiceRequest(service=resource, update_mask=mask)
                begun = await self._services.update_service(request=request, timeout=_CALL_S, retry=None)
            else:
                of_pool = run_v2.UpdateWorkerPoolRequest(worker_pool=resource, update_mask=mask)
                begun = await self._worker_pools.update_worker_pool(request=of_pool, timeout=_CALL_S, retry=None)
            return resource, begun.operation.name

        done: tuple[Resource, str | None] = await self._persistent(once, place)
        return done

    async def revisions(self, place: Place) -> list[Any]:
        """Every revision, newest first."""

        async def once() -> list[Any]:
            pager = await self._revisions.list_revisions(parent=place.name, timeout=_CALL_S, retry=None)
            return [one async for one in pager]

        found: list[Any] = await self._persistent(once, place)
        return sorted(found, key=lambda one: one.create_time, reverse=True)

    async def revision(self, place: Place, short: str) -> Any:
        """One revision of it."""
        name = f"{place.name}/revisions/{short}"
        return await self._persistent(lambda: self._revisions.get_revision(name=name, timeout=_CALL_S, retry=None), place)

    async def finished(self, operation: str) -> None:
        """Waits until ``operation`` is over, for ever if need be; raises OperationFailedError.

        One that Google no longer knows is over: what became of it is seen at its resource.
        """
        wait_s = _FIRST_WAIT_S
        while True:
            try:
                request = operations_pb2.GetOperationRequest(name=operation)
                found = await self._services.get_operation(request, timeout=_CALL_S)
            except exceptions.NotFound:
                return
            except AGAIN as error:
                log.debug("operation.asked_again", operation=operation, error=repr(error))
            else:
                if found.done:
                    if found.HasField("error"):
                        raise OperationFailedError(found.error.message or f"code {found.error.code}")
                    return
            await asyncio.sleep(wait_s * random.uniform(0.8, 1.2))
            wait_s = min(wait_s * 1.5, _LONGEST_WAIT_S)

    async def _persistent(self, once: Callable[[], Any], place: Place) -> Any:
        deadline = asyncio.get_running_loop().time() + self.patience_s
        wait_s = _FIRST_WAIT_S
        while True:
            try:
                return await once()
            except AGAIN as error:
                if asyncio.get_running_loop().time() + wait_s > deadline:
                    raise
                log.info("cloud_run.asked_again", resource=place.name, error=str(error), in_s=round(wait_s, 2))
            await asyncio.sleep(wait_s * random.uniform(0.5, 1.0))
            wait_s = min(wait_s * 2, _LONGEST_WAIT_S)

    async def close(self) -> None:
        """Lets go of the connections."""
        if self._channel is not None:
            await self._channel.close()
        else:
            for client in self._clients.values():
                await client.transport.close()
        self._clients.clear()
        self._channel = None
