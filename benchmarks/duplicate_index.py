"""``python -m benchmarks.duplicate_index [--ids N] [--days 30|1] [--uuid4]``: validate's duplicate index, full.

Fills an index with N ids stored over so many days, opens it again, and gives it batches of fresh ids with late repeats
of stored ones among them, as validate does. CPU is the whole process's, RocksDB's threads included.
"""

import argparse
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from hashlib import blake2b
from itertools import islice
from pathlib import Path

import orjson

from processors.duplicates.index import DuplicateIndex

_NOW_MS = 1_795_000_000_000
_DAY_MS = 86_400_000
_JITTER_MS = 2_000
"""Clocks differ, and producers batch: ids arrive out of order by up to this."""
_LOADED = 5_000

Row = tuple[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Found:
    """What was measured."""

    ids: int
    days: float
    ids_in_order: bool
    load_per_s: float
    load_cpu_us: float
    disk_mb: float
    open_ms: float
    batch: int
    late_share: float
    cpu_us_per_event: float
    known_us_per_event: float
    add_us_per_event: float
    events_per_s: float
    batch_p50_ms: float
    batch_p99_ms: float
    batch_max_ms: float
    add_max_ms: float
    stall_max_ms: float
    """The longest batch without the time it waited for a core: what the index itself may hold a loop up."""
    memory_mb: float
    """Growth of the process's proportional set size, at its most."""


class Ids:
    """Keys by number, made again whenever asked for: ``number`` below ``stored`` was stored over ``days`` until now."""

    def __init__(self, stored: int, days: float, *, in_order: bool) -> None:
        self.stored = stored
        self._span = int(days * _DAY_MS)
        self._in_order = in_order

    def moment(self, number: int) -> int:
        """Milliseconds since 1970; ids after the stored ones come 30 to the millisecond."""
        if number < self.stored:
            return _NOW_MS - self._span + number * self._span // self.stored
        return _NOW_MS + (number - self.stored) // 30

    def row(self, number: int) -> Row:
        """Key (as ``schemas.ids.event_key`` builds it) and payload."""
        digest = blake2b(number.to_bytes(8, "big"), digest_size=24).digest()
        if not self._in_order:
            return digest[:16], digest[16:]
        unix_ms = self.moment(number) - int.from_bytes(digest[10:12], "big") % _JITTER_MS
        return unix_ms.to_bytes(6, "big") + digest[:10], digest[16:]


def memory_mb() -> float:
    """Proportional set size of this process."""
    for line in Path("/proc/self/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) / 1024
    return 0.0


def waited_for_a_core_s() -> float:
    """By this thread, so far; 0 where the kernel does not say."""
    try:
        return int(Path("/proc/thread-self/schedstat").read_text().split()[1]) / 1e9
    except OSError:
        return 0.0


def disk_mb(path: Path) -> float:
    """Everything below ``path``."""
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) / 1e6


def load(index: DuplicateIndex, ids: Ids, tell: Callable[[str], None]) -> tuple[float, float]:
    """Stores every id; returns ids a second and CPU microseconds an id, the making of ids taken off."""
    began, cpu, making, making_cpu = time.perf_counter(), time.process_time(), 0.0, 0.0
    for start in range(0, ids.stored, _LOADED):
        makes, makes_cpu = time.perf_counter(), time.thread_time()
        rows = [ids.row(number) for number in range(start, min(ids.stored, start + _LOADED))]
        making += time.perf_counter() - makes
        making_cpu += time.thread_time() - makes_cpu
        index.add(rows, start + len(rows), ids.moment(start) // _DAY_MS)
        if start and start % 5_000_000 == 0:
            tell(f"{start:,} of {ids.stored:,} stored, {memory_mb():.0f} MB")
    seconds = time.perf_counter() - began - making
    return ids.stored / seconds, (time.process_time() - cpu - making_cpu) / ids.stored * 1e6


def batches(ids: Ids, size: int, late_share: float) -> Iterator[tuple[list[Row], set[bytes]]]:
    """For ever: rows, mostly fresh, and the keys of those that are repeats."""
    chance, fresh = random.Random(3), ids.stored
    while True:
        rows, late = [], set()
        for _ in range(size):
            if chance.random() < late_share:
                rows.append(ids.row(chance.randrange(ids.stored)))
                late.add(rows[-1][0])
            else:
                rows.append(ids.row(fresh))
                fresh += 1
        yield rows, late


def measure(path: Path, ids: Ids, days: float, events: int, size: int, late_share: float, *, in_order: bool) -> Found:
    """Fills and uses an index at ``path``."""
    before = memory_mb()
    index = DuplicateIndex(path)
    index.open("benchmark")
    per_s, load_cpu = load(index, ids, lambda text: print(text, file=sys.stderr, flush=True))
    index.close()
    began = time.perf_counter()
    index.open("benchmark")
    open_ms = (time.perf_counter() - began) * 1e3
    cpu, looking, adding, waiting, most = 0.0, [], [], [], 0.0
    for number, (rows, late) in enumerate(islice(batches(ids, size, late_share), events // size)):
        keys = [key for key, _ in rows]
        used, waited, began = time.process_time(), waited_for_a_core_s(), time.perf_counter()
        known = index.known(keys)
        looked = time.perf_counter()
        index.add([row for row in rows if row[0] not in known], ids.stored + number, ids.moment(ids.stored) // _DAY_MS)
        adding.append(time.perf_counter() - looked)
        looking.append(looked - began)
        waiting.append(waited_for_a_core_s() - waited)
        cpu += time.process_time() - used
        assert known.keys() == late, "a repeat was missed, or a fresh id called one"
        if number % 50 == 0:
            most = max(most, memory_mb())
    whole = [one + other for one, other in zip(looking, adding, strict=True)]
    stall = max(each - waited for each, waited in zip(whole, waiting, strict=True))
    whole.sort()
    done = len(whole) * size
    found = Found(
        ids=ids.stored, days=days, ids_in_order=in_order, load_per_s=per_s, load_cpu_us=load_cpu, disk_mb=disk_mb(path), open_ms=open_ms,
        batch=size, late_share=late_share, cpu_us_per_event=cpu / done * 1e6, known_us_per_event=sum(looking) / done * 1e6,
        add_us_per_event=sum(adding) / done * 1e6, events_per_s=done / sum(whole), batch_p50_ms=whole[len(whole) // 2] * 1e3,
        batch_p99_ms=whole[int(len(whole) * 0.99)] * 1e3, batch_max_ms=whole[-1] * 1e3, add_max_ms=max(adding) * 1e3,
        stall_max_ms=stall * 1e3,
        memory_mb=max(most, memory_mb()) - before,
    )  # fmt: skip
    index.close()
    return found


def main() -> None:
    """Measures and prints one line of JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.duplicate_index", description=__doc__)
    parser.add_argument("--ids", type=int, default=5_000_000)
    parser.add_argument("--days", type=float, default=30, help="over how many days the ids were stored")
    parser.add_argument("--uuid4", action="store_true", help="ids without order instead of time-ordered ones")
    parser.add_argument("--events", type=int, default=500_000, help="measured after the index is full")
    parser.add_argument("--batch", type=int, default=1000)
    parser.add_argument("--late", type=float, default=0.05, help="share of repeats of stored ids")
    parser.add_argument("--directory", type=Path, default=None, help="where the index may stand (it is removed afterwards)")
    given = parser.parse_args()
    ids = Ids(given.ids, given.days, in_order=not given.uuid4)
    with tempfile.TemporaryDirectory(prefix="agentops-index-", dir=given.directory) as directory:
        path = Path(directory) / "index"
        found = measure(path, ids, given.days, given.events, given.batch, given.late, in_order=not given.uuid4)
    figures = {name: round(value, 2) if isinstance(value, float) else value for name, value in asdict(found).items()}
    print(orjson.dumps(figures | {"cores": os.cpu_count()}).decode())


if __name__ == "__main__":
    main()
