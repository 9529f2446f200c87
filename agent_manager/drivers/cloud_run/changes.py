"""What is changed of a resource to start, renew, stop or roll back an agent, and what is read out of it.

Changes edit the full resource as it was read and say which fields an update names. The mark of the instance is an
annotation of the resource: it says across a crash of the manager whether what was asked for has happened.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from google.cloud import run_v2
from pydantic import BaseModel, ConfigDict, ValidationError

Resource = Any
"""A ``run_v2.Service`` or ``run_v2.WorkerPool``."""

MARK: Final = "agentops.dev/instance"
"""Of the resource: which instance runs there. Of a template: for which instance a revision was made."""

_MANUAL: Final = run_v2.ServiceScaling.ScalingMode.MANUAL
_OF_TRAFFIC: Final = run_v2.TrafficTargetAllocationType
_OF_SPLITS: Final = run_v2.InstanceSplitAllocationType
_GOOGLES: Final = ("run.googleapis.com", "cloud.googleapis.com", "serving.knative.dev", "autoscaling.knative.dev")
"""Namespaces of annotations that Google alone writes."""


class Mark(BaseModel):
    """Which run of the agent a resource is."""

    model_config = ConfigDict(frozen=True)

    instance_id: str
    started_at: datetime
    version: str


@dataclass(frozen=True, slots=True)
class Unchanged:
    """It is as wanted already."""


@dataclass(frozen=True, slots=True)
class Changed:
    """These fields are to be written."""

    mask: tuple[str, ...]


Change = Unchanged | Changed


def mark_of(resource: Resource) -> Mark | None:
    """Which instance it is marked as."""
    try:
        return Mark.model_validate_json(resource.annotations.get(MARK, ""))
    except ValidationError:
        return None


def is_service(resource: Resource) -> bool:
    """Whether it is a service, else a worker pool."""
    return isinstance(resource, run_v2.Service)


def instances_of(resource: Resource) -> int | None:
    """How many containers are asked for; None where Google scales by load."""
    scaling = resource.scaling
    if is_service(resource) and scaling.scaling_mode != _MANUAL:
        return None
    # An unset count is one container, a count of nothing none.
    return int(scaling.manual_instance_count) if "manual_instance_count" in scaling else 1


def is_stopped(resource: Resource) -> bool:
    """Whether no container is asked for. A minimum of none is no stop: a request would start one."""
    return instances_of(resource) == 0


def failure_of(resource: Resource) -> str | None:
    """Why it is not ready, where Google has given up making it so."""
    if resource.reconciling or resource.terminal_condition.state != run_v2.Condition.State.CONDITION_FAILED:
        return None
    return resource.terminal_condition.message or "it is not ready"


def serving(resource: Resource) -> str | None:
    """Short name of the revision with the greatest share."""
    split = resource.traffic_statuses if is_service(resource) else resource.instance_split_statuses
    chosen = max(split, key=lambda one: one.percent, default=None)
    name = chosen.revision if chosen is not None else ""
    return name or resource.latest_ready_revision.rpartition("/")[2] or None


def pinned(resource: Resource) -> str | None:
    """The revision that everything was sent to by name; None where the latest serves."""
    if is_service(resource):
        targets, by_name = resource.traffic, _OF_TRAFFIC.TRAFFIC_TARGET_ALLOCATION_TYPE_REVISION
    else:
        targets, by_name = resource.instance_splits, _OF_SPLITS.INSTANCE_SPLIT_ALLOCATION_TYPE_REVISION
    named = [one for one in targets if one.type_ == by_name and one.percent]
    return max(named, key=lambda one: one.percent).revision if named else None


def _scale(resource: Resource, count: int) -> bool:
    if instances_of(resource) == count:
        return False
    if is_service(resource):
        resource.scaling.scaling_mode = _MANUAL
    resource.scaling.manual_instance_count = count
    return True


def started(resource: Resource, mark: Mark, count: int) -> Change:
    """Asks for ``count`` containers of what is deployed: no new revision."""
    found = mark_of(resource)
    ours = found is not None and found.instance_id == mark.instance_id
    if not _scale(resource, count) and ours:
        return Unchanged()
    if not ours:
        resource.annotations[MARK] = mark.model_dump_json()
    return Changed(("scaling", "annotations"))


def stopped(resource: Resource) -> Change:
    """Asks for no container."""
    return Changed(("scaling",)) if _scale(resource, 0) else Unchanged()


def renewed(resource: Resource, mark: Mark, count: int, source: Any = None) -> Change:
    """A new revision of the same template, which alone replaces containers; of ``source`` where that is what was pinned.

    Everything goes to the latest revision again, so that it is the new one that serves.
    """
    found = mark_of(resource)
    if found is not None and found.instance_id == mark.instance_id and not is_stopped(resource):
        return Unchanged()
    if source is not None:
        _restore(resource.template, source)
    resource.template.annotations[MARK] = mark.instance_id
    # A name of its own: known before Google answers, and never that of an earlier revision, which would be refused.
    resource.template.revision = revision_name(resource, mark.instance_id)
    resource.annotations[MARK] = mark.model_dump_json()
    mask = ["template", "scaling", "annotations"]
    _scale(resource, count)
    if pinned(resource) is not None:
        if is_service(resource):
            resource.traffic = [run_v2.TrafficTarget(type_=_OF_TRAFFIC.TRAFFIC_TARGET_ALLOCATION_TYPE_LATEST, percent=100)]
            mask.append("traffic")
        else:
            resource.instance_splits = [run_v2.InstanceSplit(type_=_OF_SPLITS.INSTANCE_SPLIT_ALLOCATION_TYPE_LATEST, percent=100)]
            mask.append("instance_splits")
    return Changed(tuple(mask))


def revision_name(resource: Resource, instance_id: str) -> str:
    """``<resource>-<beginning of the instance's id>``."""
    plain = "".join(each for each in instance_id.lower() if each.isascii() and each.isalnum())
    return f"{resource.name.rpartition('/')[2]}-{plain[:12]}"


def _restore(template: Any, revision: Any) -> None:
    """Makes ``template`` what ``revision`` was made of."""
    into, source = type(template).pb(template), run_v2.Revision.pb(revision)
    for name, field in into.DESCRIPTOR.fields_by_name.items():
        if name == "revision" or name not in source.DESCRIPTOR.fields_by_name:
            continue
        into.ClearField(name)
        kept = type(source)()
        if name == "annotations":
            kept.annotations.update({key: value for key, value in source.annotations.items() if not _is_googles(key)})
        elif name == "labels":
            kept.labels.update({key: value for key, value in source.labels.items() if not _is_googles(key)})
        else:
            kept = source
        value = getattr(kept, name)
        if field.is_repeated:
            getattr(into, name).MergeFrom(value)
        elif field.message_type is not None:
            if kept.HasField(name):
                getattr(into, name).CopyFrom(value)
        else:
            setattr(into, name, value)


def _is_googles(key: str) -> bool:
    space = key.partition("/")[0]
    return any(space == each or space.endswith(f".{each}") for each in _GOOGLES)


def rolled_back(resource: Resource, revision: str) -> Change:
    """Everything goes to ``revision``."""
    if pinned(resource) == revision and serving(resource) == revision:
        return Unchanged()
    if is_service(resource):
        kind = _OF_TRAFFIC.TRAFFIC_TARGET_ALLOCATION_TYPE_REVISION
        resource.traffic = [run_v2.TrafficTarget(type_=kind, revision=revision, percent=100)]
        return Changed(("traffic",))
    of_pool = _OF_SPLITS.INSTANCE_SPLIT_ALLOCATION_TYPE_REVISION
    resource.instance_splits = [run_v2.InstanceSplit(type_=of_pool, revision=revision, percent=100)]
    return Changed(("instance_splits",))


def is_ready(revision: Any) -> bool:
    """Whether a revision could serve."""
    ready = run_v2.Condition.State.CONDITION_SUCCEEDED
    return any(one.type_ == "Ready" and one.state == ready for one in revision.conditions)
