"""``python -m chaos.producer``: one publisher process. It forgets an event when it has an acknowledgement, and not before.

SIGTERM lets it publish what it still holds and end; killed, it leaves its journal, and the next life begins a new one.
"""

import argparse
import asyncio
import contextlib
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from nats.aio.client import Client

from chaos.journal import Journal
from chaos.traffic import Parcel, Traffic
from service.signals import stop_event
from streams.connect import CannotConnectError, connect
from streams.messages import CONTENT_TYPE
from streams.publish import NotStoredError, publish
from streams.settings import NatsSettings

IN_FLIGHT = 200
"""Parcels without an acknowledgement; then it makes no new ones: a publisher's memory is bounded too."""
_TICK_S = 0.25
_FINISH_S = 90.0


def clock_file(directory: Path, name: str) -> Path:
    """Where the driver says how wrong the clock of producer ``name`` is, in seconds."""
    return directory / f"{name}.clock"


@dataclass(slots=True)
class Producer:
    """One life of one publisher."""

    name: str
    directory: Path
    rate: float
    client: Client
    traffic: Traffic
    journal: Journal
    _gate: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(IN_FLIGHT))
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def clock(self) -> datetime:
        """What this producer takes for the time."""
        wrong = 0.0
        with contextlib.suppress(OSError, ValueError):
            wrong = float(json.loads(clock_file(self.directory, self.name).read_text()))
        return datetime.now(UTC) + timedelta(seconds=wrong)

    async def run(self, stop: asyncio.Event) -> None:
        """Publishes at its rate until ``stop``, then finishes what it holds."""
        owed = 0.0
        last = time.monotonic()
        while not stop.is_set():
            # A publisher that was stopped, or had to wait, does not make up for it in one burst.
            now = time.monotonic()
            owed += min(now - last, 1.0) * self.rate
            last = now
            parcels = self.traffic.chunk(int(owed), self.clock()) if owed >= 1 else []
            owed -= int(owed)
            for parcel in (*parcels, *self.traffic.due(now)):
                await self._gate.acquire()
                task = asyncio.create_task(self._deliver(parcel), name="parcel")
                self._tasks.add(task)
                task.add_done_callback(self._tasks.discard)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_TICK_S):
                    await stop.wait()
        async with asyncio.timeout(_FINISH_S):
            while self._tasks:
                await asyncio.gather(*self._tasks)

    async def _deliver(self, parcel: Parcel) -> None:
        """Publishes ``parcel`` until it is acknowledged, and writes that down."""
        try:
            headers = {CONTENT_TYPE: parcel.content_type}
            pause_s = 0.05
            while True:
                self.journal.attempted(parcel.marks)
                try:
                    await publish(
                        self.client, parcel.subject, parcel.data, message_id=parcel.message_id, headers=headers, timeout_s=2.0
                    )
                except NotStoredError:
                    await asyncio.sleep(pause_s)
                    pause_s = min(1.0, pause_s * 2)
                else:
                    break
            self.journal.acknowledged(parcel.events)
            self.journal.swallowed(parcel.marks)
            if parcel.repeats is not None:
                self.journal.repeated(parcel.repeats, parcel.repeated_events)
            self.traffic.acknowledged(parcel, time.monotonic())
        finally:
            self._gate.release()


async def _connected(name: str, stop: asyncio.Event) -> Client | None:
    while not stop.is_set():
        try:
            return await connect(NatsSettings(), name, patience_s=5.0)
        except CannotConnectError as error:
            print(f"{name}: {error}", file=sys.stderr, flush=True)
            await asyncio.sleep(0.5)
    return None


async def _live(name: str, seed: int, rate: float, directory: Path, late_s: float) -> None:
    stop = stop_event()
    client = await _connected(name, stop)
    if client is None:
        return
    life = len(list(directory.glob(f"{name}.*.journal"))) + 1
    journal = Journal(directory / f"{name}.{life}.journal")
    try:
        await Producer(name, directory, rate, client, Traffic(f"{name}life{life}", seed, late_s), journal).run(stop)
    finally:
        journal.close()
        await client.close()


def main(arguments: Sequence[str] | None = None) -> int:
    """Publishes until SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m chaos.producer", description=__doc__)
    parser.add_argument("--name", required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--rate", type=float, required=True)
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--late", type=float, required=True)
    given = parser.parse_args(arguments)
    asyncio.run(_live(given.name, given.seed, given.rate, given.directory, given.late))
    return 0


if __name__ == "__main__":
    sys.exit(main())
