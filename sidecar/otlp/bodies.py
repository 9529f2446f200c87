"""The body of a request, read with a bound and a deadline, and unpacked with the same bound."""

import asyncio
import zlib
from collections.abc import AsyncIterator, Callable
from typing import Final

MOST_BYTES: Final = 16 * 1024 * 1024
"""Of one request, unpacked. SDKs send at most 512 spans at once: some hundred kilobytes."""
READ_S: Final = 30.0
_GZIP: Final = b"\x1f\x8b"
_ANY_HEADER: Final = 32 + zlib.MAX_WBITS


class TooLargeError(Exception):
    """The body is larger than a door takes. Sending it again does not help; sending less at once does."""


class UnreadableError(Exception):
    """The body is not what its headers say. Sending it again does not help."""


class TooSlowError(Exception):
    """The body did not arrive in time. Sending it again may help."""


async def read(
    parts: AsyncIterator[bytes],
    length: int | None,
    grow: Callable[[int], None],
    most: int = MOST_BYTES,
    within_s: float = READ_S,
) -> bytes:
    """All of ``parts``; raises TooLargeError and TooSlowError, having kept at most ``most`` bytes.

    ``grow`` is told of every part before it is kept; what it raises ends the reading.
    """
    if (length or 0) > most:
        raise TooLargeError
    kept: list[bytes] = []
    size = 0
    try:
        async with asyncio.timeout(within_s):
            async for part in parts:
                size += len(part)
                if size > most:
                    raise TooLargeError
                grow(len(part))
                kept.append(part)
    except TimeoutError as error:
        raise TooSlowError from error
    return b"".join(kept)


def unpacked(body: bytes, encoding: str, most: int = MOST_BYTES) -> bytes:
    """``body`` as it was before ``encoding``; raises TooLargeError before it has unpacked more than ``most``.

    What a server in front of this has unpacked already is left as it is: neither protobuf nor JSON begins as gzip does.
    """
    if encoding in {"", "identity"}:
        return body
    if encoding not in {"gzip", "deflate", "x-gzip"}:
        raise UnreadableError(f"Content-Encoding is {encoding[:40]!r}: send gzip, deflate or none")
    if encoding != "deflate" and body[:2] != _GZIP:
        return body
    unpacker = zlib.decompressobj(_ANY_HEADER)
    try:
        found = unpacker.decompress(body, most + 1)
    except zlib.error as error:
        raise UnreadableError(f"the body is not {encoding}: {error}") from error
    if len(found) > most:
        raise TooLargeError
    if not unpacker.eof:
        raise UnreadableError(f"the body ends before its {encoding} does")
    return found
