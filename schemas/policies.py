"""Policies that doors enforce: what may not be called, by whom, and why."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from schemas.model import Instant, Lenient, Name, Text, Token

PolicyScope = Literal["tenant", "workspace", "project", "agent"]


class PolicyFlag(Lenient):
    """Bucket ``policy_flags``, key ``<tenant>.<policy_id>``: while it stands, doors refuse the model calls it names."""

    policy_id: Token
    tenant_id: Token
    scope: PolicyScope
    of: Token | None = None
    """The workspace, project or agent; absent for scope ``tenant``."""
    providers: Annotated[tuple[Name, ...], Field(max_length=64)] = ()
    """Whose models; none given: everybody's."""
    models: Annotated[tuple[Name, ...], Field(max_length=256)] = ()
    """Which models, ``*`` standing for any characters; none given: all."""
    reason: Text
    """Told to whoever is refused."""
    since: Instant
    until: Instant | None = None
    """When it ends by itself; absent: never."""

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if (self.scope == "tenant") != (self.of is None):
            msg = f"of: a policy of scope {self.scope} names " + ("nothing" if self.scope == "tenant" else f"its {self.scope}")
            raise ValueError(msg)
        return self
