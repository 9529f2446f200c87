"""What an agent's versions are, how far each is trusted, and what may be asked of them."""

from typing import Annotated, Any, Literal

from pydantic import Field, JsonValue

from schemas.model import Finite, Instant, Lenient, Name, Text, Token, Wire
from schemas.state import AgentRecord

Stage = Literal["dev", "staging", "prod"]
"""How far a version is trusted; it rises by promotion."""
Change = Literal["register", "update", "delete", "promote", "rollback", "canary", "canary_passed", "canary_taken_back"]


class Release(Lenient):
    """One version of an agent: the record it ran, or would run, with."""

    version: Name
    record: AgentRecord
    stage: Stage = "dev"
    registered_at: Instant
    registered_by: Name
    good_at: Instant | None = None
    """When it had last been healthy for long enough to be called good."""


class Canary(Lenient):
    """A version on trial: it runs in place of ``previous`` until ``until``, and is taken back when it is not well."""

    version: Name
    previous: Name
    began_at: Instant
    until: Instant
    max_error_rate: Finite
    by: Name


class Releases(Lenient):
    """Bucket ``releases``, written by the manager alone: the versions of one agent, oldest first."""

    agent_id: Token
    tenant_id: Token
    current: Name
    """The version whose record stands in the registry."""
    source: Literal["folder", "command"] = "folder"
    """Where it is registered: ``folder``, by an agent.yaml that discovery finds; ``command``, by somebody's command."""
    found: AgentRecord | None = None
    """What its agent.yaml said when it was last taken: as long as it says the same, nobody's rollback is undone by it."""
    releases: tuple[Release, ...] = ()
    canary: Canary | None = None


class RegistryChange(Lenient):
    """``params`` of the audit records on ``audit.<tenant>.<agent_id>.registry``: one change, with all that stood afterwards."""

    change: Change
    version: Name
    previous: Name | None = None
    """The version that was current before."""
    stage: Stage | None = None
    fields: tuple[str, ...] = ()
    """What is different in the record."""
    record: AgentRecord
    """After the change; for ``delete`` before it."""


class Sighting(Lenient):
    """Bucket ``sightings``: an agent that announced itself, and is not managed here."""

    agent_id: Token
    """Harness, owner and session in one, as far as an id may hold them."""
    tenant_id: Token
    agent: Name
    """The harness, as it calls itself."""
    owner: Name
    session: Name | None = None
    instance_id: Name
    seen_by: Literal["heartbeat", "service"]
    version: Name | None = None
    description: Text = ""
    interval_s: Annotated[float, Field(gt=0, le=86_400)] | None = None
    first_seen: Instant
    last_seen: Instant


class Asked(Wire):
    """What every change may carry."""

    dry_run: bool = False
    """Says what would be done, and does nothing."""
    reason: Text | None = None


class RegisterParams(Asked):
    """``params`` of ``register``."""

    record: dict[str, JsonValue]
    """An AgentRecord, as JSON."""
    current: bool = True
    """False: the version is kept for a rollout, and what runs stays what it is."""


class UpdateParams(Asked):
    """``params`` of ``update``."""

    fields: Annotated[dict[str, JsonValue], Field(min_length=1)]


class RollbackParams(Asked):
    """``params`` of ``rollback``; without a version to the last good one."""

    version: Name | None = None


class PromoteParams(Asked):
    """``params`` of ``promote``: what must hold before the version may rise."""

    version: Name | None = None
    """The current one where it is left out."""
    to: Stage
    healthy_for_s: Annotated[float, Field(ge=0, le=86_400)] = 300.0
    max_error_rate: Annotated[float, Field(ge=0, le=1)] = 0.01
    suite: Name | None = None
    min_score: Finite | None = None
    """Given: the latest evaluation of the version (of ``suite``) must reach it."""


class CanaryParams(Asked):
    """``params`` of ``canary``."""

    version: Name
    duration_s: Annotated[float, Field(gt=0, le=86_400)] = 300.0
    percent: Annotated[int, Field(ge=1, le=100)] = 100
    """Of traffic, or of instances; the local driver has one instance, and takes 100 only."""
    max_error_rate: Annotated[float, Field(ge=0, le=1)] = 0.05


class CheckDone(Lenient):
    """One check before a promotion."""

    name: Name
    passed: bool
    message: Text
    seen: Any = None
