"""Content policies as they are in force: followed from the bucket ``content``, made ready to be applied."""

import asyncio
from collections.abc import Callable
from typing import Final

import structlog
from nats.aio.client import Client

from privacy.rules import STRICTEST, Rules, ready
from schemas.content import ContentPolicy
from streams.following import follow
from streams.kv import TypedBucket
from streams.topology import CONTENT

log = structlog.get_logger(__name__)

_AGAIN_S: Final = 1.0


class Policies:
    """What is known of every tenant's policy; of a tenant nothing is known of, content is dropped."""

    def __init__(self) -> None:
        self._policies: dict[str, ContentPolicy] = {}
        self._rules: dict[str, Rules] = {}

    def rules(self, tenant: str) -> Rules:
        """What applies to ``tenant`` now."""
        return self._rules.get(tenant, STRICTEST)

    def policies(self) -> dict[str, ContentPolicy]:
        """By tenant; those without one are not there."""
        return dict(self._policies)

    def tell(self, tenant: str, policy: ContentPolicy | None) -> bool:
        """The policy of ``tenant`` is now this one; None: there is none. Whether that is another than before."""
        if self._policies.get(tenant) == policy:
            return False
        if policy is None:
            self._policies.pop(tenant, None)
            self._rules.pop(tenant, None)
        else:
            self._policies[tenant] = policy
            self._rules[tenant] = ready(policy)
        log.info("content.policy", tenant=tenant, mode=self.rules(tenant).mode, patterns=len(self.rules(tenant).own))
        return True

    def only(self, tenants: set[str]) -> bool:
        """Every policy but these tenants' is gone; whether there was one."""
        gone = set(self._policies) - tenants
        for tenant in gone:
            self.tell(tenant, None)
        return bool(gone)


class PolicyWatch:
    """Keeps ``policies`` as the bucket says: of one tenant, or of all."""

    def __init__(self, policies: Policies, tenant: str | None = None, changed: Callable[[], None] = lambda: None) -> None:
        self._policies = policies
        self._tenant = tenant
        self._changed = changed
        self.known = asyncio.Event()
        """Set once the bucket has been read."""

    async def read(self, client: Client) -> None:
        """Knows what is in force now. Raises what NATS raises, and BucketMissingError."""
        await self._read(await TypedBucket.open(client, CONTENT, ContentPolicy))

    async def _read(self, bucket: TypedBucket[ContentPolicy]) -> None:
        if self._tenant is not None:
            entry = await bucket.get(self._tenant)
            present = {} if entry is None or entry.value is None else {self._tenant: entry.value}
        else:
            present = await bucket.all()
        changed = self._policies.only(set(present))
        for tenant, policy in present.items():
            changed |= self._policies.tell(tenant, policy)
        if changed:
            self._changed()
        self.known.set()

    def _tell(self, tenant: str, policy: ContentPolicy | None) -> None:
        if self._policies.tell(tenant, policy):
            self._changed()

    async def run(self, client: Client) -> None:
        """Follows until cancelled; while NATS is away what was known stands."""
        keys = self._tenant or ">"
        await follow(client, CONTENT, ContentPolicy, self._read, self._tell, keys=keys, name="content", again_s=_AGAIN_S)
