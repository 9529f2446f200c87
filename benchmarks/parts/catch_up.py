"""How fast the warehouse catches up after the aggregate was away, while new events keep coming."""

import asyncio
import contextlib
import time
from dataclasses import asdict, dataclass
from typing import Final

from benchmarks import measurements, workload
from benchmarks.forms import OUTAGE_RATE
from benchmarks.parts.latency import prepared
from benchmarks.parts.part import Bench, Figures, Running
from benchmarks.publishing import due, load
from benchmarks.system import AGGREGATE, System
from streams import topology

_GOES_ON: Final = 1_000
"""Single events a second that keep coming."""
_BEHIND_S: Final = 1.0
"""Caught up: no further behind than this."""
_PATIENCE_S: Final = 120.0


@dataclass(frozen=True, slots=True)
class CaughtUp:
    """What catching up took."""

    outage_s: float
    """As long an outage, at 2,000 events a second, leaves as much behind."""
    waiting_events: int
    answering_s: float
    """From the start of the process to its first answer."""
    caught_up_s: float
    """From the start of the process until it was less than a second behind."""
    stored_events: int
    """Until then, those that came meanwhile among them."""
    events_per_s: float


async def _behind_us(system: System) -> None:
    """Waits until everything published is validated and priced, and only the warehouse is behind."""
    manager, last = system.client.jsm(), (-1, -1)
    deadline = time.perf_counter() + _PATIENCE_S
    while time.perf_counter() < deadline:
        found = [(await manager.stream_info(name)).state for name in (topology.TELEMETRY, topology.EVENTS, topology.LEDGER)]
        now = (found[1].last_seq, found[2].last_seq)
        if found[0].messages == 0 and now == last:
            return
        last = now
        await asyncio.sleep(0.5)
    raise measurements.NotAppliedError(f"validate and cost were not done after {_PATIENCE_S:g} s")


async def _caught_up(system: System, stored_before: int, waiting: int) -> CaughtUp:
    going = prepared(_GOES_ON, _PATIENCE_S, 22)
    began = time.perf_counter()
    await system.start_group((AGGREGATE,))
    published = [began + moment for moment in due(going.events, _GOES_ON)]
    publishing = asyncio.create_task(system.publisher.publish_on_time(going.frames, published))
    answering, stored = 0.0, 0
    try:
        while (asked := time.perf_counter()) < began + _PATIENCE_S - 1:
            applied = await system.ours()
            if applied is not None:
                took = time.perf_counter() - began
                answering, stored = answering or took, applied.events - stored_before
                if stored >= waiting + _GOES_ON * max(0.0, asked - began - _BEHIND_S):
                    return CaughtUp(waiting / OUTAGE_RATE, waiting, answering, took, stored, stored / took)
            await asyncio.sleep(0.05)
        raise measurements.NotAppliedError(
            f"{stored:,} of {waiting:,} events that had waited were stored after {_PATIENCE_S:g} s"
        )
    finally:
        publishing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await publishing


async def run(bench: Bench) -> Figures:
    """The aggregate stops, events come, it starts again."""
    events = bench.form.outage_events
    async with Running(System(bench.directory / "system")) as system:
        bench.say("warming up")
        await measurements.throughput(system, load(workload.singles(list(workload.generate(bench.form.warm_up, seed=20)))))
        before = await measurements.now_applied(system)
        await system.stop_group(AGGREGATE)
        bench.say(f"{events:,} events while the aggregate is away")
        await system.publisher.publish(load(workload.batches(list(workload.generate(events, seed=21)))).frames)
        await _behind_us(system)
        bench.say("it is back")
        found = await _caught_up(system, before.events, events)
    return {"catch_up": asdict(found)}
