"""What an event costs, in CPU, memory and bytes on disk, as the load doubles."""

import asyncio
import time
from dataclasses import asdict
from pathlib import Path

from benchmarks import measurements, workload
from benchmarks.parts.part import Bench, Figures, Running
from benchmarks.publishing import due, load
from benchmarks.system import AGGREGATE, System
from streams import topology

_TOGETHER_S = 0.05


async def _step(system: System, rate: int, seconds: float, seed: int) -> Figures:
    """CPU of each process for one event, and memory afterwards, at ``rate`` events a second."""
    events = list(workload.generate(int(rate * seconds), seed=seed))
    sent = load(workload.batches(events, max(1, int(rate * _TOGETHER_S / len(workload.TENANTS)))))
    before, processes = await measurements.now_applied(system), system.usage()
    used = {name: measurements.cpu_s(process) for name, process in processes.items()}
    began = time.perf_counter()
    late = await system.publisher.publish_on_time(sent.frames, [began + moment for moment in due(sent.events, rate)])
    await system.publisher.acknowledged()
    # What is behind is part of what these events cost.
    await measurements.until_applied(system, before.events + len(events), before.ledger_entries + sent.total_entries, 60)
    took = time.perf_counter() - began
    spent = measurements.usage_since(processes, used, took)
    return {
        "cpu_us_per_event": {name: each.cpu_percent / 100 * took / len(events) * 1e6 for name, each in spent.items()},
        "cpu_us_per_event_in_all": sum(each.cpu_percent for each in spent.values()) / 100 * took / len(events) * 1e6,
        "pss_mb": {name: each.pss_mb for name, each in spent.items()},
        "pss_mb_in_all": sum(each.pss_mb for each in spent.values()),
        "published_late_ms": late * 1000,
        "took_s": took,
    }


def _file_bytes(directory: Path) -> int:
    return sum(file.stat().st_size for file in (directory / "warehouse").glob("agentops.duckdb*"))


async def run(bench: Bench) -> Figures:
    """Each rate for as long, then what all of it left on disk."""
    steps: Figures = {}
    directory = bench.directory / "system"
    async with Running(System(directory)) as system:
        empty = _file_bytes(directory)
        bench.say("warming up")
        await measurements.throughput(system, load(workload.singles(list(workload.generate(bench.form.warm_up, seed=40)))))
        for seed, rate in enumerate(bench.form.load_rates):
            bench.say(f"{rate:,} events/s")
            steps[str(rate)] = await _step(system, rate, bench.form.load_s, 41 + seed)
        applied = await measurements.now_applied(system)
        streams = {name: (await system.client.jsm().stream_info(name)).state for name in (topology.EVENTS, topology.LEDGER)}
        # Stopped, it has folded its log into the file.
        await system.stop_group(AGGREGATE)
        await asyncio.sleep(0.2)
        left = _file_bytes(directory) - empty
        stored = sum(state.bytes for state in streams.values())
    return {
        "memory": {
            "steps": steps,
            "events": applied.events,
            "warehouse_bytes_per_event": left / applied.events,
            "stream_bytes_per_event": stored / applied.events,
            "streams": {name: asdict(state)["bytes"] for name, state in streams.items()},
        }
    }
