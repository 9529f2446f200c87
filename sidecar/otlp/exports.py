"""A request in parts, and what it becomes."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Final, Generic, NamedTuple, TypeVar

from schemas.errors import FieldError
from sidecar.frames import Record
from sidecar.otlp.records import record

_TELLS_SOME: Final = 5

Item = TypeVar("Item")


class Group(NamedTuple, Generic[Item]):
    """Spans, log records or data points of one resource and scope."""

    place: str
    """Where in the request: ``resource_spans[0].scope_spans[1]``."""
    resource: list[tuple[str, Any]]
    scope: str
    items: Iterable[Item]


@dataclass(slots=True)
class Export:
    """What a request becomes."""

    records: dict[str, list[Record]] = field(default_factory=dict)
    """By agent, in the order in which things ended."""
    accepted: int = 0
    rejected: int = 0
    errors: list[FieldError] = field(default_factory=list)
    """The first of what was wrong."""

    def add(self, agent: str, event: dict[str, Any]) -> None:
        """Adds an event of ``agent``."""
        self.records.setdefault(agent, []).append(record(event))

    def reject(self, where: str, message: str, value: str | None = None) -> None:
        """One item of the request will never be an event."""
        self.rejected += 1
        if len(self.errors) < _TELLS_SOME:
            self.errors.append(FieldError(loc=f"$.{where}", msg=message, value=value))

    def message(self) -> str:
        """What was wrong, for the exporter's log; empty where nothing was."""
        told = "; ".join(error.told() for error in self.errors)
        more = self.rejected - len(self.errors)
        return f"{told}; and {more:,} more" if more > 0 else told
