"""What the stand-in remembers, and how it comes to be as asked: by operations that take time."""

import asyncio
import itertools
import uuid
from collections import deque
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.cloud import run_v2
from google.longrunning import operations_pb2
from google.protobuf import empty_pb2
from google.rpc import status_pb2

from agent_manager.drivers.fake_cloud_run import merging
from agent_manager.drivers.fake_cloud_run.answers import Refusal, Trouble, conflict, not_found, packed
from agent_manager.drivers.fake_cloud_run.kinds import OUTPUT_ONLY, SERVICES, Kind, kind_of

_STATE = run_v2.Condition.State
_MANUAL = run_v2.ServiceScaling.ScalingMode.MANUAL


@dataclass(slots=True)
class Cloud:
    """Every resource of every project."""

    operation_s: float = 1.0
    """How long an operation takes."""
    resources: dict[str, Any] = field(default_factory=dict)
    revisions: dict[str, Any] = field(default_factory=dict)
    operations: dict[str, Any] = field(default_factory=dict)
    troubles: list[Trouble] = field(default_factory=list)
    failing_revisions: deque[str] = field(default_factory=deque)
    """The next revision never becomes ready, for this reason."""
    calls: list[tuple[str, Any]] = field(default_factory=list)
    """Every call that came, with its request."""
    _etags: "itertools.count[int]" = field(default_factory=lambda: itertools.count(1))
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def took(self, method: str, request: Any) -> Trouble | None:
        """Notes a call; the trouble that it meets."""
        self.calls.append((method, request))
        return next((one for one in self.troubles if one.takes(method)), None)

    def count(self, method: str) -> int:
        """How often ``method`` was called."""
        return sum(name == method for name, _ in self.calls)

    def deploy(self, name: str, image: str = "demo/agent:1") -> Any:
        """A resource that is ready, as somebody would have deployed it; started and with a first revision."""
        kind = kind_of(name)
        resource = kind.raw(name=name, uid=str(uuid.uuid4()))
        resource.template.containers.add(image=image, name="agent")
        resource.create_time.GetCurrentTime()
        self.resources[name] = resource
        revision = self._changed(resource, old=None)
        self._become(kind, resource, resource.generation, revision, None)
        return resource

    def containers(self, name: str) -> int:
        """How many containers of ``name`` would run."""
        resource = self.resources[name]
        if kind_of(name) is SERVICES and resource.scaling.scaling_mode != _MANUAL:
            return int(resource.scaling.min_instance_count)
        return int(resource.scaling.manual_instance_count) if resource.scaling.HasField("manual_instance_count") else 1

    def serving(self, name: str) -> dict[str, int]:
        """Which revision of ``name`` has which share."""
        return {one.revision: one.percent for one in getattr(self.resources[name], kind_of(name).shares)}

    def _need(self, name: str) -> Any:
        if name not in self.resources:
            raise not_found(name)
        return self.resources[name]

    async def get(self, _: Kind, request: Any) -> Any:
        """One resource."""
        return self._need(request.name)

    async def listed(self, kind: Kind, request: Any) -> Any:
        """All of a place, in pages."""
        names = sorted(name for name in self.resources if name.startswith(f"{request.parent}/{kind.collection}/"))
        answer = getattr(run_v2, f"List{kind.one}sResponse").pb()()
        return _paged(answer, f"{kind.field}s", [self.resources[name] for name in names], request)

    async def create(self, kind: Kind, request: Any) -> Any:
        """A new one; its operation."""
        name = f"{request.parent}/{kind.collection}/{getattr(request, f'{kind.field}_id')}"
        if name in self.resources:
            raise Refusal(grpc.StatusCode.ALREADY_EXISTS, f"Resource '{name.rpartition('/')[2]}' already exists.")
        resource = kind.raw()
        resource.CopyFrom(getattr(request, kind.field))
        for each in OUTPUT_ONLY & set(resource.DESCRIPTOR.fields_by_name):
            resource.ClearField(each)
        merging.check(kind, resource)
        resource.name, resource.uid = name, str(uuid.uuid4())
        resource.create_time.GetCurrentTime()
        self.resources[name] = resource
        return self._begin(kind, resource, self._changed(resource, old=None))

    async def update(self, kind: Kind, request: Any) -> Any:
        """Read, modified, written; its operation."""
        given = getattr(request, kind.field)
        current = self._need(given.name)
        if given.etag and given.etag != current.etag:
            raise conflict(given.name, given.etag, current.etag)
        new = merging.merged(kind, current, given, list(request.update_mask.paths))
        merging.check(kind, new)
        merging.check_revision(new, current, self.revisions)
        old = kind.raw()
        old.CopyFrom(current)
        current.CopyFrom(new)
        forced = bool(getattr(request, "force_new_revision", False))
        return self._begin(kind, current, self._changed(current, old=None if forced else old))

    async def delete(self, _: Kind, request: Any) -> Any:
        """Gone, with its revisions."""
        resource = self._need(request.name)
        if request.etag and request.etag != resource.etag:
            raise conflict(request.name, request.etag, resource.etag)
        del self.resources[request.name]
        self.revisions = {name: one for name, one in self.revisions.items() if not name.startswith(f"{request.name}/")}
        operation = self._operation(resource)
        operation.done = True
        operation.response.CopyFrom(packed(resource))
        return operation

    def _changed(self, resource: Any, *, old: Any) -> str | None:
        """Numbers the change; the revision that it makes, if it does."""
        resource.generation += 1
        resource.update_time.GetCurrentTime()
        resource.etag = f'"etag-{next(self._etags)}"'
        resource.reconciling = True
        resource.terminal_condition.type_ = "Ready"
        resource.terminal_condition.state = _STATE.CONDITION_RECONCILING
        if old is not None and resource.template == old.template:
            return None
        short = resource.name.rpartition("/")[2]
        made = sum(name.startswith(f"{resource.name}/") for name in self.revisions)
        name = f"{resource.name}/revisions/{resource.template.revision or f'{short}-{made + 1:05d}-{uuid.uuid4().hex[:3]}'}"
        revision = run_v2.Revision.pb()(name=name, uid=str(uuid.uuid4()), service=resource.name, reconciling=True)
        revision.create_time.GetCurrentTime()
        for each, field_ in resource.template.DESCRIPTOR.fields_by_name.items():
            if each == "revision" or each not in revision.DESCRIPTOR.fields_by_name:
                continue
            value = getattr(resource.template, each)
            if field_.is_repeated:
                getattr(revision, each).MergeFrom(value)
            elif field_.message_type is None:
                setattr(revision, each, value)
            elif resource.template.HasField(each):
                getattr(revision, each).CopyFrom(value)
        self.revisions[name] = revision
        resource.latest_created_revision = name
        return name

    def _operation(self, resource: Any) -> Any:
        place = "/".join(resource.name.split("/")[:4])
        operation = operations_pb2.Operation(name=f"{place}/operations/{uuid.uuid4()}")
        operation.metadata.CopyFrom(packed(resource))
        self.operations[operation.name] = operation
        return operation

    def _begin(self, kind: Kind, resource: Any, revision: str | None) -> Any:
        operation = self._operation(resource)
        failure = self.failing_revisions.popleft() if revision and self.failing_revisions else None
        work = self._reconcile(kind, resource.name, resource.generation, revision, operation, failure)
        task = asyncio.create_task(work, name=f"fake-{operation.name}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return operation

    async def _reconcile(
        self, kind: Kind, name: str, generation: int, revision: str | None, operation: Any, failure: str | None
    ) -> None:
        await asyncio.sleep(self.operation_s)
        resource = self.resources.get(name)
        failed = "deleted meanwhile" if resource is None else self._become(kind, resource, generation, revision, failure)
        operation.done = True
        if failed:
            operation.error.CopyFrom(status_pb2.Status(code=9, message=failed))
        else:
            operation.response.CopyFrom(packed(resource))

    def _become(self, kind: Kind, resource: Any, generation: int, revision: str | None, failure: str | None) -> str | None:
        """What was asked for comes true, or does not: why."""
        if revision is not None:
            made = self.revisions[revision]
            made.reconciling = False
            state = _STATE.CONDITION_FAILED if failure else _STATE.CONDITION_SUCCEEDED
            made.conditions.add(type_="Ready", state=state, message=failure or "")
            if not failure:
                resource.latest_ready_revision = revision
        split = list(getattr(resource, kind.split))
        for one in split:
            if one.type_ == kind.by_revision and f"{resource.name}/revisions/{one.revision}" not in self.revisions:
                failure = failure or f"Revision '{one.revision}' does not exist and cannot serve traffic."
        if not failure:
            resource.ClearField(kind.shares)
            latest = resource.latest_ready_revision.rpartition("/")[2]
            for one in split:
                name = one.revision if one.type_ == kind.by_revision else latest
                getattr(resource, kind.shares).add(type_=one.type_, revision=name, percent=one.percent)
            if not split:
                getattr(resource, kind.shares).add(type_=kind.latest, revision=latest, percent=100)
        if resource.generation == generation:
            resource.reconciling = False
            resource.observed_generation = generation
            resource.terminal_condition.state = _STATE.CONDITION_FAILED if failure else _STATE.CONDITION_SUCCEEDED
            resource.terminal_condition.message = failure or ""
            resource.terminal_condition.last_transition_time.GetCurrentTime()
        if kind is SERVICES and not resource.uri:
            resource.uri = f"https://{resource.name.rpartition('/')[2]}-fake.a.run.app"
        return failure

    async def revision(self, request: Any) -> Any:
        """One revision."""
        if request.name not in self.revisions:
            raise not_found(request.name)
        return self.revisions[request.name]

    async def listed_revisions(self, request: Any) -> Any:
        """Revisions, newest first, in pages."""
        found = [one for name, one in self.revisions.items() if name.startswith(f"{request.parent}/revisions/")]
        return _paged(run_v2.ListRevisionsResponse.pb()(), "revisions", found[::-1], request)

    async def operation(self, request: Any) -> Any:
        """How far one is."""
        if request.name not in self.operations:
            raise not_found(request.name)
        return self.operations[request.name]

    async def forgotten(self, request: Any) -> Any:
        """An operation is no longer known."""
        self.operations.pop(request.name, None)
        return empty_pb2.Empty()

    async def close(self) -> None:
        """Nothing comes true any more."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _paged(answer: Any, name: str, found: list[Any], request: Any) -> Any:
    start, size = int(request.page_token or 0), request.page_size or 100
    getattr(answer, name).extend(found[start : start + size])
    if start + size < len(found):
        answer.next_page_token = str(start + size)
    return answer
