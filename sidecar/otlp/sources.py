"""Whose spans a request brings: what a door is told of its sender, and what the resource and the span add."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from sidecar.otlp.clipping import IDENTIFIER, clipped, token

UNKNOWN_AGENT = "unknown-agent"


@dataclass(frozen=True, slots=True)
class Source:
    """Who sends: a sidecar's own agent, or whoever a key belongs to."""

    tenant: str
    agent: str | None = None
    """Every event is this agent's; None: the resource and the span say whose."""
    workspace: str | None = None
    project: str | None = None
    run_id: str | None = None
    """Every event belongs to this run; None: the trace is the run."""


@dataclass(frozen=True, slots=True)
class Refused:
    """The sender may not send: 401, 403, or 429 with how long to wait."""

    status: int
    reason: str
    retry_after_s: float | None = None


Sources = Callable[[Mapping[str, str]], Source | Refused]
"""Who a request's headers (in gRPC its metadata), in lower case, belong to."""


def attributed(source: Source, headers: Mapping[str, str]) -> Source:
    """``source``, in the run and project that the headers of its request name."""
    run, project = headers.get("x-agentops-run"), headers.get("x-agentops-project")
    if not run and not project:
        return source
    return replace(source, run_id=clipped(run, IDENTIFIER) or source.run_id, project=token(project) or source.project)


@dataclass(frozen=True, slots=True)
class Whose:
    """The sections that say whose an event is, for all spans of one resource that do not say otherwise."""

    tenant: dict[str, Any]
    agent: str | None
    run_id: str | None
    workflow: str | None
    about: dict[str, Any]
    """Attributes of the resource that every event repeats."""


_REPEATED = ("service.name", "service.version", "deployment.environment.name", "deployment.environment", "service.namespace")
_NAMELESS = "unknown_service"


def whose(source: Source, fields: Mapping[str, Any], extra: Mapping[str, Any]) -> Whose:
    """What ``source`` and the resource's attributes say together; the source's word counts before the resource's."""
    tenant: dict[str, Any] = {"tenant_id": source.tenant}
    if (workspace := source.workspace or token(fields.get("workspace"))) is not None:
        tenant["workspace_id"] = workspace
    if (project := source.project or token(fields.get("project"))) is not None:
        tenant["project_id"] = project
    agent = source.agent or token(fields.get("agent_id"))
    if agent is None:
        # The service before the span's own agent: a model call rarely names its agent, and a run keeps to one.
        service = extra.get("service.name")
        if isinstance(service, str) and not service.startswith(_NAMELESS):
            agent = token(service)
    agent = agent or token(fields.get("agent"))
    return Whose(
        tenant,
        agent,
        source.run_id or clipped(fields.get("run_id"), IDENTIFIER),
        clipped(fields.get("workflow"), IDENTIFIER),
        {name: extra[name] for name in _REPEATED if name in extra},
    )
