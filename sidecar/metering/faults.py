"""Deliberate faults of model providers: what one call meets."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Final

from sidecar.faults import DEFAULT_LATENCY_MS, Active
from sidecar.metering.refusals import Refusal

FAULT_HEADER: Final = "X-Agentops-Fault"
DEFAULT_RETRY_AFTER_S: Final = 1.0
BEFORE_STALL: Final = 3
"""Parts of a stream that come before it stalls or breaks off."""
MALFORMED: Final = b'data: {"malformed by a fault": \n\n'


@dataclass(frozen=True, slots=True)
class Drill:
    """What one call meets. Each part ends with the fault that asks for it."""

    refuse: tuple[Active, Refusal] | None = None
    """Answered so, and never sent."""
    slow: tuple[Active, float] | None = None
    """So many seconds before the first byte of the answer."""
    stall: Active | None = None
    truncate: Active | None = None
    malform: Active | None = None

    @property
    def cause(self) -> Active | None:
        """The fault that shows most."""
        if self.refuse is not None:
            return self.refuse[0]
        return self.truncate or self.malform or self.stall or (None if self.slow is None else self.slow[0])


NOTHING: Final = Drill()


def marked(cause: Active) -> str:
    """The value of the header that says an answer was made or changed by a fault."""
    return f"{cause.fault.kind}; id={cause.fault.fault_id}"


def drill(active: Sequence[Active], monotonic: float, draw: Callable[[], float]) -> Drill:
    """What one call meets of the faults in force; each strikes its ``rate`` of calls (all where it has none)."""
    found: dict[str, Active] = {}
    for item in active:
        kind = item.fault.kind
        if (
            kind.startswith("model_")
            and item.deadline > monotonic
            and draw() < (1.0 if item.fault.rate is None else item.fault.rate)
        ):
            found.setdefault(kind, item)
    if not found:
        return NOTHING
    if (limit := found.get("model_rate_limit")) is not None:
        wait = DEFAULT_RETRY_AFTER_S if limit.fault.retry_after_s is None else limit.fault.retry_after_s
        return Drill(refuse=(limit, _refusal(limit, 429, "rate_limit_exceeded", "rate limit reached", ceil(wait))))
    if (error := found.get("model_error")) is not None:
        status = error.fault.status_code or 500
        return Drill(
            refuse=(error, _refusal(error, status, "overloaded" if status == 529 else "server_error", "the model failed"))
        )
    slow = found.get("model_slow")
    delay: tuple[Active, float] | None = None
    if slow is not None:
        wait_ms = DEFAULT_LATENCY_MS if slow.fault.latency_ms is None else slow.fault.latency_ms
        delay = (slow, (wait_ms + draw() * (slow.fault.jitter_ms or 0.0)) / 1000)
    return Drill(
        slow=delay, stall=found.get("model_stall"), truncate=found.get("model_truncate"), malform=found.get("model_malformed")
    )


def _refusal(cause: Active, status: int, code: str, what: str, retry_after_s: int | None = None) -> Refusal:
    return Refusal(
        status,
        code,
        f"{what}: a fault injected on purpose, until {cause.fault.until:%H:%M:%S} UTC",
        retry_after_s,
        final=False,
        headers={FAULT_HEADER: marked(cause)},
    )


def pieces(part: bytes) -> list[bytes]:
    """A part of a stream, cut at its empty lines, so that a fault strikes between events however they arrive."""
    found = [piece + b"\n\n" for piece in part.split(b"\n\n")]
    found[-1] = found[-1][:-2]
    return [piece for piece in found if piece]


def halves(part: bytes) -> list[bytes]:
    """A body that is not streamed, cut in two."""
    middle = len(part) // 2
    return [half for half in (part[:middle], part[middle:]) if half]
