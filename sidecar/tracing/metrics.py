"""Metrics of an agent's own: prometheus_client's, with a bound on how many series a name may have, and quantiles.

The bound is the point: a label that holds a user's id makes a series of every user, and takes the agent's memory and the
server's with it. Beyond ``most_series`` everything goes to one series whose labels all read ``other``, counted.
"""

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

MOST_SERIES: Final = 200
OTHER: Final = "other"
_WINDOW: Final = 1_024
QUANTILES: Final = (0.5, 0.95, 0.99)
LATENCY_MS: Final = (1.0, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 500.0, 1_000.0, 2_500.0, 5_000.0, 10_000.0, 30_000.0, 60_000.0)


class _Family:
    """One name, and its series by label values."""

    def __init__(self, metric: Any, labels: Sequence[str], most_series: int) -> None:
        self._metric = metric
        self._labels = tuple(labels)
        self._most_series = most_series
        self._series: dict[tuple[str, ...], Any] = {}
        self._guard = threading.Lock()
        self.beyond = 0
        """Observations that went to ``other``."""

    def _of(self, labels: dict[str, Any]) -> Any:
        if not self._labels and not labels:
            return self._metric
        if labels.keys() != set(self._labels):
            raise ValueError(f"labels must be {', '.join(self._labels) or 'none'}, not {', '.join(labels) or 'none'}")
        values = tuple(str(labels[name])[:128] for name in self._labels)
        found = self._series.get(values)
        if found is not None:
            return found
        with self._guard:
            if len(self._series) >= self._most_series and values not in self._series:
                self.beyond += 1
                values = (OTHER,) * len(self._labels)
            if values not in self._series:
                self._series[values] = self._metric.labels(*values)
            return self._series[values]


class Counter(_Family):
    """Only grows."""

    def inc(self, amount: float = 1.0, **labels: Any) -> None:
        """More by ``amount``, which is not negative."""
        self._of(labels).inc(amount)


class Gauge(_Family):
    """Goes up and down."""

    def set(self, value: float, **labels: Any) -> None:
        """Is ``value`` now."""
        self._of(labels).set(value)

    def inc(self, amount: float = 1.0, **labels: Any) -> None:
        """More by ``amount``."""
        self._of(labels).inc(amount)

    def dec(self, amount: float = 1.0, **labels: Any) -> None:
        """Less by ``amount``."""
        self._of(labels).dec(amount)


class Histogram(_Family):
    """Counts values by bucket."""

    def observe(self, value: float, **labels: Any) -> None:
        """One value more."""
        self._of(labels).observe(value)


class _Window:
    __slots__ = ("count", "latest", "total")

    def __init__(self) -> None:
        self.count = 0
        self.total = 0.0
        self.latest: deque[float] = deque(maxlen=_WINDOW)

    def observe(self, value: float) -> None:
        self.count += 1
        self.total += value
        self.latest.append(value)


class _Windows:
    """What prometheus_client collects of a summary: it has none with quantiles."""

    def __init__(self, name: str, about: str, labels: Sequence[str]) -> None:
        self._name, self._about, self._names = name, about, tuple(labels)
        self._windows: dict[tuple[str, ...], _Window] = {}
        self._alone = _Window()

    def labels(self, *values: str) -> _Window:
        return self._windows.setdefault(values, _Window())

    def observe(self, value: float) -> None:
        self._alone.observe(value)

    def describe(self) -> list[Any]:
        return []

    def collect(self) -> Iterator[Any]:
        from prometheus_client.core import Metric  # noqa: PLC0415 - loaded where a metric was defined

        family = Metric(self._name, self._about, "summary")
        for values, window in list(self._windows.items()) if self._names else [((), self._alone)]:
            labels = dict(zip(self._names, values, strict=True))
            ordered = sorted(window.latest)
            for quantile in QUANTILES if ordered else ():
                at = min(len(ordered) - 1, int(quantile * len(ordered)))
                family.add_sample(self._name, {**labels, "quantile": str(quantile)}, ordered[at])
            family.add_sample(f"{self._name}_count", labels, window.count)
            family.add_sample(f"{self._name}_sum", labels, window.total)
        yield family


class Summary(_Family):
    """Count, sum and quantiles (p50, p95, p99) of the latest 1,024 values of each series."""

    def observe(self, value: float, **labels: Any) -> None:
        """One value more."""
        self._of(labels).observe(value)


class MetricsRegistry:
    """Metrics by name; defining one again with the same kind and labels gives the same."""

    def __init__(self, *, most_series: int = MOST_SERIES) -> None:
        if most_series < 1:
            raise ValueError(f"most_series must be 1 or more, not {most_series!r}")
        self._most_series = most_series
        self._families: dict[str, tuple[type[_Family], tuple[str, ...], Any]] = {}
        self._guard = threading.Lock()
        self._registry: CollectorRegistry | None = None

    def _define(self, kind: type[_Family], name: str, about: str, labels: Sequence[str], **options: Any) -> Any:
        from prometheus_client import CollectorRegistry, metrics  # noqa: PLC0415 - 0.05 s, for agents that have metrics

        with self._guard:
            if name in self._families:
                known, known_labels, family = self._families[name]
                if (known, known_labels) != (kind, tuple(labels)):
                    raise ValueError(f"{name} is a {known.__name__} with labels {known_labels} already: choose another name")
                return family
            if self._registry is None:
                self._registry = CollectorRegistry()
            metric: Any
            if kind is Summary:
                metric = _Windows(name, about, labels)
                self._registry.register(metric)
            else:
                metric = getattr(metrics, kind.__name__)(name, about, labels, registry=self._registry, **options)
            family = kind(metric, labels, self._most_series)
            self._families[name] = (kind, tuple(labels), family)
            return family

    def counter(self, name: str, about: str = "", labels: Sequence[str] = ()) -> Counter:
        """A counter."""
        found: Counter = self._define(Counter, name, about, labels)
        return found

    def gauge(self, name: str, about: str = "", labels: Sequence[str] = ()) -> Gauge:
        """A gauge."""
        found: Gauge = self._define(Gauge, name, about, labels)
        return found

    def histogram(
        self, name: str, about: str = "", labels: Sequence[str] = (), buckets: Sequence[float] = LATENCY_MS
    ) -> Histogram:
        """A histogram; buckets are in milliseconds by default."""
        found: Histogram = self._define(Histogram, name, about, labels, buckets=buckets)
        return found

    def summary(self, name: str, about: str = "", labels: Sequence[str] = ()) -> Summary:
        """A summary."""
        found: Summary = self._define(Summary, name, about, labels)
        return found

    def collected(self) -> "CollectorRegistry":
        """What prometheus_client's own servers read; raises ValueError where no metric was defined yet."""
        if self._registry is None:
            raise ValueError("no metric is defined yet: define one first")
        return self._registry

    def exposition(self) -> bytes:
        """Everything, in Prometheus' text format."""
        if self._registry is None:
            return b""
        from prometheus_client import generate_latest  # noqa: PLC0415 - as above

        return generate_latest(self._registry)

    def beyond(self) -> dict[str, int]:
        """By name: observations that went to ``other``, because the name has too many series."""
        return {name: family.beyond for name, (_, _, family) in self._families.items() if family.beyond}
