"""Whose events these are: told to the tracer, else by the environment a sidecar gives its agent."""

import re
from collections.abc import Mapping
from typing import Final, NamedTuple

_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_NOT_IN_TOKENS: Final = re.compile(r"[^A-Za-z0-9_-]")

_VARIABLES: Final[Mapping[str, str]] = {
    "tenant_id": "AGENTOPS_TENANT",
    "workspace_id": "AGENTOPS_WORKSPACE",
    "project_id": "AGENTOPS_PROJECT",
    "agent_id": "AGENT_ID",
}


class Whose(NamedTuple):
    """The tenant and the agent that every event names."""

    tenant_id: str
    agent_id: str
    workspace_id: str | None = None
    project_id: str | None = None
    name: str | None = None
    version: str | None = None
    agent_type: str | None = None

    def tenant(self) -> dict[str, str]:
        """The tenant section."""
        told = {"tenant_id": self.tenant_id, "workspace_id": self.workspace_id, "project_id": self.project_id}
        return {name: value for name, value in told.items() if value is not None}

    def agent(self) -> dict[str, str]:
        """The agent section."""
        told = {"name": self.name, "version": self.version, "agent_type": self.agent_type}
        return {name: value[:256] for name, value in told.items() if value}


def whose(environ: Mapping[str, str], given: Mapping[str, str | None]) -> tuple[Whose, list[str]]:
    """From ``given``, else from ``environ``; and what had to be changed in the latter, in words.

    Raises ValueError where ``given`` holds an id that can stand in no subject: that is a mistake in the program, found when
    it starts. The same in the environment is mended: it must not keep an agent from working.
    """
    found: dict[str, str | None] = {}
    mended = []
    for field, variable in _VARIABLES.items():
        value = given.get(field)
        if value is not None:
            if not isinstance(value, str) or _TOKEN.fullmatch(value) is None:
                raise ValueError(f"{field} must be 1 to 64 of A-Z a-z 0-9 _ -, not {value!r}: choose another")
            found[field] = value
            continue
        value = environ.get(variable) or None
        if value is not None and _TOKEN.fullmatch(value) is None:
            better = _NOT_IN_TOKENS.sub("-", value)[:64]
            mended.append(f"{variable} must be 1 to 64 of A-Z a-z 0-9 _ -, not {value[:80]!r}: {better!r} is used instead")
            value = better
        found[field] = value
    agent_id = found["agent_id"] or "agent"
    return Whose(
        tenant_id=found["tenant_id"] or "default",
        agent_id=agent_id,
        workspace_id=found["workspace_id"],
        project_id=found["project_id"],
        name=given.get("name") or environ.get("AGENT_NAME") or agent_id,
        version=given.get("version") or environ.get("AGENT_VERSION") or None,
        agent_type=given.get("agent_type") or environ.get("AGENT_TYPE") or None,
    ), mended
