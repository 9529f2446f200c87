"""How many events a second go all the way, and what each process uses for it and without it."""

import asyncio
import gc
from collections.abc import Callable, Coroutine
from dataclasses import asdict
from typing import Any, Final

from benchmarks import measurements, workload
from benchmarks.parts.part import Bench, Figures, Running, softly
from benchmarks.publishing import Load, load
from benchmarks.system import System

_SETTLES_S: Final = 3.0


def _made(events: int, seed: int, messages: Callable[[list[workload.Made]], list[workload.Message]]) -> Load:
    found = load(messages(list(workload.generate(events, seed=seed))))
    # Hundreds of thousands of objects, looked through at each collection otherwise.
    gc.collect()
    gc.freeze()
    return found


async def run(bench: Bench) -> Figures:
    """Micro-batches, single events, both mixed; then nothing."""
    form = bench.form
    measured: Figures = {}
    loaded: dict[str, Any] = {}

    async def single(system: System, prepared: Load) -> measurements.Throughput:
        processes = system.usage()
        before = {name: measurements.cpu_s(process) for name, process in processes.items()}
        found = await measurements.throughput(system, prepared)
        used = measurements.usage_since(processes, before, found.total_s)
        loaded.update({name: asdict(each) for name, each in used.items()})
        return found

    async with Running(System(bench.directory / "system")) as system:
        bench.say("warming up")
        await measurements.throughput(system, _made(form.warm_up, 1, workload.singles))

        async def one(name: str, said: str, prepared: Load, how: Callable[[System, Load], Coroutine[Any, Any, Any]]) -> None:
            bench.say(said)
            measured[name] = await softly(bench.say, how(system, prepared))
            gc.unfreeze()

        await one("single", f"{form.single:,} single events", _made(form.single, 2, workload.singles), single)
        await one(
            "batched",
            f"{form.batched:,} events in micro-batches of 500",
            _made(form.batched, 3, workload.batches),
            measurements.throughput,
        )
        await one(
            "mixed", f"{form.mixed:,} events, half of them single", _made(form.mixed, 4, workload.mixed), measurements.throughput
        )
        bench.say("idle")
        await asyncio.sleep(_SETTLES_S)
        idle = {name: asdict(used) for name, used in (await measurements.usage(system.usage(), form.idle_s)).items()}
    return {"end_to_end": measured, "processes_under_load": loaded, "processes_idle": idle}
