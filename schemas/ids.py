"""Ids: time-ordered new ones and derived ones."""

import re
from hashlib import blake2b
from uuid import UUID, uuid5

from schemas.model import TOKEN_PATTERN

_NAMESPACE = UUID("6f1c8d2e-6a0b-5b5e-9a57-0f5a1d2c3b4e")
_TOKEN = re.compile(TOKEN_PATTERN)


def is_token(value: str) -> bool:
    """Whether ``value`` may stand as one token in a subject."""
    return _TOKEN.fullmatch(value) is not None


def uuid7(unix_ms: int, random: int) -> UUID:
    """The version 7 UUID of a moment (milliseconds since 1970) and 74 random bits."""
    value = (unix_ms & ((1 << 48) - 1)) << 80
    value |= 0x7 << 76
    value |= ((random >> 62) & 0xFFF) << 64
    value |= 0b10 << 62
    value |= random & ((1 << 62) - 1)
    return UUID(int=value)


def derived_id(*cause: str) -> UUID:
    """The id of what follows from ``cause``: the same cause always gives the same id."""
    return uuid5(_NAMESPACE, "\x1f".join(cause))


def event_key(tenant_id: str, event_id: UUID) -> bytes:
    """The 16-byte key under which an event is known; two tenants never share one."""
    return blake2b(tenant_id.encode() + b"\x00" + event_id.bytes, digest_size=16).digest()
