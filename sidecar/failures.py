"""Requests that failed at the proxy, counted by cause until they are told: some never reached the agent, so nobody else can.

A cause is told at once and then every ``EVERY_S`` seconds, all causes in one event: however many requests fail, a sidecar
tells of them at most so often. Fullness: at most ``MOST_CAUSES`` causes are told apart, the rest are counted as ``other``.
"""

from typing import Final

from schemas.sections import Sample

FAILED_REQUESTS: Final = "failed_requests"
"""The unit of such a sample: readers tell it from other measurements by this word."""
EVERY_S: Final = 5.0
MOST_CAUSES: Final = 16
_LONGEST: Final = 256
_LONGEST_PATH: Final = 80


def asked(method: str, path: str) -> str:
    """What was asked for, without the query: ``POST /chat``."""
    return f"{method} {path if len(path) <= _LONGEST_PATH else path[: _LONGEST_PATH - 1] + '…'}"


def _readable(text: str) -> str:
    # Whoever asks chooses the path: a NUL in it would be refused by the contract, and end the sidecar that tells of it.
    return "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in text)


class Failures:
    """Counts failed requests; ``take`` hands them over when it is time. Times are monotonic seconds."""

    def __init__(self) -> None:
        self._counts: dict[str, int] = {}
        self._names: dict[str, str] = {}
        self._told_at: float | None = None

    def add(self, cause: str, message: str) -> None:
        """A request failed. ``cause`` is one word of a few; of its messages the first stands for all."""
        if cause not in self._counts and len(self._counts) >= MOST_CAUSES:
            cause, message = "other", "further causes"
        self._counts[cause] = self._counts.get(cause, 0) + 1
        if cause not in self._names:
            self._names[cause] = _readable(f"{cause}: {message}"[:_LONGEST])

    def take(self, now: float, *, last: bool = False) -> tuple[Sample, ...]:
        """One sample a cause, named ``<cause>: <message>``; empty where there is none or it is too early. ``last``: never too early."""
        if not self._counts or not (last or self._told_at is None or now - self._told_at >= EVERY_S):
            return ()
        samples = tuple(
            Sample(name=self._names[cause], value=float(count), unit=FAILED_REQUESTS) for cause, count in self._counts.items()
        )
        self._counts, self._names, self._told_at = {}, {}, now
        return samples
