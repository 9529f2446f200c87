"""What a publisher knows: every event it has an acknowledgement for, written down the moment it comes."""

import hashlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson

_EPOCH = datetime.fromtimestamp(0, UTC)
_MICROSECOND = timedelta(microseconds=1)
_CALL = ("provider", "model", "service_tier")
_USAGE = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens")


def fingerprint(event: Mapping[str, Any]) -> str:
    """What money depends on in an event, as published and as stored: the same for both, or something was changed."""
    call, usage = event.get("model_call") or {}, event.get("resource_usage") or {}
    happened = datetime.fromisoformat(event["occurred_at"])
    told = [event["event_type"], event["tenant"]["tenant_id"], event["run"]["agent_id"], (happened - _EPOCH) // _MICROSECOND]
    told += [call.get(name) for name in _CALL] + [int(usage.get(name) or 0) for name in _USAGE]
    return hashlib.blake2b(orjson.dumps(told), digest_size=8).hexdigest()


def key(event: Mapping[str, Any]) -> str:
    """``tenant/event_id``: what stands once."""
    return f"{event['tenant']['tenant_id']}/{event['event_id']}"


class Journal:
    """Appends lines that a killed process leaves whole: each is one write."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def _write(self, lines: Iterable[list[Any]]) -> None:
        data = b"".join(orjson.dumps(line) + b"\n" for line in lines)
        if data:
            os.write(self._file, data)

    def acknowledged(self, events: Iterable[tuple[str, str, bool]]) -> None:
        """Key, fingerprint and whether it is billed."""
        self._write(["e", *event] for event in events)

    def repeated(self, how: str, events: int) -> None:
        """A deliberate repeat was acknowledged."""
        self._write([["r", how, events]])

    def attempted(self, marks: Iterable[str]) -> None:
        """Garbage is about to be published, once more."""
        self._write(["a", mark] for mark in marks)

    def swallowed(self, marks: Iterable[str]) -> None:
        """Garbage was acknowledged: it must end among the dead letters."""
        self._write(["g", mark] for mark in marks)

    def close(self) -> None:
        """No more lines."""
        os.close(self._file)


@dataclass(slots=True)
class Book:
    """All journals together."""

    events: dict[str, str] = field(default_factory=dict)
    """Fingerprint by key of every acknowledged event."""
    billable: int = 0
    repeats: dict[str, int] = field(default_factory=dict)
    attempts: dict[str, int] = field(default_factory=dict)
    swallowed: set[str] = field(default_factory=set)

    def read(self, data: bytes) -> None:
        """Takes whole lines in."""
        for line in data.splitlines():
            match orjson.loads(line):
                case ["e", str(event), str(told), bool(billed)]:
                    # The same event may be acknowledged twice: its publisher did not hear the first time.
                    if event not in self.events:
                        self.billable += billed
                    self.events[event] = told
                case ["r", str(how), int(count)]:
                    self.repeats[how] = self.repeats.get(how, 0) + count
                case ["a", str(mark)]:
                    self.attempts[mark] = self.attempts.get(mark, 0) + 1
                case ["g", str(mark)]:
                    self.swallowed.add(mark)
                case other:
                    msg = f"not a line of a journal: {other!r}"
                    raise ValueError(msg)


@dataclass(slots=True)
class Follower:
    """Reads the journals of a directory as they grow."""

    directory: Path
    book: Book = field(default_factory=Book)
    _read: dict[Path, int] = field(default_factory=dict)

    def look(self) -> Book:
        """Takes in what was appended since."""
        for path in sorted(self.directory.glob("*.journal")):
            with path.open("rb") as file:
                file.seek(self._read.get(path, 0))
                data = file.read()
            whole = data.rfind(b"\n") + 1
            self.book.read(data[:whole])
            self._read[path] = self._read.get(path, 0) + whole
        return self.book
