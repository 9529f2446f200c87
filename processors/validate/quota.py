"""How many bytes of rejected originals are kept: for each tenant in an hour, and in one letter."""

from typing import Final

MAX_LETTER_BYTES: Final = 1_900_000
"""A letter above this would not fit a message of 2 MB with its headers."""
_ENVELOPE_BYTES: Final = 64 * 1024
"""Of a message, for subject and headers: they count towards the server's ``max_payload``."""

_HOUR_NS = 3_600_000_000_000


class DeadQuota:
    """At most ``limit_bytes`` an hour of stream time and tenant; beyond it only metadata and hash are kept.

    Holds one number for each tenant that had a rejection in the newest hour; older hours are forgotten.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit = limit_bytes
        self._hour = 0
        self._used: dict[str, int] = {}
        self.largest_letter = MAX_LETTER_BYTES
        """Bytes of the largest letter that can be published."""

    def fit(self, max_payload: int) -> None:
        """Keeps letters within what the server takes in one message: one it refuses would be tried for ever."""
        self.largest_letter = min(MAX_LETTER_BYTES, max_payload - _ENVELOPE_BYTES)

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
