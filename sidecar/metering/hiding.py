"""What a client did not ask for and does not see: the usage that the proxy asked for in its place."""

import re
from typing import Final

from sidecar.metering.events import Piece

NO_USAGE: Final = b',"usage":null'
"""As it is mostly written."""
_NULL: Final = re.compile(rb',\s*"usage"\s*:\s*null')


def shown(piece: Piece) -> bytes:
    """The event as the client would have got it, had nobody asked for usage; empty where it would not have come at all.

    A quotation mark inside a JSON text is escaped, so the pattern meets a member alone.
    """
    data = piece.data
    if not isinstance(data, dict) or "usage" not in data:
        return piece.raw
    if data["usage"] is None:
        return _NULL.sub(b"", piece.raw, count=1)
    return b"" if data.get("choices") == [] else piece.raw
