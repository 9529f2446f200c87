"""To a file of JSON lines, in parts: the newest are kept."""

import os
from collections.abc import Sequence
from pathlib import Path

from sidecar.rotation import make_room
from sidecar.tracing.events import Made
from sidecar.tracing.exporters.exporter import Again, Delivered, Outcome


class JsonFile:
    """``path``, and older parts as ``path.1`` …: at most ``parts`` files of about ``part_bytes``, the oldest dropped.

    Several processes may append to one file; only one of them may be the one that fills a part.
    """

    name = "json-file"
    most_bytes = 4_000_000

    def __init__(self, path: str | Path, *, part_bytes: int = 20_000_000, parts: int = 5) -> None:
        if part_bytes < 1 or parts < 1:
            raise ValueError(f"part_bytes and parts must be 1 or more, not {part_bytes!r} and {parts!r}")
        self._path = Path(path)
        self._part_bytes = part_bytes
        self._parts = parts
        self._file = -1
        self._size = 0

    def export(self, batch: Sequence[Made]) -> Outcome:
        data = b"".join(made.line + b"\n" for made in batch)
        try:
            self._open()
            if self._size and self._size + len(data) > self._part_bytes:
                self._rotate()
            view = memoryview(data)
            while view:
                view = view[os.write(self._file, view) :]
        except OSError as error:
            # Half a line may stand at the end: it is ended when the file is opened again, and the batch follows whole.
            self.close()
            return Again(f"{self._path}: {error.strerror or error}")
        self._size += len(data)
        return Delivered()

    def _open(self) -> None:
        if self._file < 0:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = os.open(self._path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o600)
            self._size = os.fstat(self._file).st_size
            if self._size and os.pread(self._file, 1, self._size - 1) != b"\n":
                os.write(self._file, b"\n")

    def _rotate(self) -> None:
        self.close()
        if self._parts == 1:
            self._path.unlink(missing_ok=True)
        make_room(self._path, self._parts)
        self._open()

    def close(self) -> None:
        file, self._file = self._file, -1
        if file >= 0:
            os.close(file)

    forked = close
