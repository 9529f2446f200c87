"""What one event costs nats-server and validate in CPU time: ``python -m benchmarks.ingest_cpu``.

CPU time of the processes, not time on the clock, and a backlog that validate takes in full batches: neighbours on the
machine change it little.
"""

import argparse
import asyncio
import signal
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import psutil

from benchmarks import workload
from benchmarks.system import System
from streams import topology

_SEED = 7
_WARM = 2000
_SETTLED_S = 1.5


async def publish(system: System, messages: Sequence[workload.Message], window: int = 512) -> None:
    """Publishes everything with acknowledgements, at most ``window`` of them outstanding."""
    js = system.client.jetstream(publish_async_max_pending=window)
    for message in messages:
        await js.publish_async(message.subject, message.data, headers=message.headers, wait_stall=30)
    await js.publish_async_completed()


async def until_gone(system: System, sequence: int, within_s: float = 180) -> None:
    """Waits until validate has covered everything up to ``sequence`` and TELEMETRY is empty."""
    deadline = time.perf_counter() + within_s
    while True:
        state = (await system.client.jsm().stream_info(topology.TELEMETRY)).state
        if state.messages == 0 and state.last_seq >= sequence:
            return
        if time.perf_counter() > deadline:
            msg = f"{state.messages} messages are left of {sequence} after {within_s:g} s"
            raise TimeoutError(msg)
        await asyncio.sleep(0.2)


def spent(process: psutil.Process) -> float:
    """CPU seconds so far."""
    times = process.cpu_times()
    return float(times.user + times.system)


async def measure(events: int, batch: int) -> None:
    """Prints microseconds an event: of the server while it stores, of both while validate works the backlog off."""
    made = list(workload.generate(events + _WARM, _SEED))
    messages = workload.singles(made) if batch == 1 else workload.batches(made, batch)
    warm = max(1, len(messages) * _WARM // len(made))
    counted = sum(message.events for message in messages[warm:])
    with tempfile.TemporaryDirectory() as directory:
        system = System(Path(directory), groups=(("validate",),))
        await system.start()
        try:
            await publish(system, messages[:warm])
            await until_gone(system, warm)
            processes = system.usage()
            server, validate = processes["nats-server"], processes["validate"]
            validate.send_signal(signal.SIGSTOP)
            began = spent(server)
            await publish(system, messages[warm:])
            await asyncio.sleep(_SETTLED_S)
            stored = spent(server)
            at_rest = spent(validate)
            validate.send_signal(signal.SIGCONT)
            await until_gone(system, len(messages))
            await asyncio.sleep(_SETTLED_S)
            figures = {
                "nats-server, storing": stored - began,
                "nats-server, working off": spent(server) - stored,
                "validate": spent(validate) - at_rest,
            }
        finally:
            await system.stop()
    print(f"{counted:,} events, {batch} a message: CPU time an event")
    for name, seconds in figures.items():
        print(f"  {name}: {1e6 * seconds / counted:.1f} µs")


def main() -> None:
    """Measures once."""
    parser = argparse.ArgumentParser(description="CPU time of nats-server and validate for each event.")
    parser.add_argument("--events", type=int, default=40_000)
    parser.add_argument("--batch", type=int, default=1, help="events a message")
    given = parser.parse_args()
    asyncio.run(measure(given.events, given.batch))


if __name__ == "__main__":
    main()
