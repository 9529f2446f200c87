"""API keys of doors and of the REST API: how a key is spelled, and what is kept of it. The key itself is kept nowhere.

A key is ``agentops_<key id>_<secret>``: the id finds the record, the secret is 256 random bits. What is kept is the SHA-256 of the
whole: a slow hash protects what people think up, and nobody guesses 256 random bits, so it would only make every request slow.
"""

from hashlib import sha256
from typing import Annotated, Final, Literal

from pydantic import Field, StringConstraints

from schemas.ids import is_token
from schemas.model import Instant, Lenient, Name, Token

PREFIX: Final = "agentops"
KEY_ID_LENGTH: Final = 12
_LONGEST: Final = 200

KeyRole = Literal["sender", "viewer", "operator", "admin"]
"""``sender``: for events and OTLP, at gateways. The others are for the REST API: they read; command agents; change what agents are.

A key is for one or the other: what an agent carries about opens nothing but the doors.
"""
PEOPLE: Final[frozenset[KeyRole]] = frozenset(("viewer", "operator", "admin"))
SENDERS: Final[frozenset[KeyRole]] = frozenset(("sender",))

Digest = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class ApiKey(Lenient):
    """Bucket ``api_keys``, key ``<tenant>.<key_id>``: who may do what for the tenant. Written by people, followed by gateways and APIs."""

    key_id: Token
    tenant_id: Token
    name: Name
    role: KeyRole = "sender"
    digest: Digest
    """SHA-256 of the whole key, in hexadecimal."""
    last_four: Annotated[str, StringConstraints(min_length=4, max_length=4)]
    """By which people recognise it."""
    agents: Annotated[tuple[Token, ...], Field(max_length=1000)] = ()
    """The only agents it may speak for; none named: every agent of the tenant."""
    created_at: Instant
    created_by: Name
    expires_at: Instant | None = None
    revoked_at: Instant | None = None
    revoked_by: Name | None = None
    replaces: Token | None = None
    """The key it was made in place of."""


def spelled(key_id: str, secret: str) -> str:
    """A key as its owner writes it."""
    return f"{PREFIX}_{key_id}_{secret}"


def digest(key: str) -> str:
    """What is kept of ``key``."""
    return sha256(key.encode("utf-8", "surrogateescape")).hexdigest()


def key_id(key: str) -> str | None:
    """The id in ``key``; None where that is not spelled as a key is."""
    parts = key.split("_", 2) if len(key) <= _LONGEST else []
    return parts[1] if len(parts) == 3 and parts[0] == PREFIX and is_token(parts[1]) else None


def record_key(tenant_id: str, of: str) -> str:
    """``<tenant>.<key_id>``."""
    return f"{tenant_id}.{of}"
