"""``python -m chaos.freezing FOLDER SECONDS SEED``: a slow disk, by freezing its file system again and again.

A process of its own, because a file system left frozen would hold its writers for ever: it thaws at the end of its
input, which comes even when whoever started it is killed.
"""

import contextlib
import fcntl
import os
import random
import select
import signal
import sys
import time
from typing import Final

_FREEZE: Final = 0xC0045877
_THAW: Final = 0xC0045878


def main(folder: str, seconds: float, seed: int) -> int:
    """Freezes for most of ``seconds``, in pieces of at most 0.4 s."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit())
    chance = random.Random(seed)
    file = os.open(folder, os.O_RDONLY)
    until = time.monotonic() + seconds
    alone = False
    while not alone and time.monotonic() < until:
        try:
            with contextlib.suppress(OSError):
                fcntl.ioctl(file, _FREEZE, 0)
            alone = _told(chance.uniform(0.05, 0.4))
        finally:
            with contextlib.suppress(OSError):
                fcntl.ioctl(file, _THAW, 0)
        alone = alone or _told(chance.uniform(0.01, 0.05))
    os.close(file)
    return 0


def _told(within_s: float) -> bool:
    """Whether the input ended meanwhile."""
    return bool(select.select([sys.stdin], [], [], within_s)[0])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], float(sys.argv[2]), int(sys.argv[3])))
