"""Who asks, and what they may: by an API key, or by a token of an identity provider."""

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Final

from agent_manager.api.oidc import Identity, Provider
from agent_manager.api.problems import ProblemError, away, unauthorized
from schemas.keys import PREFIX
from service.instruments import API_REFUSED
from streams.api_keys import KeyRing, Known, presented
from streams.users import BY_IDENTITY, BY_KEY, EVERY_TENANT, Role

RANKS: Final[dict[Role, int]] = {"viewer": 0, "operator": 1, "admin": 2}
_SHOWN: Final = 40
_STRANGE: Final = re.compile(r"[^A-Za-z0-9_-]")


@dataclass(frozen=True, slots=True)
class Caller:
    """Somebody who may be here."""

    name: str
    """The user token of what they ask for: the audit trail's actor."""
    about: str
    """For people: a key's name, or what the token says of its holder."""
    role: Role
    tenants: frozenset[str]
    agents: frozenset[str] = frozenset()
    """The only agents it is about; none: every one of its tenants."""

    @property
    def everywhere(self) -> bool:
        """Whether it is bound to no tenant."""
        return EVERY_TENANT in self.tenants

    def sees(self, tenant: str) -> bool:
        """Whether that tenant's things are there for this caller."""
        return self.everywhere or tenant in self.tenants

    def sees_agent(self, key: str) -> bool:
        """The same for an agent, by ``<tenant>.<agent_id>``."""
        tenant, _, agent = key.partition(".")
        return self.sees(tenant) and (not self.agents or agent in self.agents)

    def must_be(self, role: Role) -> None:
        """Raises ProblemError (403) where this is less than ``role``."""
        if RANKS[self.role] < RANKS[role]:
            raise ProblemError(403, "forbidden", f"this needs the role {role}; {self.about} has {self.role}")

    def scope(self, tenant: str | None) -> str | None:
        """The tenant a question is about; None: every one. Raises ProblemError (400, 403)."""
        if tenant is not None:
            if not self.sees(tenant):
                raise ProblemError(403, "forbidden", f"{self.about} has nothing to do with tenant {tenant!r}")
            return tenant
        if self.everywhere:
            return None
        if len(self.tenants) > 1:
            raise ProblemError(400, "tenant_needed", f"say which with ?tenant=: {', '.join(sorted(self.tenants))}")
        return next(iter(self.tenants))


def token_of(subject: str) -> str:
    """What stands in a NATS subject for the holder of a token: readable, and no two alike."""
    plain = _STRANGE.sub("_", subject)[:_SHOWN]
    return f"{BY_IDENTITY}{plain}" if plain == subject else f"{BY_IDENTITY}{plain}-{sha256(subject.encode()).hexdigest()[:8]}"


class Callers:
    """Tells who asks."""

    def __init__(self, ring: KeyRing, provider: Provider | None) -> None:
        self._ring = ring
        self._provider = provider

    async def identify(self, authorization: str | None, api_key: str | None) -> Caller:
        """Who presents this; raises ProblemError (401, 503)."""
        given = presented(authorization, api_key)
        if given is not None and not given.startswith(f"{PREFIX}_") and self._provider is not None:
            return self._holder(await self._provider.identity(given))
        if not self._ring.read:
            raise away("keys are not known yet: ask again in a moment")
        found = self._ring.judge(given, datetime.now(UTC))
        if not isinstance(found, Known):
            API_REFUSED.labels(found.reason).inc()
            if found.reason == "role":
                raise unauthorized(
                    "this key is for sending events; `agentops keys create NAME --tenant T --role viewer` makes one for the API"
                )
            raise unauthorized(
                "send a good API key as Authorization: Bearer … or x-api-key; `agentops keys create … --role …` makes one"
            )
        key = found.key
        assert key.role != "sender"
        return Caller(f"{BY_KEY}{key.key_id}", f"key {key.name}", key.role, frozenset((key.tenant_id,)), frozenset(key.agents))

    def _holder(self, identity: Identity) -> Caller:
        return Caller(token_of(identity.subject), identity.about, identity.role, identity.tenants)
