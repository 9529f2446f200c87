"""An hour without NATS, as fast as a door takes it: the sidecar is killed and started again twice meanwhile.

``python -m tests.sidecar.outage --events 720000`` measures the whole hour at 200 events a second; the test takes fewer.
"""

import argparse
import asyncio
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from uuid import UUID

import aiohttp
import orjson

from streams.apply import apply
from streams.connect import connect
from streams.embedded import EmbeddedServer
from streams.settings import NatsSettings
from streams.topology import TELEMETRY
from tests.conftest import until
from tests.sidecar.running import Sidecar

SLEEP: Final = ["sleep", "3600"]
KINDS: Final = ("run.started", "model_call.completed", "log.emitted")
AT_ONCE: Final = 500


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of the events."""

    events: int
    taken_s: float
    shipped_s: float
    most_on_disk: int
    in_doubt: int
    """Events of requests that got no answer, and were sent again."""
    missing: int
    repeated: int
    """Ids that stand more than once in TELEMETRY: at most those in doubt; validate knows them."""
    in_order: bool


def event(number: int) -> dict[str, object]:
    """One of many; its id is its number."""
    told: dict[str, object] = {
        "event_version": "v1", "event_id": str(UUID(int=(7 << 76) | (2 << 62) | number)), "event_type": KINDS[number % 3],
        "occurred_at": "2026-11-20T10:00:00Z", "tenant": {"tenant_id": "acme"}, "run": {"agent_id": "a1", "run_id": f"r{number // 30}"},
        "attributes": {"number": number},
    }  # fmt: skip
    if number % 3 == 1:
        told |= {
            "model_call": {"model_call_id": f"c{number}", "provider": "openai", "model": "gpt-4o-mini", "latency_ms": 812.5},
            "resource_usage": {"input_tokens": 1200, "output_tokens": 300},
        }
    elif number % 3 == 2:
        told["log"] = {"level": "info", "message": "an ordinary line of an agent's log"}
    return told


def on_disk(sidecar: Sidecar) -> int:
    """Bytes of the spool's segments."""
    return sum(path.stat().st_size for path in (sidecar.data / "spool" / "a1").iterdir() if ".seg" in path.name)


async def outage(
    server: EmbeddedServer, sidecar: Sidecar, events: int, bound: int, say: Callable[[str], None] = lambda _: None
) -> Outcome:
    """NATS goes, ``events`` come, the sidecar is killed after each third, NATS comes back: what arrived."""
    environment = {"AGENTOPS_SIDECAR_SPOOL_MAX_BYTES": str(bound)}
    await server.kill()
    await sidecar.start("--heartbeat", "60", command=SLEEP, **environment)
    kills = {events // 3 // AT_ONCE * AT_ONCE, events * 2 // 3 // AT_ONCE * AT_ONCE}
    began, most, doubt, number = time.monotonic(), 0, 0, 0
    while number < events:
        batch = [event(each) for each in range(number, min(number + AT_ONCE, events))]
        if number in kills:
            kills.discard(number)
            # Killed while it takes a request: whether it has it nobody knows, so it is sent again.
            posting = asyncio.create_task(sidecar.post(*batch))
            await asyncio.sleep(0)
            await sidecar.kill()
            answered = await asyncio.gather(posting, return_exceptions=True)
            doubt += len(batch)
            await sidecar.start("--heartbeat", "60", command=SLEEP, **environment)
            say(f"killed after {number:,} ({answered[0]!r:.60}), started again")
        status = await sidecar.post(*batch)
        assert status == 202, f"{status} after {number:,} events"
        number += len(batch)
        most = max(most, on_disk(sidecar))
        assert most <= bound
    taken_s = time.monotonic() - began
    say(f"{events:,} events taken in {taken_s:.1f} s, {most:,} bytes on disk")
    began = time.monotonic()
    await server.start()
    await until(lambda: on_disk(sidecar) < 300_000 and _empty(sidecar), "the spool is empty", 600)
    shipped_s = time.monotonic() - began
    found = await _arrived(server.settings())
    return Outcome(
        events, taken_s, shipped_s, most, doubt, events - len(set(found)), len(found) - len(set(found)),
        in_order=list(dict.fromkeys(found)) == sorted(set(found)),
    )  # fmt: skip


def _empty(sidecar: Sidecar) -> bool:
    """Whether the position on disk is the end of the newest segment."""
    directory = sidecar.data / "spool" / "a1"
    raw = (directory / "position").read_bytes()
    segment, offset = int.from_bytes(raw[:8], "big"), int.from_bytes(raw[8:16], "big")
    newest = max(directory.glob("*.seg"))
    return int(newest.stem) == segment and newest.stat().st_size == offset


async def _arrived(settings: NatsSettings) -> list[int]:
    """The numbers of the events in TELEMETRY, in its order."""
    client = await connect(settings, "test-outage")
    last = (await client.jsm().stream_info(TELEMETRY)).state.last_seq
    numbers: list[int] = []
    for sequence in range(1, last + 1):
        message = await client.jsm().get_msg(TELEMETRY, sequence)
        for line in (message.data or b"").split(b"\n"):
            number = orjson.loads(line).get("attributes", {}).get("number")
            if number is not None:
                numbers.append(number)
    await client.close()
    return numbers


async def _main(events: int, bound: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        server = EmbeddedServer(Path(name) / "nats")
        await server.start()
        client = await connect(server.settings(), "outage-setup")
        await apply(client)
        await client.close()
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(force_close=True)) as http:
            sidecar = Sidecar(Path(name), server.settings("sidecar"), http)
            try:
                print(await outage(server, sidecar, events, bound, print))
            finally:
                await sidecar.stop()
                await server.stop()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=720_000)
    parser.add_argument("--bound", type=int, default=512 * 1024 * 1024)
    given = parser.parse_args()
    asyncio.run(_main(given.events, given.bound))
