"""Parts of a stream that hold nothing but words: told by a look at their bytes, read only should the stream break off.

A quotation mark inside a JSON text is escaped, so what is looked for stands for a member or a whole text, never inside one. In
doubt a part is not dull, and is read.
"""

from collections.abc import Callable, Mapping
from typing import Final

from sidecar.metering.apis import Shape


def _chat(part: bytes) -> bool:
    return (
        b'"error"' not in part
        and part.count(b'"finish_reason"') == part.count(b'"finish_reason":null')
        and part.count(b'"usage"') == part.count(b'"usage":null')
        and b"[DONE]" not in part
    )


def _messages(part: bytes) -> bool:
    return part.count(b"event: content_block_delta") == part.count(b"event: ") == part.count(b"data: ")


def _responses(part: bytes) -> bool:
    return part.count(b".delta\ndata: ") == part.count(b"event: ") == part.count(b"data: ")


_DULL: Final[Mapping[Shape, Callable[[bytes], bool]]] = {"chat": _chat, "messages": _messages, "responses": _responses}


def dull(shape: Shape, part: bytes) -> bool:
    """Whether ``part`` is whole events of ``shape`` that hold words alone."""
    look = _DULL.get(shape)
    return look is not None and part.startswith((b"data: ", b"event: ")) and part.endswith(b"\n\n") and look(part)
