"""Whether silence may be held against agents."""

from collections.abc import Callable
from datetime import datetime, timedelta

from nats.aio.client import Client


class Calm:
    """Calm: connected, and listening for long enough. Not while, and not right after, we could not hear agents."""

    def __init__(self, grace: timedelta, clock: Callable[[], datetime]) -> None:
        self._grace = grace
        self._clock = clock
        self._since = clock()
        self.client: Client | None = None

    @property
    def since(self) -> datetime:
        """When we last began to listen."""
        return self._since

    def disturbed(self) -> None:
        """We were away."""
        self._since = self._clock()

    def __call__(self) -> bool:
        """Whether it is calm now."""
        return self.client is not None and self.client.is_connected and self._clock() - self._since >= self._grace
