"""A streamed answer cut into its events: incrementally, and never holding more than one event."""

import base64
import binascii
import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, Protocol

import orjson

MOST_EVENT_BYTES: Final = 16 * 1024 * 1024
"""A larger event is passed on unread."""
_END: Final = re.compile(rb"\r\n\r\n|\n\n|\r\r")
_LINE: Final = re.compile(rb"\r\n|\n|\r")


@dataclass(frozen=True, slots=True)
class Piece:
    """One event of a stream."""

    raw: bytes
    """As it came, with what separates it from the next."""
    data: Any
    """Its JSON; None where it has none."""
    mark: bool = False
    """The end mark ``[DONE]``."""


class Cutter(Protocol):
    """Cuts a stream into its events."""

    def feed(self, data: bytes) -> Iterator[Piece]:
        """The events that ``data`` completes."""
        ...

    @property
    def held(self) -> bytes:
        """The beginning of an event that is not whole."""
        ...


class ServerSent:
    """Cuts ``text/event-stream``. An event larger than ``MOST_EVENT_BYTES`` comes out in parts without data."""

    def __init__(self) -> None:
        self._rest = b""
        self._searched = 0
        self._overlong = False

    @property
    def held(self) -> bytes:
        """The beginning of an event that is not whole."""
        return self._rest

    def feed(self, data: bytes) -> Iterator[Piece]:
        """The events that ``data`` completes."""
        buffer = self._rest + data if self._rest else data
        start, position = 0, self._searched
        while (end := _END.search(buffer, position)) is not None:
            raw = buffer[start : end.end()]
            start = position = end.end()
            if self._overlong:
                self._overlong = False
                yield Piece(raw, None)
            else:
                yield _piece(raw)
        rest = buffer[start:]
        if len(rest) > MOST_EVENT_BYTES:
            self._overlong = True
            yield Piece(rest[:-3], None)
            rest = rest[-3:]
        self._rest = rest
        # A separator may have come in part.
        self._searched = max(0, len(rest) - 3)


def _piece(raw: bytes) -> Piece:
    if raw.startswith(b"data: ") and raw.endswith(b"}\n\n") and b"\n" not in (text := raw[6:-2]) and b"\r" not in text:
        try:
            return Piece(raw, orjson.loads(text))
        except orjson.JSONDecodeError:
            return Piece(raw, None)
    found = [line[5:].strip() for line in _LINE.split(raw) if line.startswith(b"data:")]
    if not found:
        return Piece(raw, None)
    data = found[0] if len(found) == 1 else b"\n".join(found)
    if data == b"[DONE]":
        return Piece(raw, None, mark=True)
    try:
        return Piece(raw, orjson.loads(data))
    except orjson.JSONDecodeError:
        return Piece(raw, None)


_PRELUDE: Final = struct.Struct(">III")


class Frames:
    """Cuts ``application/vnd.amazon.eventstream``: each frame's JSON under the name of its event, as ``{name: payload}``.

    A payload that wraps another one (``{"bytes": base64}``) is unwrapped. Frames that cannot be are passed on unread.
    """

    def __init__(self) -> None:
        self._rest = b""
        self._broken = False

    @property
    def held(self) -> bytes:
        """The beginning of a frame that is not whole."""
        return self._rest

    def feed(self, data: bytes) -> Iterator[Piece]:
        """The frames that ``data`` completes."""
        if self._broken:
            yield Piece(data, None)
            return
        buffer = self._rest + data
        start = 0
        while len(buffer) - start >= _PRELUDE.size:
            total, headers, _ = _PRELUDE.unpack_from(buffer, start)
            if not 16 + headers <= total <= MOST_EVENT_BYTES:
                self._broken = True
                self._rest = b""
                yield Piece(buffer[start:], None)
                return
            if len(buffer) - start < total:
                break
            frame = buffer[start : start + total]
            start += total
            yield Piece(frame, _frame_json(frame, headers))
        self._rest = buffer[start:]


def _frame_json(frame: bytes, headers: int) -> Any:
    named = _headers(frame[12 : 12 + headers])
    try:
        payload = orjson.loads(frame[12 + headers : -4])
        wrapped = payload.get("bytes") if isinstance(payload, dict) else None
        if isinstance(wrapped, str):
            return orjson.loads(base64.b64decode(wrapped, validate=True))
    except (orjson.JSONDecodeError, binascii.Error):
        return None
    name = named.get(b":event-type") or named.get(b":exception-type")
    return {name: payload} if name else payload


_FIXED: Final = {0: 0, 1: 0, 2: 1, 3: 2, 4: 4, 5: 8, 8: 8, 9: 16}
"""Bytes of a header's value by its type; 6 and 7 tell their length."""


def _headers(raw: bytes) -> dict[bytes, str]:
    """The text headers of a frame."""
    found: dict[bytes, str] = {}
    position = 0
    try:
        while position < len(raw):
            name_end = position + 1 + raw[position]
            name, kind = raw[position + 1 : name_end], raw[name_end]
            if kind in {6, 7}:
                length = int.from_bytes(raw[name_end + 1 : name_end + 3], "big")
                value = raw[name_end + 3 : name_end + 3 + length]
                position = name_end + 3 + length
                if kind == 7:
                    found[name] = value.decode("utf-8", "replace")
            else:
                position = name_end + 1 + _FIXED[kind]
    except (IndexError, KeyError):
        return found
    return found
