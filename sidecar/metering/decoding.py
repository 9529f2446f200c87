"""Answers as they travel, and as they are read: gzip and deflate are undone for reading, never for the client."""

import zlib
from typing import Final, Protocol

_READABLE: Final = ("gzip", "deflate", "identity")
_MOST_AT_ONCE: Final = 16 * 1024 * 1024
"""Of what some bytes unpack to; the rest is left unread."""


class _Unpacks(Protocol):
    def decompress(self, data: bytes, max_length: int = ..., /) -> bytes: ...


class UnreadableError(Exception):
    """The encoding is none that is read here, or the bytes are not of it. The client gets them all the same."""


def acceptable(header: str | None) -> str | None:
    """``Accept-Encoding`` without what could not be read; None: it stays absent."""
    if header is None:
        return None
    kept = [part.strip() for part in header.split(",") if part.split(";")[0].strip().lower() in _READABLE]
    return ", ".join(kept) or "identity"


class Decoder:
    """Undoes one ``Content-Encoding``, piece by piece."""

    def __init__(self, encoding: str | None) -> None:
        self._encoding = (encoding or "identity").strip().lower()
        self._unpacking: _Unpacks | None = None

    def feed(self, data: bytes) -> bytes:
        """The text in ``data``; raises UnreadableError."""
        if self._encoding == "identity":
            return data
        if self._unpacking is None:
            self._unpacking = self._made(data)
        try:
            return self._unpacking.decompress(data, _MOST_AT_ONCE)
        except zlib.error as error:
            raise UnreadableError(str(error)) from error

    def _made(self, data: bytes) -> _Unpacks:
        match self._encoding:
            case "gzip" | "x-gzip":
                return zlib.decompressobj(zlib.MAX_WBITS | 16)
            case "deflate":
                # Some send the bare form.
                bare = len(data) >= 2 and (data[0] & 0x0F != 8 or (data[0] << 8 | data[1]) % 31)
                return zlib.decompressobj(-zlib.MAX_WBITS if bare else zlib.MAX_WBITS)
            case _:
                raise UnreadableError(f"content encoding {self._encoding[:20]!r}")
