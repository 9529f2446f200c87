"""``python -m benchmarks [--short]``: measures the system on this machine and writes ``benchmarks/results/latest.json``."""

import argparse
import asyncio
import json
import os
import platform
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import uvloop
from rich.console import Console
from rich.table import Table

from benchmarks import measurements, workload
from benchmarks.system import System

RESULTS = Path(__file__).parent / "results" / "latest.json"


async def run(*, short: bool) -> dict[str, Any]:
    """Every measurement, one after the other, against one system."""
    single, batched, seconds, idle_s = (20_000, 100_000, 8, 5) if short else (100_000, 600_000, 30, 20)
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="agentops-bench-") as directory:
        system = System(Path(directory))
        await system.start()
        try:
            say("warming up")
            warm = list(workload.generate(2_000, seed=1))
            await measurements.throughput(system, workload.singles(warm), workload.billable(warm))

            say(f"{batched:,} events in micro-batches of 500")
            events = list(workload.generate(batched, seed=2))
            results["batched"] = asdict(
                await measurements.throughput(system, workload.batches(events), workload.billable(events))
            )

            say(f"{single:,} single events")
            events = list(workload.generate(single, seed=3))
            watched = asyncio.create_task(measurements.usage(system.usage(), 3))
            results["single"] = asdict(await measurements.throughput(system, workload.singles(events), workload.billable(events)))
            results["processes_under_load"] = {name: asdict(used) for name, used in (await watched).items()}

            say("latency at 500 events/s")
            events = list(workload.generate(500 * seconds, seed=4))
            results["latency"] = {"500": asdict(await measurements.latency(system, workload.singles(events), 500))}

            say("idle")
            used = await measurements.usage(system.usage(), idle_s)
            results["processes_idle"] = {name: asdict(each) for name, each in used.items()}
        finally:
            await system.stop()
    return {
        "end_to_end": {name: results.pop(name) for name in ("single", "batched")},
        **results,
        "machine": {"cores": os.cpu_count(), "python": platform.python_version(), "system": platform.platform()},
        "short": short,
        "measured_at": datetime.now(UTC).isoformat(),
    }


def say(what: str) -> None:
    """Progress, on stderr."""
    print(f"bench: {what} …", file=sys.stderr, flush=True)


def show(results: Mapping[str, Any], console: Console) -> None:
    """The figures as tables."""
    table = Table("publish → committed with ledger", "events", "events/s", title="Throughput")
    for name, row in results["end_to_end"].items():
        table.add_row(name, f"{row['events']:,}", f"{row['events_per_s']:,.0f}")
    console.print(table)
    table = Table("events/s", "p50", "p95", "p99", "max", title="Publish → queryable, ms")
    for rate, row in results["latency"].items():
        table.add_row(rate, *(f"{row[key]:.0f}" for key in ("p50_ms", "p95_ms", "p99_ms", "max_ms")))
    console.print(table)
    table = Table("process", "CPU under load", "CPU idle", "RSS MB", "PSS MB", title="Processes (CPU in % of one core)")
    for name, row in results["processes_idle"].items():
        loaded = results["processes_under_load"][name]
        table.add_row(
            name, f"{loaded['cpu_percent']:.0f}", f"{row['cpu_percent']:.1f}", f"{row['rss_mb']:.0f}", f"{row['pss_mb']:.0f}"
        )
    console.print(table)


def main() -> int:
    """Measures, shows, writes."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--short", action="store_true", help="fewer events: under two minutes")
    results = uvloop.run(run(short=parser.parse_args().short))
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=2) + "\n")
    show(results, Console())
    print(f"written to {RESULTS.relative_to(Path.cwd()) if RESULTS.is_relative_to(Path.cwd()) else RESULTS}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
