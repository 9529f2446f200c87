"""One manager to a data directory: two would start every agent twice."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TextIO

_LEAVING_S: Final = 5.0
"""A killed manager's lock is held for a moment by the child it was just starting."""


class AlreadyRunningError(RuntimeError):
    """Another manager works in this data directory. Stop it first."""


def _taken(file: TextIO) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _is_alive(holder: str) -> bool:
    if not holder.isdigit() or int(holder) == os.getpid():
        return True
    try:
        os.kill(int(holder), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


@contextmanager
def alone(data: Path) -> Iterator[None]:
    """Holds the data directory for this manager alone; raises AlreadyRunningError."""
    path = data / "manager" / "lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        deadline = time.monotonic() + _LEAVING_S
        while not _taken(file):
            file.seek(0)
            holder = file.read().strip()
            if _is_alive(holder) or time.monotonic() > deadline:
                msg = f"another manager (process {holder or 'unknown'}) works in {data}: stop it, or choose another --data"
                raise AlreadyRunningError(msg)
            time.sleep(0.05)
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
