"""Applying an update with its mask to a resource, and what a resource must be like. Pure."""

from typing import Any, Final

import grpc
from google.protobuf import field_mask_pb2

from agent_manager.drivers.fake_cloud_run.answers import Refusal, invalid
from agent_manager.drivers.fake_cloud_run.kinds import OUTPUT_ONLY, Kind

_RESERVED: Final = ("run.googleapis.com", "cloud.googleapis.com", "serving.knative.dev", "autoscaling.knative.dev")


def merged(kind: Kind, current: Any, given: Any, mask: list[str]) -> Any:
    """``current`` with the fields of ``mask`` as in ``given``; raises Refusal. No mask, or an unknown path: all of them."""
    new = kind.raw()
    new.CopyFrom(current)
    if mask and all(field_mask_pb2.FieldMask(paths=[path]).IsValidForDescriptor(new.DESCRIPTOR) for path in mask):
        for path in mask:
            if path.partition(".")[0] in OUTPUT_ONLY:
                raise invalid(f"update_mask: {path} is output only")
            _copy(given, new, path.split("."))
        return new
    for name in new.DESCRIPTOR.fields_by_name:
        if name not in OUTPUT_ONLY:
            _copy(given, new, [name])
    return new


def _copy(source: Any, into: Any, path: list[str]) -> None:
    for part in path[:-1]:
        source, into = getattr(source, part), getattr(into, part)
    leaf = path[-1]
    field = source.DESCRIPTOR.fields_by_name[leaf]
    into.ClearField(leaf)
    if field.is_repeated:
        getattr(into, leaf).MergeFrom(getattr(source, leaf))
    elif field.message_type is not None:
        if source.HasField(leaf):
            getattr(into, leaf).CopyFrom(getattr(source, leaf))
    elif not field.has_presence or source.HasField(leaf):
        setattr(into, leaf, getattr(source, leaf))


def check(kind: Kind, resource: Any) -> None:
    """Raises Refusal where Google would refuse ``resource``."""
    template = resource.template
    for entries in (resource.labels, resource.annotations, template.labels, template.annotations):
        for key in entries:
            space, slash, _ = key.partition("/")
            if slash and any(space == each or space.endswith(f".{each}") for each in _RESERVED):
                raise invalid(f"annotation or label '{key}' uses a reserved namespace")
    if not template.containers:
        raise invalid(f"{kind.field}.template.containers: must contain at least one container.")
    split = getattr(resource, kind.split)
    if split and sum(one.percent for one in split) != 100:
        raise invalid(f"{kind.split}: percentages must add up to 100")


def check_revision(new: Any, old: Any, known: dict[str, Any]) -> None:
    """Raises Refusal where the template names a revision that it may not."""
    wanted, short = new.template.revision, new.name.rpartition("/")[2]
    if not wanted:
        return
    if not wanted.startswith(f"{short}-") or len(wanted) > 63:
        raise invalid(f"template.revision: must be prefixed by '{short}-' and no longer than 63 characters")
    if f"{new.name}/revisions/{wanted}" in known and new.template != old.template:
        text = f"Revision named '{wanted}' with different configuration already exists."
        raise Refusal(grpc.StatusCode.ALREADY_EXISTS, text)
