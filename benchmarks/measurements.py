"""What is measured, and how."""

import asyncio
import time
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import quantiles

import psutil

from benchmarks.system import System
from benchmarks.workload import Message


@dataclass(frozen=True, slots=True)
class Throughput:
    """Publish → committed in the warehouse, ledger included."""

    events: int
    publish_s: float
    total_s: float
    events_per_s: float


@dataclass(frozen=True, slots=True)
class Latency:
    """Publish → queryable."""

    rate_per_s: float
    events: int
    p50_ms: float
    p95_ms: float
    p99_ms: float
    max_ms: float


@dataclass(frozen=True, slots=True)
class Usage:
    """What one process used over a span of time."""

    cpu_percent: float
    """Of one core."""
    rss_mb: float
    pss_mb: float


async def publish(system: System, messages: Sequence[Message], window: int = 512) -> None:
    """Publishes everything with acknowledgements, at most ``window`` of them outstanding."""
    js = system.client.jetstream(publish_async_max_pending=window)
    for message in messages:
        await js.publish_async(message.subject, message.data, headers=message.headers, wait_stall=30)
    await js.publish_async_completed()


async def until_applied(system: System, events: int, entries: int, within_s: float) -> None:
    """Waits until the warehouse holds so many events and ledger entries in all."""
    deadline = time.perf_counter() + within_s
    while True:
        applied = await system.applied()
        if applied is not None and applied.events >= events and applied.ledger_entries >= entries:
            return
        if time.perf_counter() > deadline:
            msg = f"only {applied} of {events} events and {entries} entries after {within_s:g} s"
            raise TimeoutError(msg)
        await asyncio.sleep(0.1)


async def throughput(system: System, messages: Sequence[Message], entries: int, within_s: float = 240) -> Throughput:
    """How fast ``messages`` are published and committed with their ``entries``."""
    before = await system.applied()
    assert before is not None
    events = sum(message.events for message in messages)
    began = time.perf_counter()
    await publish(system, messages)
    published = time.perf_counter() - began
    await until_applied(system, before.events + events, before.ledger_entries + entries, within_s)
    total = time.perf_counter() - began
    return Throughput(events, published, total, events / total)


async def latency(system: System, messages: Sequence[Message], rate_per_s: float) -> Latency:
    """Publishes at a steady rate, and asks all the while how many events are committed.

    An event counts as queryable when an answer that includes it has arrived: never shown faster than it was.
    """
    before = await system.applied()
    assert before is not None
    js = system.client.jetstream()
    sent: list[float] = []
    seen_at: list[float] = []
    seen: list[int] = []
    total = len(messages)

    async def watch() -> None:
        while not seen or seen[-1] < total:
            applied = await system.applied()
            if applied is not None:
                seen.append(applied.events - before.events)
                seen_at.append(time.perf_counter())
            await asyncio.sleep(0.05)

    watching = asyncio.create_task(watch())
    began = time.perf_counter()
    for number, message in enumerate(messages):
        pause = began + number / rate_per_s - time.perf_counter()
        if pause > 0:
            await asyncio.sleep(pause)
        sent.append(time.perf_counter())
        await js.publish_async(message.subject, message.data, headers=message.headers, wait_stall=30)
    async with asyncio.timeout(60):
        await watching
    took = sorted((seen_at[bisect_left(seen, number + 1)] - at) * 1000 for number, at in enumerate(sent))
    cuts = quantiles(took, n=100)
    return Latency(rate_per_s, total, cuts[49], cuts[94], cuts[98], took[-1])


async def usage(processes: dict[str, psutil.Process], over_s: float) -> dict[str, Usage]:
    """CPU over the next ``over_s`` seconds and memory at their end, by process."""
    began = {name: process.cpu_times() for name, process in processes.items()}
    await asyncio.sleep(over_s)
    told = {}
    for name, process in processes.items():
        times = process.cpu_times()
        spent = times.user + times.system - began[name].user - began[name].system
        memory = process.memory_full_info()
        told[name] = Usage(100 * spent / over_s, memory.rss / 1e6, memory.pss / 1e6)
    return told
