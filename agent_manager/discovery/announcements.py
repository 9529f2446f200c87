"""What agents of other makers say of themselves by the Synadia agent protocol, as sightings. Pure.

They register as the micro service ``agents`` (metadata ``agent``, ``owner``, ``session``) and beat on
``agents.hb.<agent>.<owner>.<session>`` with ``{agent, owner, session?, instance_id, ts, interval_s}``; unknown fields are theirs.
"""

import re
from datetime import datetime
from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from schemas.model import Name, Text
from schemas.versions import Sighting

_NOT_IN_IDS: Final = re.compile(r"[^A-Za-z0-9_-]+")
_LONGEST: Final = 64


class _Said(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class _Beat(_Said):
    agent: Name
    owner: Name
    session: Name | None = None
    instance_id: Name
    interval_s: Annotated[float, Field(gt=0, le=86_400)] | None = None


class _Metadata(_Said):
    agent: Name
    owner: Name
    session: Name | None = None


class _Info(_Said):
    id: Name
    name: Name
    version: Name | None = None
    description: Text = ""
    metadata: _Metadata


def agent_id(agent: str, owner: str, session: str | None) -> str:
    """One id of harness, owner and session."""
    joined = "-".join(part for part in (agent, owner, session) if part)
    return _NOT_IN_IDS.sub("_", joined)[:_LONGEST] or "unknown"


def heartbeat(data: bytes, *, tenant: str, now: datetime) -> Sighting | None:
    """The sighting in one heartbeat; None where it is no heartbeat of this protocol."""
    try:
        said = _Beat.model_validate_json(data)
    except ValidationError:
        return None
    return Sighting(
        agent_id=agent_id(said.agent, said.owner, said.session), tenant_id=tenant, agent=said.agent, owner=said.owner,
        session=said.session, instance_id=said.instance_id, seen_by="heartbeat", interval_s=said.interval_s,
        first_seen=now, last_seen=now,
    )  # fmt: skip


def service(data: bytes, *, tenant: str, now: datetime) -> Sighting | None:
    """The sighting in one answer to ``$SRV.INFO.agents``; None where it is none of this protocol."""
    try:
        said = _Info.model_validate_json(data)
    except ValidationError:
        return None
    if said.name != "agents":
        return None
    who = said.metadata
    return Sighting(
        agent_id=agent_id(who.agent, who.owner, who.session), tenant_id=tenant, agent=who.agent, owner=who.owner,
        session=who.session, instance_id=said.id, seen_by="service", version=said.version, description=said.description,
        first_seen=now, last_seen=now,
    )  # fmt: skip


def merged(before: Sighting | None, seen: Sighting) -> Sighting:
    """What is known of an agent after it was seen again: the newest of everything, the first of first."""
    if before is None:
        return seen
    return seen.model_copy(
        update={
            "first_seen": before.first_seen,
            "version": seen.version or before.version,
            "description": seen.description or before.description,
            "interval_s": seen.interval_s or before.interval_s,
        }
    )
