"""Stopping: the first TERM or INT asks, and the service finishes what it holds."""

import asyncio
import ctypes
import signal
import sys


def stop_event() -> asyncio.Event:
    """An event that the first SIGTERM or SIGINT sets."""
    asked = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, asked.set)
    return asked


def die_with_parent() -> None:
    """On Linux: SIGTERM for this process when its parent dies, so that a killed supervisor leaves no orphan."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(1, signal.SIGTERM)
