"""Who works on what: values of the bucket ``leases``."""

from schemas.model import Count, Instant, Lenient, Name


class Lease(Lenient):
    """One instance's claim to one partition of one processor, renewed while it lives: key ``<processor>.<partition>``."""

    instance: Name
    since: Instant
    """When it took the partition."""
    host: Name
    """The machine, its boot and its process space, where a process id means something."""
    pid: Count
