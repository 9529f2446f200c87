"""An exporter that keeps what it is given, each event read by the contract."""

from collections.abc import Sequence
from typing import Any

from schemas.events import Event
from schemas.reading import read_event
from sidecar.tracer import AgentTracer
from sidecar.tracing.events import Made
from sidecar.tracing.exporters.exporter import Again, Delivered, Outcome


class Kept:
    """Takes everything, or nothing while ``away``."""

    name = "kept"
    most_bytes = 900_000

    def __init__(self) -> None:
        self.away = False
        self.events: list[Event] = []
        self.batches: list[int] = []
        self.forks = 0

    def export(self, batch: Sequence[Made]) -> Outcome:
        if self.away:
            return Again("away")
        self.batches.append(len(batch))
        for made in batch:
            event = read_event(made.line)
            assert isinstance(event, Event), event
            assert (event.kind, str(event.event_id)) == (made.kind, made.event_id)
            self.events.append(event)
        return Delivered()

    def close(self) -> None:
        pass

    def forked(self) -> None:
        self.forks += 1

    def of(self, event_type: str) -> list[Event]:
        return [event for event in self.events if event.event_type == event_type]

    def only(self, event_type: str) -> Event:
        found = self.of(event_type)
        assert len(found) == 1, [event.event_type for event in self.events]
        return found[0]


def traced(**options: Any) -> tuple[AgentTracer, Kept]:
    """A tracer, and what it tells. Its environment is empty."""
    kept = Kept()
    given = {"tenant": "acme", "agent_id": "a1", "environ": {}, "every_s": 0.01, **options}
    return AgentTracer(exporters=[kept], **given), kept


def told(tracer: AgentTracer) -> None:
    """Everything so far has left."""
    assert tracer.flush(30)
