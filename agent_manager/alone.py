"""One manager to a data directory: two would start every agent twice."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class AlreadyRunningError(RuntimeError):
    """Another manager works in this data directory. Stop it first."""


@contextmanager
def alone(data: Path) -> Iterator[None]:
    """Holds the data directory for this manager alone; raises AlreadyRunningError."""
    path = data / "manager" / "lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.seek(0)
            msg = (
                f"another manager (process {file.read().strip() or 'unknown'}) works in {data}: stop it, or choose another --data"
            )
            raise AlreadyRunningError(msg) from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
