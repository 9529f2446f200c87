"""What must be reached on two cores, what would be good, and what was."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal


@dataclass(frozen=True, slots=True)
class Target:
    """One figure with its floor and its stretch."""

    what: str
    unit: str
    floor: float
    stretch: float | None
    figure: Callable[[Mapping[str, Any]], float | None]
    larger_is_better: bool = True
    scales_with: str | None = None
    """The part whose work it is, where that is work of the processor alone: a machine twice as fast does it in half the time."""


REFERENCE_PER_S: Final = 150_000
"""``validate_json`` alone on the machine the floors were set for: 30,000 events/s are 0.2 of it."""


Verdict = Literal["stretch", "floor", "missed", "not measured"]


@dataclass(frozen=True, slots=True)
class Judged:
    """A target and what was measured."""

    target: Target
    measured: float | None
    verdict: Verdict
    scaled: float | None = None
    """What it would be where ``validate_json`` does REFERENCE_PER_S; None where that cannot be told."""
    scaled_verdict: Verdict = "not measured"


def at(results: Mapping[str, Any], *path: str) -> float | None:
    """The number at ``path``; None where there is none."""
    found: Any = results
    for name in path:
        if not isinstance(found, Mapping) or name not in found:
            return None
        found = found[name]
    return float(found) if isinstance(found, int | float) else None


def _ratio(upper: tuple[str, ...], lower: tuple[str, ...]) -> Callable[[Mapping[str, Any]], float | None]:
    def figure(results: Mapping[str, Any]) -> float | None:
        over, under = at(results, *upper), at(results, *lower)
        return over / under if over is not None and under else None

    return figure


def _at(*path: str) -> Callable[[Mapping[str, Any]], float | None]:
    return lambda results: at(results, *path)


def _soak_growth(results: Mapping[str, Any]) -> float | None:
    grows, middle = at(results, "soak", "grows_mb_per_hour"), at(results, "soak", "pss_mb_in_all", "middle")
    minutes = at(results, "soak", "minutes")
    return None if grows is None or not middle or minutes is None or minutes < 60 else 100 * grows / middle


_BATCHED: Final = ("end_to_end", "batched", "events_per_s")
_SINGLE: Final = ("end_to_end", "single", "events_per_s")
_INGESTING: Final = ("queries", "10000000", "while_ingesting")

TARGETS: Final = (
    Target("single events, end to end", "events/s", 8_000, 12_000, _at(*_SINGLE), scales_with="end_to_end"),
    Target("micro-batches, end to end", "events/s", 30_000, 50_000, _at(*_BATCHED), scales_with="end_to_end"),
    Target("micro-batches, of the pydantic limit", "×", 0.2, 0.35, _ratio(_BATCHED, ("parts", "end_to_end", "validate_json_per_s"))),
    Target("micro-batches, of Phoenix's spans", "×", 100, None, _ratio(_BATCHED, ("peers", "phoenix", "stored_per_s"))),
    Target("micro-batches, of MLflow's spans", "×", 100, None, _ratio(_BATCHED, ("peers", "mlflow", "stored_per_s"))),
    Target("single events, of the plain handler's", "×", 8, None, _ratio(_SINGLE, ("peers", "plain_faststream", "stored_per_s"))),
    Target("p99 at 500 events/s", "ms", 500, None, _at("latency", "500", "p99_ms"), larger_is_better=False),
    Target("p99 at 1,000 events/s", "ms", 250, None, _at("latency", "1000", "p99_ms"), larger_is_better=False),
    Target("p99 at 10,000 events/s", "ms", 1_000, None, _at("latency", "10000", "p99_ms"), larger_is_better=False),
    Target("fleet at 10 M while ingesting, p95", "ms", 50, None, _at(*_INGESTING, "fleet", "p95_ms"), larger_is_better=False),
    Target("spend by day at 10 M while ingesting, p95", "ms", 50, None, _at(*_INGESTING, "spend_by_day", "p95_ms"), larger_is_better=False),
    Target("10,000 agents' heartbeats", "% of a core", 50, 20, _at("heartbeats", "cpu_percent"), larger_is_better=False, scales_with="heartbeats"),
    Target("spans, OTLP door to committed", "spans/s", 8_000, 15_000, _at("otlp", "spans_per_s"), scales_with="otlp"),
    Target("metering: 100 streams of 20 chunks", "calls/s", 400, 1_000, _at("metering", "sidecar", "at_once", "calls_per_s"), scales_with="metering"),
    Target("metering: added to the first token at half load, p50", "ms", 2, None, _at("metering", "sidecar", "half", "added_p50_ms"), larger_is_better=False, scales_with="metering"),
    Target("a traced tool call, with the background's work", "µs", 20, 10, _at("tracer", "calls", "tool call, with", "cpu_us"), larger_is_better=False, scales_with="tracer"),
    Target("a traced model call, with the background's work", "µs", 20, None, _at("tracer", "calls", "model call with usage", "cpu_us"), larger_is_better=False, scales_with="tracer"),
    Target("memory's growth over an hour", "%", 5, None, _soak_growth, larger_is_better=False),
)  # fmt: skip


def _verdict(target: Target, measured: float | None) -> Verdict:
    def reaches(mark: float) -> bool:
        assert measured is not None
        return measured >= mark if target.larger_is_better else measured <= mark

    if measured is None:
        return "not measured"
    if target.stretch is not None and reaches(target.stretch):
        return "stretch"
    return "floor" if reaches(target.floor) else "missed"


def judge(target: Target, results: Mapping[str, Any]) -> Judged:
    """How far ``results`` come, on this machine and, by what ``validate_json`` did around the same part, on the reference."""
    measured = target.figure(results)
    speed = target.scales_with and at(results, "parts", target.scales_with, "validate_json_per_s")
    scaled = None
    if measured is not None and speed:
        faster = REFERENCE_PER_S / speed
        scaled = measured * faster if target.larger_is_better else measured / faster
    return Judged(target, measured, _verdict(target, measured), scaled, _verdict(target, scaled))
