"""Metrics become ``metric.sampled``: each number of each data point a sample, up to 256 in an event."""

import math
from collections.abc import Callable, Iterable, Iterator
from itertools import count
from typing import Any, Final

import orjson

from privacy.fields import is_content
from schemas.ids import derived_text
from sidecar.otlp.clipping import NAME, clipped
from sidecar.otlp.exports import Export, Group
from sidecar.otlp.moments import moment
from sidecar.otlp.reading import Point
from sidecar.otlp.records import OBSERVED_BY
from sidecar.otlp.sources import UNKNOWN_AGENT, Source, Whose, whose
from sidecar.otlp.spans import sort

MOST_SAMPLES: Final = 256


def sample_name(name: str, suffix: str, labels: Iterable[tuple[str, Any]]) -> str:
    """``requests_count{method=GET,status=200}``, as long as a name may be: labels that find no room are left out whole, as ``…``.

    A name is no place for content; and half a secret would not be known as one.
    """
    base = f"{name}{suffix}"
    told = [
        f"{key}={value}" for key, value in sorted(labels, key=lambda pair: pair[0]) if value is not None and not is_content(key)
    ]
    room = NAME - len(base) - len("{,…}")
    kept = []
    for label in told:
        room -= len(label) + 1
        if room < 0:
            break
        kept.append(label)
    if len(kept) < len(told) and len(base) + len("{…}") <= NAME:
        kept.append("…")
    return clipped(f"{base}{{{','.join(kept)}}}" if kept else base, NAME) or "unnamed"


class MetricReader:
    """Reads the metrics of one source."""

    def __init__(self, source: Source, now: Callable[[], int]) -> None:
        self._source = source
        self._now = now

    def steps(self, groups: Iterable[Group[Point]], export: Export) -> Iterator[None]:
        """Reads a request into ``export``; yields after each point, so that others get their turn."""
        now = self._now()
        numbers = count()
        for group in groups:
            about = sort(group.resource)
            owner = whose(self._source, about.fields, about.extra)
            samples: list[dict[str, Any]] = []
            latest = 0
            for number, point in enumerate(group.items):
                yield
                for suffix, value in point.values:
                    if not math.isfinite(value):
                        export.reject(
                            f"{group.place}.points[{number}]", f"{point.name[:80]}{suffix} must be a finite number", str(value)
                        )
                        continue
                    sample: dict[str, Any] = {"name": sample_name(point.name, suffix, point.attributes), "value": value}
                    if (unit := clipped(point.unit, NAME)) is not None:
                        sample["unit"] = unit
                    samples.append(sample)
                    latest = max(latest, point.at)
                    if len(samples) == MOST_SAMPLES:
                        self._add(export, owner, group.scope, samples, latest or now, next(numbers))
                        samples = []
                export.accepted += 1
            if samples:
                self._add(export, owner, group.scope, samples, latest or now, next(numbers))

    @staticmethod
    def _add(export: Export, owner: Whose, scope: str, samples: list[dict[str, Any]], at: int, number: int) -> None:
        agent = owner.agent or UNKNOWN_AGENT
        event: dict[str, Any] = {
            "event_version": "v1",
            "event_type": "metric.sampled",
            "occurred_at": moment(at),
            "tenant": owner.tenant,
            "run": {"agent_id": agent},
            "metrics": {"samples": samples},
            "attributes": {**owner.about, **({"otel.scope.name": scope} if scope else {}), OBSERVED_BY: "otel"},
        }
        # What it says is what it is: an exporter that sends it again sends the same.
        said = orjson.dumps(event).decode()
        export.add(agent, event | {"event_id": derived_text("otel.metrics", str(number), said)})
