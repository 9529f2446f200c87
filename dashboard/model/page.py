"""The page: takes what the hub hears, gives one frame of what changed, or a snapshot of everything."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

from dashboard.model import warehouse
from dashboard.model.alerts import AlertBoard
from dashboard.model.budgets import BudgetBoard
from dashboard.model.fleet import Fleet
from dashboard.model.traffic import LatencyTrail, traffic


@dataclass(frozen=True, slots=True)
class Link:
    """How the dashboard stands with NATS."""

    state: Literal["connecting", "live", "away"]
    since_ms: int
    message: str = ""


@dataclass(frozen=True, slots=True)
class Warehouse:
    """How the dashboard stands with the query service."""

    state: Literal["unknown", "answering", "silent"]
    since_ms: int = 0
    message: str = ""


class PageModel:
    """All of the page's state. ``frame`` gives what changed since the last frame; ``snapshot`` all of it."""

    def __init__(self) -> None:
        self.fleet = Fleet()
        self.alerts = AlertBoard()
        self.budgets = BudgetBoard()
        self.latency = LatencyTrail()
        self.link = Link("connecting", 0)
        self.warehouse = Warehouse("unknown")
        self.loaded = False
        """Whether the present values of all buckets have been read."""
        self.sections: dict[str, Any] = {}
        """Sections that come from queries, as they are shown."""
        self._usage: warehouse.Usage | None = None
        self._events_per_s: float | None = None
        self._changed: set[str] = set()
        self._shown_figures: dict[str, Any] = {}

    @property
    def dirty(self) -> bool:
        """Whether a frame would say something new."""
        return bool(
            self._changed
            or self.fleet.changed
            or self.fleet.gone
            or self.alerts.changed
            or self.budgets.changed
            or self.latency.fresh
        )

    def connect(self, link: Link) -> None:
        """Takes how NATS is; a same state keeps its ``since``."""
        if (link.state, link.message) != (self.link.state, self.link.message):
            self.link = link
            self._changed.add("link")

    def load(self) -> None:
        """All buckets have been read once."""
        if not self.loaded:
            self.loaded = True
            self._changed.add("link")

    def pulse(self, now_ms: int) -> None:
        """What passing time changes: faults run out, the latency line goes on. Once a second."""
        self.fleet.expire(now_ms)
        self.budgets.expire(now_ms)
        if self.loaded and self.link.state == "live":
            self.latency.note(now_ms, traffic(self.fleet.measured(now_ms)))

    def answer(self, query: str, rows: tuple[dict[str, Any], ...], now_ms: int) -> None:
        """Takes the rows of one question; ``query`` is its name on the page (``asking.QUESTIONS``)."""
        if self.warehouse.state != "answering":
            self.warehouse = Warehouse("answering", now_ms)
            self._changed.add("warehouse")
        match query:
            case "throughput":
                self._events_per_s = warehouse.events_per_second(rows)
                self._changed.add("figures")
            case "fleet":
                self._usage = warehouse.usage(rows)
                self.fleet.use(rows)
                self._changed.add("figures")
            case "events" | "errors":
                self._section(query, warehouse.per_second(rows, now_ms))
            case "failures":
                self._section(query, warehouse.failures(rows))
            case "spend_agent" | "spend_model" | "spend_day":
                self._section(query, warehouse.spend(rows, {"spend_agent": "agent_id", "spend_model": "model"}.get(query, "day")))
            case "model_latency":
                self._section(query, warehouse.model_latency(rows))

    def _section(self, name: str, value: Any) -> None:
        if self.sections.get(name) != value:
            self.sections[name] = value
            self._changed.add(name)

    def audited(self, audit: dict[str, Any]) -> None:
        """Takes the latest audit (``model.audit``)."""
        self._section("audit", audit)

    def silence(self, why: str, now_ms: int) -> None:
        """The warehouse did not answer."""
        if self.warehouse.state != "silent" or self.warehouse.message != why:
            since = self.warehouse.since_ms if self.warehouse.state == "silent" else now_ms
            self.warehouse = Warehouse("silent", since, why)
            self._changed.add("warehouse")

    def figures(self, now_ms: int) -> dict[str, Any]:
        """The row of key figures."""
        seen = traffic(self.fleet.measured(now_ms))
        used = self._usage
        return {
            **self.fleet.counts(),
            "events_per_s": self._events_per_s,
            "mean_ms": seen.mean_ms,
            "p95_ms": seen.p95_ms,
            "error_rate": seen.error_rate,
            "requests_per_s": seen.requests_per_s,
            "runs": used.runs if used else None,
            "failures": used.failures if used else None,
            "tokens": used.tokens if used else None,
            "cost": format(used.cost_usd, "f") if used else None,
            "firing": self.alerts.firing(),
        }

    def _link(self) -> dict[str, Any]:
        return {"state": self.link.state, "since": self.link.since_ms, "message": self.link.message, "loaded": self.loaded}

    def _warehouse(self) -> dict[str, Any]:
        told = asdict(self.warehouse)
        return {"state": told["state"], "since": told["since_ms"], "message": told["message"]}

    def frame(self, now_ms: int) -> dict[str, Any]:
        """What changed since the last frame. Calling it marks everything as shown."""
        frame: dict[str, Any] = {"t": now_ms}
        cards, gone = self.fleet.take_changes(now_ms)
        if cards:
            frame["cards"] = cards
        if gone:
            frame["gone"] = gone
        if self.alerts.changed:
            self.alerts.changed = False
            frame["alerts"] = self.alerts.rows()
        if self.budgets.changed:
            self.budgets.changed = False
            frame["budgets"] = self.budgets.told()
        if fresh := self.latency.take_fresh():
            frame["latency"] = fresh
        if "link" in self._changed:
            frame["link"] = self._link()
        if "warehouse" in self._changed:
            frame["warehouse"] = self._warehouse()
        for name in self._changed & self.sections.keys():
            frame[name] = self.sections[name]
        self._changed.clear()
        figures = self.figures(now_ms)
        if figures != self._shown_figures:
            self._shown_figures = frame["figures"] = figures
        return frame

    def snapshot(self, now_ms: int) -> dict[str, Any]:
        """Everything; marks nothing as shown."""
        return {
            "t": now_ms,
            "full": True,
            "link": self._link(),
            "warehouse": self._warehouse(),
            "cards": self.fleet.cards(now_ms),
            "alerts": self.alerts.rows(),
            "budgets": self.budgets.told(),
            "latency": list(self.latency.points),
            "figures": self.figures(now_ms),
            **self.sections,
        }
