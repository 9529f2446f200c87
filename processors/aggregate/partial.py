"""A file that is whole or not there: written under another name, locked while it is written, renamed at the end."""

import fcntl
import os
from pathlib import Path
from typing import Self


class FileExistsAlreadyError(Exception):
    """The file is there already. Trying again does not help; the message says what does."""


class BeingWrittenError(Exception):
    """Another process is writing this file. Trying again helps once it has ended."""


class PartialFile:
    """``path`` under the name ``<path>.partial`` until ``finish``. Leaving the context without it removes what was written, unless ``keep``.

    What a killed process left behind is removed by the next one, unless that ``goes_on`` with it. ``about`` is a place to note what it is.
    """

    def __init__(self, path: Path, *, goes_on: bool = False) -> None:
        self.path = path
        self._goes_on = goes_on
        self._kept = False
        self.partial = path.with_name(f"{path.name}.partial")
        self._lock_path = path.with_name(f"{path.name}.partial.lock")
        self.about = path.with_name(f"{path.name}.partial.json")
        self.about_new = path.with_name(f"{path.name}.partial.json.new")
        self._lock: int | None = None

    def __enter__(self) -> Self:
        if self.path.exists():
            raise FileExistsAlreadyError(f"{self.path} exists already: name another file, or move it away")
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(self._lock_path, os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._lock)
            self._lock = None
            raise BeingWrittenError(f"{self.path} is being written by another process") from error
        if not self._lock_path.exists() or not os.path.samestat(os.fstat(self._lock), self._lock_path.stat()):
            # Whoever had it has removed it just now.
            os.close(self._lock)
            self._lock = None
            raise BeingWrittenError(f"{self.path} was being written by another process until now")
        if not self._goes_on:
            self.remove()
        return self

    def __exit__(self, *_: object) -> None:
        if self._lock is not None:
            if not self._kept:
                self.remove()
            self._lock_path.unlink(missing_ok=True)
            os.close(self._lock)
            self._lock = None

    def keep(self, stays: bool = True) -> None:
        """Whether what was written stays for another to go on with."""
        self._kept = stays

    def remove(self) -> None:
        """Removes what was written so far; the note first, so that a file is never taken for what it is not."""
        for left in (self.about, self.about_new, self.partial, self.partial.with_name(f"{self.partial.name}.wal")):
            left.unlink(missing_ok=True)

    def finish(self) -> None:
        """The file is whole: gives it its name. Raises FileExistsAlreadyError when that was taken meanwhile."""
        self._kept = False
        descriptor = os.open(self.partial, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        try:
            # Unlike a rename, a link never replaces what is there.
            os.link(self.partial, self.path)
        except FileExistsError as error:
            raise FileExistsAlreadyError(f"{self.path} appeared meanwhile: name another file, or move it away") from error
        except OSError:
            if self.path.exists():
                raise
            self.partial.rename(self.path)
        directory = os.open(self.path.parent, os.O_RDONLY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
