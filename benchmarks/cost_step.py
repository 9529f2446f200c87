"""``python -m benchmarks.cost_step [--calls N] [--observed]``: what cost does with a call, without streams: CPU microseconds by part.

``price`` makes the entry and what the call is known again by, ``known`` asks the index, ``charge`` judges, ``add`` writes the index.
``--observed``: the calls are seen by a proxy, and known by their span besides.
"""

import argparse
import sys
import tempfile
import time
from datetime import timedelta
from pathlib import Path

import orjson

from benchmarks import workload
from processors.cost import snapshot
from processors.cost.app import price
from processors.cost.charging import charge
from processors.cost.memory import Memory
from processors.cost.recognising import Recognition
from processors.duplicates.index import DuplicateIndex
from schemas.prices.finding import PriceBook
from streams.messages import Received

_BATCH = 400
_ROUNDS = 3
_NOW_NS = 1_795_000_000_000_000_000


def messages(calls: int, *, observed: bool) -> list[Received]:
    """Calls of one tenant as validate stores them."""
    lines: list[bytes] = []
    for number, made in enumerate(workload.generate(calls * 2, seed=3)):
        if made.event_type != "model_call.completed" or len(lines) == calls:
            continue
        event = orjson.loads(made.data)
        event["tenant"]["tenant_id"] = "acme"
        event["ingest"] = {"received_at": "2026-11-30T10:00:00.123456Z", "sequence": number, "position": 0}
        if observed:
            event["attributes"] = {"agentops.observed_by": "proxy"}
        lines.append(orjson.dumps(event))
    return [
        Received("events.acme.model_call", b"\n".join(lines[first : first + _BATCH]), first + 1, 1, _NOW_NS, 0, "")
        for first in range(0, len(lines), _BATCH)
    ]


def measured(several: list[Received], path: Path) -> dict[str, float]:
    """CPU of each part, in microseconds a call."""
    index = DuplicateIndex(path)
    index.open("benchmark")
    memory, book, calls = Memory(index), PriceBook.of(snapshot.default()), 0
    spent = dict.fromkeys(("price", "known", "charge", "add"), 0.0)
    for message in several:
        moments = [time.process_time()]
        charges = price([message], book, timedelta(minutes=5)).charges
        moments.append(time.process_time())
        recognition = Recognition(memory.known(one.seen for _, one in charges if one.seen is not None))
        moments.append(time.process_time())
        charged = charge(charges, recognition)
        moments.append(time.process_time())
        places = dict.fromkeys(charged.entries["acme"], message.sequence)
        memory.add(recognition.rows(places), message.sequence, message.stored_ns)
        moments.append(time.process_time())
        calls += charged.count
        for number, part in enumerate(spent):
            spent[part] += moments[number + 1] - moments[number]
    index.close()
    return {part: round(seconds / calls * 1e6, 2) for part, seconds in spent.items()}


def main() -> int:
    """The best of three rounds, each with an index of its own."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cost_step", description=__doc__)
    parser.add_argument("--calls", type=int, default=40_000)
    parser.add_argument("--observed", action="store_true")
    given = parser.parse_args()
    several = messages(given.calls, observed=given.observed)
    with tempfile.TemporaryDirectory() as directory:
        rounds = [measured(several, Path(directory) / str(number)) for number in range(_ROUNDS)]
    print(orjson.dumps(min(rounds, key=lambda one: sum(one.values()))).decode())
    return 0


if __name__ == "__main__":
    sys.exit(main())
