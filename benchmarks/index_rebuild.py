"""``python -m benchmarks.index_rebuild [--events N] [--message M]``: how fast a lost duplicate index is built from EVENTS again.

EVENTS is filled directly, with what validate makes of the fixed workload, M events to the message.
"""

import argparse
import asyncio
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import orjson
import uvloop
from nats.aio.client import Client

from benchmarks import workload
from benchmarks.duplicate_index import memory_mb
from processors.duplicates.index import DuplicateIndex
from processors.validate.catching_up import catch_up
from processors.validate.judging import Limits, take_apart
from schemas.ids import uuid7
from streams import subjects
from streams.apply import apply
from streams.connect import connect
from streams.embedded import EmbeddedServer
from streams.messages import EVENT_COUNT, Received

_WINDOW = 500
"""Publishes under way at once."""
_MADE = 20_000
"""Events really generated; the rest repeat them under new ids."""


def outputs(events: int, size: int) -> Iterator[tuple[str, bytes, int]]:
    """Subject, micro-batch and count: of one tenant and kind each, ``events`` in all."""
    by_subject: dict[str, list[bytes]] = {}
    for made in workload.batches(list(workload.generate(_MADE, seed=9))):
        message = Received(made.subject, made.data, 1, 1, time.time_ns(), 0, "", made.headers)
        for candidate in take_apart(message, Limits()).candidates:
            by_subject.setdefault(subjects.events(made.subject.split(".")[1], candidate.kind), []).append(candidate.line)
    pieces = [(subject, piece) for subject, lines in by_subject.items() for piece in chunks(lines, size)]
    number = 0
    while True:
        for subject, piece in pieces:
            fresh = []
            for line in piece:
                number += 1
                event_id = str(uuid7(1_795_000_000_000 + number // 30, number * 0x9E3779B97F4A7C15))
                fresh.append(line[:34] + event_id.encode() + line[70:])
            yield subject, b"\n".join(fresh), len(fresh)
            if number >= events:
                return


def chunks(lines: list[bytes], size: int) -> Iterator[list[bytes]]:
    """``lines`` in pieces of at most ``size``."""
    for start in range(0, len(lines), size):
        yield lines[start : start + size]


async def fill(client: Client, events: int, size: int) -> int:
    """Publishes them; returns how many there are."""
    js, under_way, total = client.jetstream(publish_async_max_pending=2 * _WINDOW), [], 0
    for subject, data, count in outputs(events, size):
        under_way.append(await js.publish_async(subject, data, headers={EVENT_COUNT: str(count)}))
        total += count
        if len(under_way) >= _WINDOW:
            await asyncio.gather(*under_way)
            under_way.clear()
    await asyncio.gather(*under_way)
    return total


async def stalls(found: list[float]) -> None:
    """How late a task that wants to run every 5 ms is."""
    while True:
        began = time.perf_counter()
        await asyncio.sleep(0.005)
        found.append((time.perf_counter() - began - 0.005) * 1e3)


async def run(directory: Path, events: int, size: int) -> dict[str, float]:
    """Fills EVENTS, builds the index, looks for a bit of it."""
    server = EmbeddedServer(directory / "nats")
    await server.start()
    try:
        client = await connect(server.settings(), "benchmark")
        await apply(client)
        total = await fill(client, events, size)
        index, late, told = DuplicateIndex(directory / "index"), list[float](), list[str]()
        index.open("benchmark")
        watch = asyncio.create_task(stalls(late), name="stalls")
        memory, began, cpu = memory_mb(), time.perf_counter(), time.process_time()
        messages = await catch_up(client, index, told.append)
        seconds, used = time.perf_counter() - began, time.process_time() - cpu
        watch.cancel()
        index.close()
        await client.close()
    finally:
        await server.stop()
    return {
        "events": total, "messages": messages, "seconds": seconds, "events_per_s": total / seconds, "cpu_us_per_event": used / total * 1e6,
        "loop_late_p99_ms": sorted(late)[int(len(late) * 0.99)], "loop_late_max_ms": max(late), "memory_mb": memory_mb() - memory,
        "told": len(told), "cores": os.cpu_count() or 0,
    }  # fmt: skip


def main() -> None:
    """Measures and prints one line of JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.index_rebuild", description=__doc__)
    parser.add_argument("--events", type=int, default=500_000)
    parser.add_argument("--message", type=int, default=500, help="events in one message of EVENTS")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="agentops-index-") as directory:
        found = uvloop.run(run(Path(directory), given.events, given.message))
    print(orjson.dumps({name: round(value, 2) for name, value in found.items()}).decode())


if __name__ == "__main__":
    main()
