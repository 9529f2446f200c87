"""``google.rpc.Status`` in protobuf, as OTLP's doors tell what went wrong and when to come back."""

from typing import Final

CODES: Final = {400: 3, 401: 16, 403: 7, 408: 4, 413: 3, 415: 3, 429: 8, 503: 14}
"""The ``google.rpc.Code`` of an HTTP status."""
_RETRY_INFO: Final = b"type.googleapis.com/google.rpc.RetryInfo"


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _field(number: int, content: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def rpc_status(code: int, message: str, retry_after_s: int | None = None) -> bytes:
    """Code, message, and with ``retry_after_s`` a ``google.rpc.RetryInfo``."""
    told = b"\x08" + _varint(code) + _field(2, message.encode())
    if retry_after_s is None:
        return told
    # A Duration of whole seconds in a RetryInfo in an Any.
    retry = _field(1, b"\x08" + _varint(retry_after_s))
    return told + _field(3, _field(1, _RETRY_INFO) + _field(2, retry))
