"""Starts, renews, stops, rolls back and adopts Cloud Run resources that somebody deployed."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, ClassVar, Final

import structlog

from agent_manager.drivers.cloud_run import changes
from agent_manager.drivers.cloud_run.api import AdminApi, OperationFailedError
from agent_manager.drivers.cloud_run.changes import Mark, Resource
from agent_manager.drivers.cloud_run.failures import AGAIN, NEVER, explained
from agent_manager.drivers.cloud_run.place import Place, place_of
from agent_manager.drivers.driver import Exit, ExitNotice, Instance, LaunchError, StopError
from schemas.state import AgentRecord, AgentState, DriverName
from service.instruments import LOOP_ERRORS

log = structlog.get_logger(__name__)

_ADOPT_S: Final = 5.0
"""A manager that starts waits this long for Google to say how an agent is; then it believes what it remembers."""
_SETTLING_S: Final = 0.5
"""How often a resource is looked at while Google is at work on it."""

Operating = Callable[[str, str, str | None], None]
"""Keeps the name of the operation under way for (tenant, agent), or None when it is over."""


@dataclass(frozen=True, slots=True)
class CloudRunInstance(Instance):
    """A service or worker pool with containers."""

    driver: ClassVar[DriverName] = "cloud_run"

    place: Place


@dataclass(frozen=True, slots=True)
class Revision:
    """One version that was deployed."""

    name: str
    created_at: datetime | None
    images: tuple[str, ...]
    ready: bool
    serving: bool


@dataclass(slots=True)
class _Watched:
    """What is known of an instance, kept fresh by its task."""

    ready: bool = False
    exit: Exit | None = None
    revision: str | None = None
    url: str | None = None
    task: asyncio.Task[None] | None = None


@dataclass(slots=True)
class CloudRunDriver:
    """Every agent is one resource; its instance is marked there."""

    api: AdminApi
    notice: ExitNotice
    operating: Operating
    clock: Callable[[], datetime]
    poll_s: float
    """Between looks at a resource with which nothing is going on."""
    _watched: dict[str, _Watched] = field(default_factory=dict)

    async def start(
        self, record: AgentRecord, instance_id: str, _: AgentState | None, *, restarted: str = ""
    ) -> CloudRunInstance:
        """Asks for containers; ``restarted``: by a new revision. Google's work on it is waited for by ``answers``."""
        place = place_of(record)
        assert record.cloud_run is not None
        count = record.cloud_run.instances
        mark = Mark(instance_id=instance_id, started_at=self.clock(), version=record.version)
        try:
            source = await self._pinned(place) if restarted else None

            def wanted(resource: Resource) -> changes.Change:
                if restarted:
                    return changes.renewed(resource, mark, count, source)
                return changes.started(resource, mark, count)

            resource, operation = await self.api.change(place, wanted)
        except (*AGAIN, *NEVER) as error:
            raise LaunchError(explained(error, place, "starting")) from error
        # From here to the watch nothing awaits: a cancelled start must not lose the operation.
        mark = changes.mark_of(resource) or mark
        instance = CloudRunInstance(
            record.tenant_id, record.agent_id, instance_id, mark.started_at, record.version, place
        )  # fmt: skip
        if operation is not None:
            self.operating(record.tenant_id, record.agent_id, operation)
        self._watch(instance, operation, resource, settled=operation is None and not resource.reconciling)
        return instance

    async def _pinned(self, place: Place) -> Any:
        """The revision that was rolled back to: a restart renews what serves, not what was found to be bad."""
        try:
            short = changes.pinned(await self.api.read(place))
        except AGAIN:
            short = changes.pinned((await self.api.change(place, lambda _: changes.Unchanged()))[0])
        return None if short is None else await self.api.revision(place, short)

    async def stop(self, instance: CloudRunInstance, _: float, *, restarting: str = "") -> Exit:
        """Asks for no container and waits until Google has ended them; Cloud Run kills 10 s after it asks.

        Before a restart nothing is done: the new revision takes over from the old one without a gap.
        """
        if restarting:
            self._forget(instance)
            return Exit(self.clock(), "makes room for a new revision")
        try:
            resource, operation = await self.api.change(instance.place, changes.stopped)
            if operation is not None:
                self.operating(instance.tenant_id, instance.agent_id, operation)
                await self.api.finished(operation)
            elif resource.reconciling:
                await self._settled(instance.place)
        except OperationFailedError as error:
            msg = f"stopping {instance.place.said}: {error}"
            raise StopError(msg) from error
        except (*AGAIN, *NEVER) as error:
            if getattr(error, "code", None) == 404:
                self._forget(instance)
                return Exit(self.clock(), "was already gone")
            raise StopError(explained(error, instance.place, "stopping")) from error
        self.operating(instance.tenant_id, instance.agent_id, None)
        self._forget(instance)
        return Exit(self.clock(), "scaled to no container")

    async def _settled(self, place: Place) -> Resource:
        """The resource once Google is done with it."""
        while True:
            resource = await self._read(place)
            if resource is not None and not resource.reconciling:
                return resource
            await asyncio.sleep(_SETTLING_S)

    async def _read(self, place: Place) -> Resource | None:
        """The resource; None when Google is away."""
        try:
            return await self.api.read(place)
        except AGAIN as error:
            log.info("cloud_run.unreadable", resource=place.name, error=str(error))
            return None

    def observe(self, instance: CloudRunInstance) -> Exit | None:
        """How it ended, as of the last look."""
        watched = self._watched.get(instance.instance_id)
        return Exit(self.clock(), "is not watched any more") if watched is None else watched.exit

    async def answers(self, instance: CloudRunInstance) -> bool:
        """Whether Google says that it is ready."""
        watched = self._watched.get(instance.instance_id)
        return watched is not None and watched.ready

    def told(self, instance: CloudRunInstance) -> dict[str, Any]:
        """Its resource, revision and address."""
        watched = self._watched.get(instance.instance_id) or _Watched()
        return {
            "pid": None,
            "process_created_at": None,
            "port": None,
            "proxy_port": None,
            "proxy_url": watched.url,
            "sidecar_url": None,
            "resource": instance.place.name,
            "revision": watched.revision,
            "logs_url": instance.place.logs_url,
        }

    async def adopt(self, record: AgentRecord, remembered: AgentState | None) -> CloudRunInstance | None:
        """What is marked as an instance and has containers, or is about to lose them; what is under way is waited for on.

        While Google is away what is remembered is believed.
        """
        try:
            place = place_of(record)
        except LaunchError:
            return None
        resource: Resource | None = None
        try:
            async with asyncio.timeout(_ADOPT_S):
                resource = await self.api.read(place)
        except (TimeoutError, *AGAIN, *NEVER) as error:
            log.warning("cloud_run.not_looked_at", agent_id=record.agent_id, reason=explained(error, place, "reading"))
            mark = _remembered(place, remembered)
        else:
            mark = changes.mark_of(resource)
            if changes.is_stopped(resource) and not resource.reconciling:
                if remembered is not None and remembered.operation is not None:
                    self.operating(record.tenant_id, record.agent_id, None)
                return None
        if mark is None:
            return None
        instance = CloudRunInstance(
            record.tenant_id, record.agent_id, mark.instance_id, mark.started_at, mark.version, place
        )  # fmt: skip
        settled = resource is not None and not resource.reconciling
        self._watch(instance, remembered.operation if remembered else None, resource, settled=settled)
        return instance

    def _watch(self, instance: CloudRunInstance, operation: str | None, resource: Resource | None, *, settled: bool) -> None:
        self._forget(instance)
        self._watched[instance.instance_id] = watched = _Watched()
        if resource is not None:
            watched.url = (changes.is_service(resource) and resource.uri) or None
            if settled:
                self._judge(instance, watched, resource)
        watched.task = asyncio.create_task(self._follow(instance, watched, operation), name=f"cloud-run-{instance.agent_id}")

    async def _follow(self, instance: CloudRunInstance, watched: _Watched, operation: str | None) -> None:
        """Waits for what is under way, then looks now and then, until it has ended."""
        while watched.exit is None:
            wait_s = self.poll_s
            try:
                if operation is not None:
                    await self.api.finished(operation)
                    operation = None
                    self.operating(instance.tenant_id, instance.agent_id, None)
                resource = await self._read(instance.place)
                if resource is None or resource.reconciling:
                    wait_s = _SETTLING_S
                else:
                    self._judge(instance, watched, resource)
            except OperationFailedError as error:
                self.operating(instance.tenant_id, instance.agent_id, None)
                self._ended(instance, watched, f"could not be brought up by Cloud Run: {error}")
            except NEVER as error:
                if getattr(error, "code", None) == 404:
                    self._ended(instance, watched, explained(error, instance.place, "watching"))
                else:
                    # Not being allowed to look says nothing about the agent.
                    log.error("cloud_run.unreadable", reason=explained(error, instance.place, "watching"))
            except Exception:
                LOOP_ERRORS.labels("cloud_run").inc()
                log.exception("cloud_run.watch_failed", resource=instance.place.name)
            await asyncio.sleep(0 if watched.exit is not None else wait_s)

    def _judge(self, instance: CloudRunInstance, watched: _Watched, resource: Resource) -> None:
        before = watched.ready, watched.revision, watched.url
        watched.revision = changes.serving(resource)
        watched.url = (changes.is_service(resource) and resource.uri) or None
        if changes.is_stopped(resource):
            self._ended(instance, watched, "was scaled to no container by somebody else")
        elif (failure := changes.failure_of(resource)) is not None:
            self._ended(instance, watched, f"is not ready, says Cloud Run: {failure}")
        else:
            watched.ready = True
        if before != (watched.ready, watched.revision, watched.url) and watched.exit is None:
            self.notice(instance)

    def _ended(self, instance: CloudRunInstance, watched: _Watched, reason: str) -> None:
        watched.exit, watched.ready = Exit(self.clock(), reason), False
        self.notice(instance)

    def _forget(self, instance: CloudRunInstance) -> None:
        watched = self._watched.pop(instance.instance_id, None)
        if watched is not None and watched.task is not None:
            watched.task.cancel()

    async def revisions(self, record: AgentRecord) -> list[Revision]:
        """Every revision, newest first; raises LaunchError."""
        place = place_of(record)
        try:
            found = await self.api.revisions(place)
            serves = changes.serving(await self.api.read(place))
        except (*AGAIN, *NEVER) as error:
            raise LaunchError(explained(error, place, "reading")) from error
        return [
            Revision(
                name=(short := one.name.rpartition("/")[2]),
                created_at=one.create_time,
                images=tuple(container.image for container in one.containers),
                ready=changes.is_ready(one),
                serving=short == serves,
            )
            for one in found
        ]

    async def rollback(self, record: AgentRecord, revision: str | None = None) -> str:
        """Sends everything to ``revision``, by default the ready one before that which serves; its name. Raises LaunchError."""
        place = place_of(record)
        if revision is None:
            known = await self.revisions(record)
            at = next((index for index, one in enumerate(known) if one.serving), -1)
            earlier = [one.name for one in known[at + 1 :] if one.ready]
            if not earlier:
                msg = f"rolling back {place.said}: there is no earlier revision that was ready. Deploy one first"
                raise LaunchError(msg)
            revision = earlier[0]
        chosen = revision
        try:
            if not changes.is_ready(await self.api.revision(place, chosen)):
                msg = f"rolling back {place.said}: revision {chosen!r} never became ready. Choose one that did"
                raise LaunchError(msg)
            _, operation = await self.api.change(place, lambda resource: changes.rolled_back(resource, chosen))
            if operation is not None:
                self.operating(record.tenant_id, record.agent_id, operation)
                await self.api.finished(operation)
                self.operating(record.tenant_id, record.agent_id, None)
        except OperationFailedError as error:
            msg = f"rolling back {place.said}: {error}"
            raise LaunchError(msg) from error
        except (*AGAIN, *NEVER) as error:
            raise LaunchError(explained(error, place, f"rolling back to revision {chosen!r} of")) from error
        return chosen

    async def close(self) -> None:
        """Stops watching; containers run on."""
        tasks = [watched.task for watched in self._watched.values() if watched.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._watched.clear()
        await self.api.close()


def _remembered(place: Place, state: AgentState | None) -> Mark | None:
    if state is None or state.resource != place.name or state.status not in {"starting", "running", "inactive"}:
        return None
    if state.instance_id is None or state.started_at is None:
        return None
    return Mark(instance_id=state.instance_id, started_at=state.started_at, version=state.version)
