"""How the agent's process does: measured now and then by a thread, for gauges of a registry."""

import threading
from typing import Final

from sidecar.tracing.collector import TelemetryCollector
from sidecar.tracing.metrics import MetricsRegistry

_EVERY_S: Final = 5.0


class PerformanceMonitor:
    """Keeps gauges of CPU, memory, threads and of the collector's queues current.

    A sidecar measures the process from outside; here is what only the process knows, and all of it where there is no sidecar.
    CPU and memory need psutil, and are left out where it is missing.
    """

    def __init__(self, collector: TelemetryCollector, registry: MetricsRegistry, *, every_s: float = _EVERY_S) -> None:
        if every_s <= 0:
            raise ValueError(f"every_s must be more than 0, not {every_s!r}")
        self._collector = collector
        self._every_s = every_s
        self._waiting = registry.gauge("agent_telemetry_waiting", "Events not yet delivered.")
        self._dropped = registry.gauge("agent_telemetry_dropped", "Events lost so far.")
        self._threads = registry.gauge("agent_threads", "Threads of Python.")
        self._cpu = registry.gauge("agent_cpu_percent", "Of one core.")
        self._memory = registry.gauge("agent_memory_rss_bytes", "Resident memory.")
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Measures from now on."""
        if self._thread is None:
            self._stop.clear()
            self._thread = threading.Thread(target=self._run, name="agentops-performance", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """Measures no more."""
        thread, self._thread = self._thread, None
        self._stop.set()
        if thread is not None:
            thread.join(1.0)

    def _run(self) -> None:
        try:
            from psutil import Process  # noqa: PLC0415 - an agent may not have it

            process = Process()
        except ImportError:
            process = None
        while True:
            counts = self._collector.counts()
            self._waiting.set(counts.waiting)
            self._dropped.set(counts.dropped)
            self._threads.set(threading.active_count())
            if process is not None:
                self._cpu.set(process.cpu_percent())
                self._memory.set(process.memory_info().rss)
            if self._stop.wait(self._every_s):
                return
