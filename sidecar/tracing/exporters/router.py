"""To functions of the agent's own: each event to those that asked for its kind, the most urgent first."""

import fnmatch
import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from sidecar.tracing.events import Made
from sidecar.tracing.exporters.exporter import Delivered, Outcome

logger: Final = logging.getLogger("agentops.tracer")

Handler = Callable[[dict[str, Any]], object]
Filter = Callable[[Mapping[str, Any]], bool]


class _Route(NamedTuple):
    pattern: str
    handler: Handler
    wanted: Filter | None
    priority: int


class EventRouter:
    """An exporter whose events go to handlers, in a background thread. A handler that raises harms no other, and is told once."""

    name = "router"
    most_bytes = 4_000_000

    def __init__(self) -> None:
        self._routes: tuple[_Route, ...] = ()
        self._told: set[int] = set()
        self.failures = 0
        """Times a handler raised."""

    def on(self, pattern: str, handler: Handler, *, wanted: Filter | None = None, priority: int = 0) -> None:
        """``handler`` gets events whose type fits ``pattern`` (``model_call.*``) and that are ``wanted``; higher ``priority`` first."""
        routes = [*self._routes, _Route(pattern, handler, wanted, priority)]
        self._routes = tuple(sorted(routes, key=lambda route: -route.priority))

    def export(self, batch: Sequence[Made]) -> Outcome:
        for made in batch:
            for route in self._routes:
                if fnmatch.fnmatchcase(made.event["event_type"], route.pattern):
                    self._call(route, made.event)
        return Delivered()

    def _call(self, route: _Route, event: dict[str, Any]) -> None:
        try:
            if route.wanted is None or route.wanted(event):
                route.handler(event)
        except Exception as error:  # noqa: BLE001 - the agent's own code
            self.failures += 1
            if id(route) not in self._told:
                self._told.add(id(route))
                logger.warning("agentops: the handler of %s failed: %s: %s", route.pattern, type(error).__name__, error)

    def close(self) -> None:
        """Nothing is open."""

    forked = close
