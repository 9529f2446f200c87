"""Ids of events, traces and spans, and the W3C header that carries them.

Not ``schemas.ids``: that loads pydantic, a third of a second in an agent that may not have it.
"""

import os
import re
from random import Random
from typing import Final, NamedTuple

# Not the module's own generator: an agent that seeds it would give different events the same ids.
_random: Final = Random()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_random.seed)

_TRACEPARENT: Final = re.compile(
    r"(?P<version>[0-9a-f]{2})-(?P<trace>[0-9a-f]{32})-(?P<span>[0-9a-f]{16})-(?P<flags>[0-9a-f]{2})(?P<more>-.*)?"
)
_LOW_62: Final = (1 << 62) - 1


class Caller(NamedTuple):
    """The span that caused this work, as a ``traceparent`` header names it."""

    trace_id: str
    span_id: str
    sampled: bool


def trace_id() -> str:
    """Sixteen random bytes in hex."""
    return f"{_random.getrandbits(128):032x}"


def span_id() -> str:
    """Eight random bytes in hex."""
    return f"{_random.getrandbits(64):016x}"


def event_id(unix_ns: int) -> str:
    """The version 7 UUID of a moment (nanoseconds since 1970) and 74 random bits, in words."""
    bits = _random.getrandbits(74)
    value = (unix_ns // 1_000_000) << 80 | 0x7000 << 64 | (bits >> 62) << 64 | 0b10 << 62 | bits & _LOW_62
    digits = f"{value:032x}"
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


def read_traceparent(header: str | None) -> Caller | None:
    """The caller a W3C ``traceparent`` names; None where it is absent or invalid."""
    found = _TRACEPARENT.fullmatch(header.strip()) if isinstance(header, str) else None
    if found is None or found["version"] == "ff" or (found["version"] == "00" and found["more"]):
        return None
    if not found["trace"].strip("0") or not found["span"].strip("0"):
        return None
    return Caller(found["trace"], found["span"], bool(int(found["flags"], 16) & 1))


def write_traceparent(trace: str, span: str, *, sampled: bool) -> str:
    """The header that names a span to whoever is called."""
    return f"00-{trace}-{span}-{'01' if sampled else '00'}"
