"""What 10,000 agents that only say that they are alive cost, over all hops."""

import asyncio
import contextlib
import time
from dataclasses import asdict
from typing import Final

from benchmarks import measurements, workload
from benchmarks.forms import AGENTS, HEARTBEAT_EVERY_S
from benchmarks.parts.part import Bench, Figures, Running
from benchmarks.publishing import due, load
from benchmarks.system import System

_RATE: Final = AGENTS // HEARTBEAT_EVERY_S
_BEFORE_S: Final = 60
"""At the latest after this every agent has been heard of, and been told to be healthy."""


async def run(bench: Bench) -> Figures:
    """Each heartbeat in a message of its own; measured once every agent is known and its health told, which happens once."""
    seconds = bench.form.heartbeat_s
    async with Running(System(bench.directory / "system")) as system:
        bench.say(f"{AGENTS:,} agents, {_RATE:,} heartbeats/s")
        sent = load(workload.heartbeats(AGENTS, int((_BEFORE_S + seconds + 2) * _RATE), seed=50))
        began = time.perf_counter()
        published = [began + moment for moment in due(sent.events, _RATE)]
        publishing = asyncio.create_task(system.publisher.publish_on_time(sent.frames, published))
        try:
            while system.caused < AGENTS and time.perf_counter() < began + _BEFORE_S:  # noqa: ASYNC110 - counted by a callback
                await asyncio.sleep(0.5)
            told = system.caused
            bench.say(f"{told:,} agents known after {time.perf_counter() - began:.0f} s")
            before, caused, at = await measurements.now_applied(system), system.caused, time.perf_counter()
            used = await measurements.usage(system.usage(), seconds)
            after, over = await measurements.now_applied(system), time.perf_counter() - at
            changed = system.caused - caused
        finally:
            publishing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await publishing
    stored = after.events - before.events
    return {
        "heartbeats": {
            "agents": AGENTS,
            "heartbeats_per_s": _RATE,
            "stored_per_s": stored / over,
            "cpu_percent": sum(each.cpu_percent for each in used.values()),
            "cpu_us_per_heartbeat": sum(each.cpu_percent for each in used.values()) / 100 * over / stored * 1e6,
            "pss_mb": sum(each.pss_mb for each in used.values()),
            "events_caused": changed,
            "known_first": told,
            "processes": {name: asdict(each) for name, each in used.items()},
        }
    }
