"""What is measured, and how."""

import asyncio
import time
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from statistics import quantiles

import psutil

from benchmarks.publishing import Load, due
from benchmarks.system import Applied, System

_ASK_EVERY_S = 0.02


class NotAppliedError(TimeoutError):
    """What was published is not in the warehouse in time."""


@dataclass(frozen=True, slots=True)
class Throughput:
    """Publish → committed in the warehouse, ledger included."""

    events: int
    publish_s: float
    total_s: float
    events_per_s: float


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Of some durations."""

    p50_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float


@dataclass(frozen=True, slots=True)
class Latency:
    """Publish → queryable."""

    rate_per_s: float
    events: int
    p50_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float
    with_ledger: Percentiles
    """The same until the event's ledger entry is queryable too."""
    published_late_ms: float
    """How far the publisher itself was behind at its worst: counted as latency of the system."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What one process used over a span of time."""

    cpu_percent: float
    """Of one core."""
    rss_mb: float
    pss_mb: float


def percentiles(took_s: Sequence[float]) -> Percentiles:
    """Of durations in seconds; at least one."""
    several = sorted(took_s)
    cuts = quantiles(several, n=100, method="inclusive") if len(several) > 1 else several * 99
    return Percentiles(cuts[49] * 1000, cuts[94] * 1000, cuts[98] * 1000, several[-1] * 1000)


async def now_applied(system: System) -> Applied:
    """How far the warehouse is. Raises NotAppliedError where it does not answer."""
    applied = await system.ours()
    if applied is None:
        raise NotAppliedError(f"the warehouse does not answer; see the logs in {system.directory}")
    return applied


async def until_applied(system: System, events: int, entries: int, within_s: float) -> None:
    """Waits until the warehouse holds so many events and ledger entries in all."""
    deadline = time.perf_counter() + within_s
    while True:
        applied = await system.ours()
        if applied is not None and applied.events >= events and applied.ledger_entries >= entries:
            return
        if time.perf_counter() > deadline:
            raise NotAppliedError(f"only {applied} of {events} events and {entries} entries after {within_s:g} s")
        await asyncio.sleep(0.1)


async def throughput(system: System, load: Load, within_s: float = 240) -> Throughput:
    """How fast ``load`` is published and committed with its ledger entries."""
    before = await now_applied(system)
    events = load.total_events
    began = time.perf_counter()
    await system.publisher.publish(load.frames)
    published = time.perf_counter() - began
    await until_applied(system, before.events + events, before.ledger_entries + load.total_entries, within_s)
    total = time.perf_counter() - began
    return Throughput(events, published, total, events / total)


def waited(published: Sequence[float], counts: Sequence[int], seen_at: Sequence[float], seen: Sequence[int]) -> list[float]:
    """How long each thing waited, in seconds: ``counts`` of them published at each of ``published``, in order.

    ``seen`` says how many there were, in all, in the answer that arrived at ``seen_at``; it never falls.
    """
    found = []
    for at, count, so_far in zip(published, counts, accumulate(counts), strict=True):
        # Each is counted by itself: those of one message need not have become visible together.
        found += [seen_at[bisect_left(seen, so_far - left)] - at for left in range(count)]
    return found


async def latency(system: System, load: Load, rate_per_s: float) -> Latency:
    """Publishes at a steady rate, and asks all the while how many events are committed.

    An event counts as queryable when an answer that includes it has arrived: never shown faster than it was. It counts
    as published when it was due, so that a publisher that falls behind cannot make the system look better.
    """
    before = await now_applied(system)
    seen_at: list[float] = []
    events: list[int] = [0]
    entries: list[int] = [0]
    wanted = (load.total_events, load.total_entries)

    async def watch() -> None:
        while events[-1] < wanted[0] or entries[-1] < wanted[1]:
            asked = time.perf_counter()
            applied = await system.ours()
            if applied is not None:
                events.append(max(events[-1], applied.events - before.events))
                entries.append(max(entries[-1], applied.ledger_entries - before.ledger_entries))
                seen_at.append(time.perf_counter())
            await asyncio.sleep(max(0.0, asked + _ASK_EVERY_S - time.perf_counter()))

    began = time.perf_counter() + 0.1
    published = [began + moment for moment in due(load.events, rate_per_s)]
    watching = asyncio.create_task(watch())
    try:
        late = await system.publisher.publish_on_time(load.frames, published)
        await system.publisher.acknowledged()
        async with asyncio.timeout(60):
            await watching
    except TimeoutError as error:
        raise NotAppliedError(
            f"only {events[-1]} of {wanted[0]} events at {rate_per_s:g} a second were stored a minute later"
        ) from error
    finally:
        watching.cancel()
        await asyncio.wait([watching])
    of_events = percentiles(waited(published, load.events, seen_at, events[1:]))
    of_entries = percentiles(waited(published, load.entries, seen_at, entries[1:]))
    return Latency(
        rate_per_s, wanted[0], of_events.p50_ms, of_events.p95_ms, of_events.p99_ms, of_events.max_ms, of_entries, late * 1000
    )


def cpu_s(process: psutil.Process) -> float:
    """CPU it has used so far."""
    times = process.cpu_times()
    return float(times.user + times.system)


def memory_mb(process: psutil.Process) -> tuple[float, float]:
    """Resident and proportional set size."""
    memory = process.memory_full_info()
    return memory.rss / 1e6, memory.pss / 1e6


def usage_since(processes: Mapping[str, psutil.Process], began: Mapping[str, float], took_s: float) -> dict[str, Usage]:
    """CPU over the last ``took_s`` seconds, at whose beginning each had used ``began``, and memory now."""
    return {
        name: Usage(100 * (cpu_s(process) - began[name]) / took_s, *memory_mb(process)) for name, process in processes.items()
    }


async def usage(processes: Mapping[str, psutil.Process], over_s: float) -> dict[str, Usage]:
    """CPU over the next ``over_s`` seconds and memory at their end, by process."""
    began, at = {name: cpu_s(process) for name, process in processes.items()}, time.perf_counter()
    await asyncio.sleep(over_s)
    return usage_since(processes, began, time.perf_counter() - at)
