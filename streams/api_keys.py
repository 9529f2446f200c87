"""Whose request it is: keys as they are known now, and following their bucket."""

import hmac
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal

import structlog
from nats.aio.client import Client

from schemas.keys import SENDERS, ApiKey, KeyRole, digest, key_id, record_key
from streams.following import follow
from streams.kv import TypedBucket
from streams.topology import API_KEYS

log = structlog.get_logger(__name__)

_AGAIN_S: Final = 1.0
_NOBODYS: Final = digest("")


@dataclass(frozen=True, slots=True)
class Known:
    """The key is good."""

    key: ApiKey


@dataclass(frozen=True, slots=True)
class Refused:
    """It is not. The reason is for our own metrics: who asks is told only that it is not."""

    reason: Literal["missing", "misspelled", "unknown", "wrong", "revoked", "expired", "role"]


class KeyRing:
    """Every key there is, by its id; lets in those of ``roles``. What is known stands while NATS is away."""

    def __init__(self, roles: Collection[KeyRole] = SENDERS) -> None:
        self._roles = roles
        self._keys: dict[str, ApiKey] = {}
        self.read = False
        """Whether the bucket was ever read: before that nobody can be told that a key is wrong."""

    def tell(self, of: str, key: ApiKey | None) -> None:
        """The record ``<tenant>.<key_id>`` is now this one; None: there is none."""
        name = of.partition(".")[2]
        if key is None:
            self._keys.pop(name, None)
        elif of != record_key(key.tenant_id, key.key_id):
            log.error("keys.misplaced", record=of)
        else:
            self._keys[name] = key

    def replace(self, keys: dict[str, ApiKey]) -> None:
        """These are all there are."""
        self._keys.clear()
        for of, key in keys.items():
            self.tell(of, key)
        self.read = True

    def judge(self, presented: str | None, now: datetime) -> Known | Refused:
        """Whose key this is. A digest is compared in constant time, also where there is nothing to compare it with."""
        if not presented:
            return Refused("missing")
        name = key_id(presented)
        found = None if name is None else self._keys.get(name)
        same = hmac.compare_digest(digest(presented), _NOBODYS if found is None else found.digest)
        if name is None:
            return Refused("misspelled")
        if found is None:
            return Refused("unknown")
        if not same:
            return Refused("wrong")
        if found.revoked_at is not None:
            return Refused("revoked")
        if found.expires_at is not None and found.expires_at <= now:
            return Refused("expired")
        if found.role not in self._roles:
            return Refused("role")
        return Known(found)


def presented(authorization: str | None, api_key: str | None) -> str | None:
    """The key in ``Authorization: Bearer …``, else in ``x-api-key``."""
    if authorization:
        scheme, _, rest = authorization.partition(" ")
        if scheme.lower() == "bearer" and rest.strip():
            return rest.strip()
    return api_key.strip() if api_key else None


class KeyWatch:
    """Follows bucket ``api_keys``."""

    def __init__(self, ring: KeyRing) -> None:
        self._ring = ring

    async def _read(self, bucket: TypedBucket[ApiKey]) -> None:
        self._ring.replace(await bucket.all())

    async def run(self, client: Client) -> None:
        """Follows until cancelled; while NATS is away what was known stands."""
        await follow(client, API_KEYS, ApiKey, self._read, self._ring.tell, name="keys", again_s=_AGAIN_S)
