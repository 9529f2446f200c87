"""Reading a request's body: bounded in bytes and time, whatever the sender says of it."""

import asyncio
import zlib
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Final

from service.instruments import GATEWAY_HELD_BYTES

_GZIP: Final = 31
_ENCODINGS: Final = ("", "identity", "gzip")


class BodyRefusedError(Exception):
    """The body is not taken. Whether sending it again helps is what the status says."""

    def __init__(self, status: int, kind: str, message: str, retry_after_s: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.message = message
        self.retry_after_s = retry_after_s


class Holding:
    """How many bytes of bodies are held at once. Full: refuses."""

    def __init__(self, most_bytes: int) -> None:
        self._most = most_bytes
        self.bytes = 0

    @contextmanager
    def reserve(self, size: int) -> Iterator[None]:
        """Holds ``size`` bytes meanwhile; raises BodyRefusedError (503) where that would be too many."""
        if self.bytes + size > self._most:
            raise BodyRefusedError(503, "busy", "too many bytes are on their way: send it again later", 1)
        self.bytes += size
        GATEWAY_HELD_BYTES.set(self.bytes)
        try:
            yield
        finally:
            self.bytes -= size
            GATEWAY_HELD_BYTES.set(self.bytes)


def announced(content_length: str | None, encoding: str, most: int) -> int:
    """How many bytes to reserve before the first is read; raises BodyRefusedError (400, 413, 415)."""
    if encoding not in _ENCODINGS:
        raise BodyRefusedError(415, "unsupported_encoding", "Content-Encoding must be gzip, or absent")
    if content_length is None:
        return most
    if not content_length.isascii() or not content_length.isdigit() or len(content_length) > 18:
        raise BodyRefusedError(400, "bad_length", "Content-Length is no number")
    if int(content_length) > most:
        raise _too_large(most)
    return most if encoding == "gzip" else int(content_length)


def _too_large(most: int) -> BodyRefusedError:
    return BodyRefusedError(413, "too_large", f"a request may have at most {most:,} bytes: send less at once")


async def read(pieces: AsyncIterator[bytes], encoding: str, most: int, within_s: float) -> bytes:
    """The whole body, unpacked; raises BodyRefusedError (400, 408, 413). Never holds more than ``most`` and one piece."""
    unpacking = zlib.decompressobj(_GZIP) if encoding == "gzip" else None
    body = bytearray()
    try:
        async with asyncio.timeout(within_s):
            async for piece in pieces:
                if unpacking is None:
                    body += piece
                elif piece:
                    body += unpacking.decompress(piece, most + 1 - len(body))
                if len(body) > most or (unpacking is not None and unpacking.unconsumed_tail):
                    raise _too_large(most)
    except TimeoutError as error:
        raise BodyRefusedError(408, "timeout", f"the body did not arrive within {within_s:g} s") from error
    except zlib.error as error:
        raise BodyRefusedError(400, "malformed_gzip", f"the body is no gzip: {error}") from error
    if unpacking is not None and (not unpacking.eof or unpacking.unused_data):
        raise BodyRefusedError(400, "malformed_gzip", "the body is no whole gzip member")
    return bytes(body)
