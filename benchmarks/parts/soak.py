"""Whether memory stays flat: a steady load for an hour, or as long as asked."""

import asyncio
import contextlib
import time
from collections.abc import Sequence
from typing import Final

from benchmarks import measurements
from benchmarks.parts.latency import prepared
from benchmarks.parts.part import Bench, Figures, Running
from benchmarks.publishing import due
from benchmarks.system import System

_CHUNK_S: Final = 10


def slope_per_hour(minutes: Sequence[float], values: Sequence[float]) -> float:
    """By how much ``values`` grow in an hour: the straight line of least squares."""
    count = len(minutes)
    if count < 2:
        return 0.0
    middle, mean = sum(minutes) / count, sum(values) / count
    spread = sum((minute - middle) ** 2 for minute in minutes)
    return 60 * sum((minute - middle) * (value - mean) for minute, value in zip(minutes, values, strict=True)) / spread


async def run(bench: Bench) -> Figures:
    """Samples every process's memory; growth is that of the second half."""
    minutes: list[float] = []
    samples: dict[str, list[float]] = {}
    rate = bench.soak_rate
    async with Running(System(bench.directory / "system")) as system:
        began = time.perf_counter()
        over = began + bench.soak_minutes * 60
        start, seed = began + 1.0, 1000
        publishing: asyncio.Task[float] | None = None
        try:
            while time.perf_counter() < over:
                sent = await asyncio.to_thread(prepared, rate, _CHUNK_S, seed)
                seed += 1
                if publishing is not None:
                    await publishing
                publishing = asyncio.create_task(
                    system.publisher.publish_on_time(sent.frames, [start + moment for moment in due(sent.events, rate)])
                )
                start = max(start + _CHUNK_S, time.perf_counter())
                minutes.append((time.perf_counter() - began) / 60)
                for name, process in system.usage().items():
                    samples.setdefault(name, []).append(measurements.memory_mb(process)[1])
                bench.say(f"{minutes[-1]:.1f} min, {sum(values[-1] for values in samples.values()):.0f} MB")
        finally:
            if publishing is not None:
                publishing.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await publishing
        applied = await measurements.now_applied(system)
    half = len(minutes) // 2
    whole = [sum(values[number] for values in samples.values()) for number in range(len(minutes))]
    return {
        "soak": {
            "minutes": bench.soak_minutes,
            "events": applied.events,
            "rate_per_s": rate,
            "pss_mb": {
                name: {"first": values[0], "middle": values[half], "last": values[-1]} for name, values in samples.items()
            },
            "pss_mb_in_all": {"middle": whole[half], "last": whole[-1]},
            "grows_mb_per_hour": slope_per_hour(minutes[half:], whole[half:]),
        }
    }
