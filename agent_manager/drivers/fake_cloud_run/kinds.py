"""What differs between services and worker pools."""

from dataclasses import dataclass
from typing import Any, Final

from google.cloud import run_v2

OUTPUT_ONLY: Final = frozenset({
    "uid", "generation", "create_time", "update_time", "delete_time", "expire_time", "creator", "last_modifier",
    "observed_generation", "terminal_condition", "conditions", "latest_ready_revision", "latest_created_revision",
    "traffic_statuses", "instance_split_statuses", "uri", "urls", "reconciling", "etag", "name", "satisfies_pzs",
})  # fmt: skip
"""What only the server writes."""


@dataclass(frozen=True, slots=True)
class Kind:
    """One collection of resources."""

    api: str
    """Name of the gRPC service, after ``google.cloud.run.v2.``."""
    collection: str
    one: str
    """Name of the message, ``Service``."""
    field: str
    """Of a request: the resource."""
    split: str
    """Of the resource: who asked for which share."""
    shares: str
    """Of the resource: which revision has which share."""
    latest: Any
    by_revision: Any

    @property
    def raw(self) -> Any:
        """The class of the message."""
        return getattr(run_v2, self.one).pb()

    def request(self, verb: str) -> Any:
        """The class of a request, ``Update`` say."""
        return getattr(run_v2, f"{verb}{self.one}{'s' if verb == 'List' else ''}Request").pb()


SERVICES: Final = Kind(
    "Services", "services", "Service", "service", "traffic", "traffic_statuses",
    run_v2.TrafficTargetAllocationType.TRAFFIC_TARGET_ALLOCATION_TYPE_LATEST,
    run_v2.TrafficTargetAllocationType.TRAFFIC_TARGET_ALLOCATION_TYPE_REVISION,
)  # fmt: skip
WORKER_POOLS: Final = Kind(
    "WorkerPools", "workerPools", "WorkerPool", "worker_pool", "instance_splits", "instance_split_statuses",
    run_v2.InstanceSplitAllocationType.INSTANCE_SPLIT_ALLOCATION_TYPE_LATEST,
    run_v2.InstanceSplitAllocationType.INSTANCE_SPLIT_ALLOCATION_TYPE_REVISION,
)  # fmt: skip
KINDS: Final = (SERVICES, WORKER_POOLS)


def kind_of(name: str) -> Kind:
    """By the collection in a resource's full name."""
    return SERVICES if "/services/" in name else WORKER_POOLS
