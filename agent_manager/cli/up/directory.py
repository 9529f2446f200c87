"""The data directory, made ready, and held by one ``agentops up`` at a time."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from agent_manager.cli.failure import CommandFailedError
from agent_manager.cli.running import LOCK

_ELSEWHERE = "Choose another directory with --data"


def prepare(given: Path) -> Path:
    """The directory, absolute, existing, writable; raises CommandFailedError with what to do."""
    try:
        directory = given.expanduser().resolve()
        if directory.exists() and not directory.is_dir():
            raise CommandFailedError(f"the data directory {directory} is a file", f"Move it away, or {_ELSEWHERE.lower()}")
        for folder in (directory, directory / "logs", directory / "agents"):
            folder.mkdir(parents=True, exist_ok=True)
        probe = directory / ".write-probe"
        probe.write_bytes(b"")
        probe.unlink()
    except PermissionError as error:
        raise CommandFailedError(
            f"no permission to write to {error.filename or given}", f"{_ELSEWHERE}, or fix its permissions"
        ) from error
    except (OSError, RuntimeError) as error:
        why = getattr(error, "strerror", None) or str(error)
        raise CommandFailedError(f"the data directory {given} cannot be used ({why})", _ELSEWHERE) from error
    return directory


@contextmanager
def held(directory: Path) -> Iterator[None]:
    """Keeps a second ``agentops up`` away; the lock goes with this process, however it ends. Raises CommandFailedError."""
    path = directory / LOCK
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise CommandFailedError(f"{path} cannot be opened ({error.strerror})", _ELSEWHERE) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(descriptor, 32, 0).decode(errors="replace").strip()
            who = f" (process {holder})" if holder.isdigit() else ""
            raise CommandFailedError(
                f"the data directory {directory} is in use by another `agentops up`{who}",
                f"Stop that one first, or {_ELSEWHERE.lower()}",
            ) from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)
