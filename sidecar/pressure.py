"""Load beside the agent, made on purpose: processes that compute, or hold memory, while a fault lasts.

Each ends by itself at the fault's deadline, and when its sidecar is gone, whatever becomes of either.
"""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import psutil
import structlog

from sidecar.faults import Active, intensity

log = structlog.get_logger(__name__)

DEFAULT_CORES: Final = 1.0
DEFAULT_MEGABYTES: Final = 64.0
MOST_OF_MEMORY: Final = 0.5
"""Of what is available: a fault presses, it does not bring the machine down."""
_KINDS: Final = frozenset({"cpu_pressure", "memory_pressure"})
_ORPHANED: Final = "os.getppid() != parent or time.monotonic() > end"
_BURN: Final = f"""
import os, sys, time
parent, share, end = int(sys.argv[1]), float(sys.argv[2]), time.monotonic() + float(sys.argv[3])
while not ({_ORPHANED}):
    begun = time.perf_counter()
    while time.perf_counter() - begun < 0.05 * share: pass
    time.sleep(0.05 * (1 - share))
"""
_HOLD: Final = f"""
import os, sys, time
parent, size, end = int(sys.argv[1]), int(float(sys.argv[2]) * 1e6), time.monotonic() + float(sys.argv[3])
held = bytearray(size)
held[::4096] = b"x" * len(held[::4096])
while not ({_ORPHANED}): time.sleep(0.1)
"""


@dataclass(slots=True)
class Pressure:
    """The processes of the faults in force, by fault."""

    _running: dict[str, list[subprocess.Popen[bytes]]] = field(default_factory=dict)

    def become(self, active: Sequence[Active]) -> None:
        """Exactly these faults press from now on."""
        wanted = {item.fault.fault_id: item for item in active if item.fault.kind in _KINDS}
        for fault_id in [known for known in self._running if known not in wanted]:
            for process in self._running.pop(fault_id):
                process.kill()
                process.wait()
        for fault_id, item in wanted.items():
            if fault_id not in self._running:
                self._running[fault_id] = _begun(item)

    def pids(self) -> list[int]:
        """The processes that press now."""
        return [process.pid for processes in self._running.values() for process in processes if process.poll() is None]


def _begun(item: Active) -> list[subprocess.Popen[bytes]]:
    lasting = max(0.0, item.deadline - time.monotonic())
    if item.fault.kind == "memory_pressure":
        most = psutil.virtual_memory().available * MOST_OF_MEMORY / 1e6
        shares, program = [min(intensity(item.fault, DEFAULT_MEGABYTES), most)], _HOLD
    else:
        cores = min(intensity(item.fault, DEFAULT_CORES), float(os.cpu_count() or 1))
        shares, program = [1.0] * int(cores) + ([cores % 1] if cores % 1 else []), _BURN
    found = []
    for share in shares:
        line = [sys.executable, "-I", "-S", "-c", program, str(os.getpid()), str(share), str(lasting)]
        try:
            found.append(subprocess.Popen(line, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        except OSError as error:
            log.error("fault.impossible", fault_id=item.fault.fault_id, kind=item.fault.kind, reason=str(error))
    return found
