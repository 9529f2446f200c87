"""What an agent is told by its environment."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Settings:
    agent_id: str
    name: str
    agent_type: str
    version: str
    port: int
    """Loopback port to listen on; 0 takes a free one, printed at start."""
    sidecar_url: str | None
    """Where events go; without it the agent works and reports nothing."""
    tenant_id: str
    workspace_id: str | None
    project_id: str | None
    model_url: str
    """Base of an OpenAI-compatible API, ``/v1`` included."""
    model: str
    model_key: str = field(repr=False)


def read_settings(environ: Mapping[str, str], *, agent_id: str, agent_type: str) -> Settings:
    """Settings from ``environ``; a variable that is empty counts as absent."""

    def value(name: str) -> str | None:
        return environ.get(name) or None

    return Settings(
        agent_id=value("AGENT_ID") or agent_id,
        name=value("AGENT_NAME") or agent_id,
        agent_type=value("AGENT_TYPE") or agent_type,
        version=value("AGENT_VERSION") or "1.0.0",
        port=int(value("PORT") or 0),
        sidecar_url=(value("AGENTOPS_SIDECAR_URL") or "").rstrip("/") or None,
        tenant_id=value("AGENTOPS_TENANT") or "demo",
        workspace_id=value("AGENTOPS_WORKSPACE"),
        project_id=value("AGENTOPS_PROJECT"),
        model_url=(value("OPENAI_BASE_URL") or "https://api.openai.com/v1").rstrip("/"),
        model=value("OPENAI_MODEL") or "gpt-4o-mini",
        model_key=value("OPENAI_API_KEY") or "",
    )
