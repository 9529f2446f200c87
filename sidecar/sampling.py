"""What the agent's processes and the machine use, read with psutil."""

from contextlib import suppress
from dataclasses import dataclass

import psutil

from sidecar.process import tree


@dataclass(frozen=True, slots=True)
class Usage:
    """A moment's usage. Bytes moved and CPU are since the sample before; None where unknown."""

    cpu_percent: float | None = None
    memory_rss_bytes: int | None = None
    memory_vms_bytes: int | None = None
    process_count: int | None = None
    threads: int | None = None
    disk_read_bytes: int | None = None
    disk_write_bytes: int | None = None
    network_sent_bytes: int | None = None
    network_received_bytes: int | None = None
    system_cpu_percent: float | None = None
    system_memory_percent: float | None = None


class Sampler:
    """Samples one process tree. Network is the machine's (the container's): no kernel counts it by process."""

    def __init__(self) -> None:
        self._known: dict[int, psutil.Process] = {}
        self._disk: dict[int, tuple[int, int]] = {}
        self._network: tuple[int, int] | None = None
        psutil.cpu_percent(None)

    def sample(self, pid: int | None) -> Usage:
        """The usage now of ``pid`` and all below it (None: of the machine alone)."""
        rss = vms = threads = read = written = 0
        cpu = 0.0
        counted = 0
        have_cpu = have_disk = False
        known: dict[int, psutil.Process] = {}
        disk: dict[int, tuple[int, int]] = {}
        for found in tree(pid) if pid is not None else ():
            before = self._known.get(found.pid)
            first = before is None or before != found
            # cpu_percent measures since the last call on the same object.
            process = found if before is None or first else before
            with suppress(psutil.NoSuchProcess, psutil.AccessDenied), process.oneshot():
                memory = process.memory_info()
                share = process.cpu_percent(None)
                threads += process.num_threads()
                rss += memory.rss
                vms += memory.vms
                counted += 1
                known[found.pid] = process
                if not first:
                    cpu += share
                    have_cpu = True
                with suppress(psutil.AccessDenied, AttributeError):
                    moved = process.io_counters()
                    disk[found.pid] = (moved.read_bytes, moved.write_bytes)
                    earlier = (0, 0) if first else self._disk.get(found.pid, (0, 0))
                    read += max(0, moved.read_bytes - earlier[0])
                    written += max(0, moved.write_bytes - earlier[1])
                    have_disk = True
        self._known, self._disk = known, disk
        sent, received = self._moved()
        return Usage(
            cpu_percent=cpu if have_cpu else None,
            memory_rss_bytes=rss if counted else None,
            memory_vms_bytes=vms if counted else None,
            process_count=counted if pid is not None else None,
            threads=threads if counted else None,
            disk_read_bytes=read if have_disk else None,
            disk_write_bytes=written if have_disk else None,
            network_sent_bytes=sent,
            network_received_bytes=received,
            system_cpu_percent=psutil.cpu_percent(None),
            system_memory_percent=psutil.virtual_memory().percent,
        )

    def _moved(self) -> tuple[int | None, int | None]:
        counters = psutil.net_io_counters()
        if counters is None:
            return None, None
        now = (counters.bytes_sent, counters.bytes_recv)
        before, self._network = self._network, now
        if before is None:
            return None, None
        return max(0, now[0] - before[0]), max(0, now[1] - before[1])
