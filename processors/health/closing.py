"""Whole batches only: what validate stored together is judged together, in the order in which it was told.

Validate groups a batch by kind, so a heartbeat may stand before the stop that came first. Its coverage record closes
the batch; sorted by place in TELEMETRY, the events of an agent are in order again, wherever the reads were cut.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from streams import subjects
from streams.messages import Received

PATIENCE_S: Final = 0.05
"""What no coverage record follows within this was not written by validate, and is taken as it is."""

_RECORD: Final = subjects.COVERED_VALIDATE.removesuffix(">")


@dataclass(slots=True)
class Closing:
    """Holds messages back until their batch is closed; at most what one batch and one fetch carry."""

    held: list[Received] = field(default_factory=list)
    _since: float = 0.0

    def take(self, messages: Sequence[Received], now_s: float) -> list[Received]:
        """The messages that may be judged now, coverage records left out; ``now_s`` is any steady clock."""
        if messages:
            self._since = now_s
            self.held += messages
        last = next((n for n in range(len(self.held) - 1, -1, -1) if self.held[n].subject.startswith(_RECORD)), -1)
        if last < 0 and self.held and now_s - self._since >= PATIENCE_S:
            last = len(self.held) - 1
        ready, self.held = self.held[: last + 1], self.held[last + 1 :]
        return ready


def is_record(message: Received) -> bool:
    """Whether it is a coverage record, without events of its own."""
    return message.subject.startswith(_RECORD)
