"""How long questions take in a large warehouse, alone and while events come in; asked over NATS, as everybody asks."""

import asyncio
import contextlib
import random
import time
from collections.abc import Callable
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from benchmarks import bulk_load, measurements, warehouses
from benchmarks.parts.latency import prepared
from benchmarks.parts.part import Bench, Figures, Running
from benchmarks.publishing import Load, due
from benchmarks.system import NoAnswerError, System

_LOAD: Final = 1_000
"""Single events a second while asking."""
_PAUSE_S: Final = 0.05
_LOAD_S: Final = 90
"""The load lasts no longer; asking may end before."""
_DAYS: Final = 30

Question = tuple[str, Callable[[], dict[str, Any]]]


def questions(events: int, until: datetime) -> dict[str, Question]:
    """By what each is called in the results: the query, and its parameters each time it is asked."""
    chance = random.Random(5)
    month = (until - timedelta(days=_DAYS)).isoformat()
    runs = bulk_load.run_ids(events)
    return {
        "fleet": ("fleet", lambda: {"limit": 1000}),
        "spend_by_day": ("spend", lambda: {"by": ["day"], "since": month, "limit": 1000}),
        "spend_by_model": ("spend", lambda: {"by": ["model"], "since": month}),
        "run": ("run", lambda: {"run_id": bulk_load.run_id(chance.randrange(runs)), "limit": 1000}),
        "percentiles_day": ("latency", lambda: {"by": ["agent"], "limit": 1000}),
        "percentiles_month": ("latency", lambda: {"by": ["model"], "since": month}),
    }


async def _ask(system: System, asked: dict[str, Question], times: int, until_s: float) -> Figures:
    """Each question in turn, ``times`` over or until ``until_s`` has passed."""
    took: dict[str, list[float]] = {name: [] for name in asked}
    failed: dict[str, str] = {}
    over = time.perf_counter() + until_s
    for _ in range(times):
        for name, (query, parameters) in asked.items():
            if name in failed:
                continue
            began = time.perf_counter()
            try:
                answer = await system.asked(query, **parameters())
            except NoAnswerError as error:
                failed[name] = str(error)
                continue
            took[name].append(time.perf_counter() - began)
            if not answer["rows"]:
                failed[name] = "no rows"
            await asyncio.sleep(_PAUSE_S)
        if time.perf_counter() > over:
            break
    return {
        name: {"failed": failed[name]}
        if name in failed
        else {"first_ms": several[0] * 1000, "asked": len(several), **asdict(measurements.percentiles(several[1:] or several))}
        for name, several in took.items()
    }


async def _while_ingesting(system: System, asked: dict[str, Question], times: int, load: Load) -> Figures:
    began = time.perf_counter() + 0.2
    before = await measurements.now_applied(system)
    published = [began + moment for moment in due(load.events, _LOAD)]
    publishing = asyncio.create_task(system.publisher.publish_on_time(load.frames, published))
    try:
        # The first transactions find cold memory; what is asked of is how it goes on.
        await asyncio.sleep(2)
        told = await _ask(system, asked, times, load.total_events / _LOAD - 5)
        sent = sum(moment <= time.perf_counter() for moment in published)
        done = await measurements.now_applied(system)
    finally:
        publishing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await publishing
    return told | {"events_per_s": _LOAD, "behind_s": max(0.0, (sent - (done.events - before.events)) / _LOAD)}


async def _of(bench: Bench, events: int) -> Figures:
    kept = await asyncio.to_thread(warehouses.kept, bench.kept, events, bench.say)
    directory = bench.directory / str(events)
    asked = questions(events, kept.until)
    seconds = min(_LOAD_S, bench.form.asks * len(asked) * 0.3 + 10)
    async with Running(System(directory, prepare=warehouses.lend(kept, directory))) as system:
        bench.say(f"{events:,} events: alone")
        alone = await _ask(system, asked, bench.form.asks, _LOAD_S)
        load = prepared(_LOAD, seconds, 30)
        bench.say(f"{events:,} events: while {_LOAD:,} events/s come in")
        ingesting = await _while_ingesting(system, asked, bench.form.asks, load)
        rss, pss = measurements.memory_mb(system.usage()["aggregate"])
    return {
        "alone": alone,
        "while_ingesting": ingesting,
        "file_bytes": kept.bytes,
        "aggregate_rss_mb": rss,
        "aggregate_pss_mb": pss,
    }


async def run(bench: Bench) -> Figures:
    """Every size of the form."""
    measured: Figures = {}
    for events in bench.form.warehouses:
        try:
            measured[str(events)] = await _of(bench, events)
        except Exception as error:  # noqa: BLE001
            measured[str(events)] = {"failed": f"{type(error).__name__}: {error}"}
            bench.say(f"failed: {error}")
    return {"queries": measured | {"asked_at": datetime.now(UTC).isoformat()}}
