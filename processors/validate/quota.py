"""How many bytes of rejected originals are kept for each tenant in an hour."""

_HOUR_NS = 3_600_000_000_000


class DeadQuota:
    """At most ``limit_bytes`` an hour of stream time and tenant; beyond it only metadata and hash are kept.

    Holds one number for each tenant that had a rejection in the newest hour; older hours are forgotten.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._hour = 0
        self._used: dict[str, int] = {}

    def take(self, tenant: str, size: int, stored_ns: int) -> bool:
        """Whether ``size`` bytes of ``tenant`` are kept; counts them if so."""
        hour = stored_ns // _HOUR_NS
        if hour > self._hour:
            self._hour = hour
            self._used.clear()
        used = self._used.get(tenant, 0)
        if used + size > self._limit:
            return False
        self._used[tenant] = used + size
        return True
