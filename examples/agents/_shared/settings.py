"""What an agent is told by its environment."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit


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
    provider: str
    """Who bills for the calls: told by the API's host, as one API shape is spoken by many."""
    model: str
    model_key: str = field(repr=False)


_PROVIDERS = {
    "generativelanguage.googleapis.com": "google",
    "openrouter.ai": "openrouter",
    "api.groq.com": "groq",
    "api.mistral.ai": "mistral",
    "api.deepseek.com": "deepseek",
    "api.anthropic.com": "anthropic",
}


def provider_of(model_url: str) -> str:
    """The provider behind an OpenAI-compatible ``model_url``; OpenAI where the host is not a known other one."""
    return _PROVIDERS.get(urlsplit(model_url).hostname or "", "openai")


def read_settings(environ: Mapping[str, str], *, agent_id: str, agent_type: str) -> Settings:
    """Settings from ``environ``; a variable that is empty counts as absent."""

    def value(name: str) -> str | None:
        return environ.get(name) or None

    model_url = (value("OPENAI_BASE_URL") or "https://api.openai.com/v1").rstrip("/")
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
        model_url=model_url,
        provider=value("AGENTOPS_PROVIDER") or provider_of(model_url),
        model=value("OPENAI_MODEL") or "gpt-4o-mini",
        model_key=value("OPENAI_API_KEY") or "",
    )
