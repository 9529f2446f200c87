"""How long an event takes to become queryable, at several rates."""

from typing import Final

from benchmarks import measurements, workload
from benchmarks.forms import LATENCY_RATES
from benchmarks.parts.part import Bench, Figures, Running, softly
from benchmarks.publishing import Load, load
from benchmarks.system import System

_ALONE: Final = 2_000
"""From more events a second than this, producers send micro-batches."""
_TOGETHER_S: Final = 0.05
"""Of so much time."""


def prepared(rate: int, seconds: float, seed: int) -> Load:
    """What producers send at ``rate`` events a second: single events, from ``_ALONE`` on each tenant's events of 50 ms."""
    events = list(workload.generate(max(1, int(rate * seconds)), seed=seed))
    if rate <= _ALONE:
        return load(workload.singles(events))
    return load(workload.batches(events, max(1, int(rate * _TOGETHER_S / len(workload.TENANTS)))))


async def run(bench: Bench) -> Figures:
    """From the lowest rate to the highest."""
    measured: Figures = {}
    async with Running(System(bench.directory / "system")) as system:
        bench.say("warming up")
        await measurements.throughput(system, prepared(_ALONE, bench.form.warm_up / _ALONE, 10))
        for seed, rate in enumerate(LATENCY_RATES):
            bench.say(f"{rate:,} events/s")
            sent = prepared(rate, bench.form.latency_s, 11 + seed)
            measured[str(rate)] = await softly(bench.say, measurements.latency(system, sent, rate)) | {
                "largest_message_events": max(sent.events)
            }
    return {"latency": measured}
