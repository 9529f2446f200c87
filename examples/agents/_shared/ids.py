"""Ids of events, traces and spans."""

import re
import secrets
import time
from dataclasses import dataclass
from uuid import UUID

_TRACEPARENT = re.compile(r"(?P<version>[0-9a-f]{2})-(?P<trace>[0-9a-f]{32})-(?P<span>[0-9a-f]{16})-[0-9a-f]{2}(?P<more>-.*)?")


@dataclass(frozen=True, slots=True)
class Caller:
    """The span that caused a request, as its ``traceparent`` header says."""

    trace_id: str
    span_id: str


def uuid7() -> UUID:
    """A version 7 UUID of this moment."""
    value = (time.time_ns() // 1_000_000) << 80 | 0x7 << 76 | secrets.randbits(12) << 64 | 0b10 << 62 | secrets.randbits(62)
    return UUID(int=value)


def new_trace_id() -> str:
    """Sixteen random bytes in hex."""
    return secrets.token_hex(16)


def new_span_id() -> str:
    """Eight random bytes in hex."""
    return secrets.token_hex(8)


def read_traceparent(header: str | None) -> Caller | None:
    """The caller named in a W3C ``traceparent`` header; None where it is absent or invalid."""
    found = _TRACEPARENT.fullmatch((header or "").strip())
    if found is None or found["version"] == "ff" or (found["version"] == "00" and found["more"]):
        return None
    if not found["trace"].strip("0") or not found["span"].strip("0"):
        return None
    return Caller(found["trace"], found["span"])
