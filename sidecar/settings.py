"""What a sidecar is told: by its command line, else by its environment."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AliasChoices, Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from schemas.model import Token
from schemas.state import ProbeConfig
from sidecar.metering.providers import ROUTES, Upstream, upstream
from sidecar.probes import parse
from streams.subjects import RESERVED_AGENT_ID

Port = Annotated[int, Field(ge=0, le=65535)]


class SidecarSettings(BaseSettings):
    """One sidecar. Every field is also the environment variable ``AGENTOPS_SIDECAR_<FIELD>``, but for ``url`` and ``data``; the command line wins."""

    # Not by name, too: AGENTOPS_SIDECAR_URL would be read as ``url``.
    model_config = SettingsConfigDict(env_prefix="AGENTOPS_SIDECAR_", frozen=True, use_attribute_docstrings=True, extra="ignore")

    agent_id: Token
    tenant: Token
    workspace: Token | None = None
    project: Token | None = None
    name: str = ""
    """Shown to people; empty: the agent's id."""
    version: str = "unknown"
    agent_type: str = "service"
    command: tuple[str, ...] = ()
    """The agent's command; empty with ``url``."""
    url: str | None = Field(default=None, validation_alias=AliasChoices("url", "AGENTOPS_SIDECAR_AGENT_URL"))
    """An agent that runs already, here or elsewhere. In the environment AGENTOPS_SIDECAR_AGENT_URL: AGENTOPS_SIDECAR_URL is
    what an agent is told of its door, and a sidecar may be started by an agent."""
    pid: int | None = None
    """With ``url``: the agent's process on this machine, if it is here."""
    port: Port = 0
    """The agent's own port, told to it as PORT; 0 takes a free one."""
    proxy_port: Port = 0
    """Where the proxy listens; 0 takes a free one."""
    door_port: Port = 0
    """Where the local door listens; 0 takes a free one."""
    otlp_port: Port | None = None
    """Where OTLP over HTTP listens besides the local door, which takes it, too; 0 takes a free one. None: only there."""
    otlp_grpc_port: Port | None = None
    """Where OTLP over gRPC listens; 0 takes a free one. None: nowhere, and its library's 20 MB are not loaded."""
    metering: Annotated[tuple[str, ...], NoDecode] = ()
    """Model providers whose calls are metered, by route: the agent is told the sidecar's address in place of theirs. In the
    environment separated by spaces. None given: nothing listens, and the agent's calls go where they always did."""
    metering_port: Port = 0
    """Where the metering proxy listens; 0 takes a free one."""
    upstream_openai: str | None = None
    """Where calls of this route go, instead of the provider's own address: a base URL. None: where the agent's environment says,
    else the provider's own."""
    upstream_anthropic: str | None = None
    """As ``upstream_openai``."""
    upstream_gemini: str | None = None
    """As ``upstream_openai``."""
    upstream_vertex: str | None = None
    """As ``upstream_openai``."""
    upstream_openrouter: str | None = None
    """As ``upstream_openai``."""
    upstream_azure: str | None = None
    """As ``upstream_openai``; has no default, because each resource has an address of its own."""
    upstream_bedrock: str | None = None
    """As ``upstream_openai``; the default is that of AWS_REGION."""
    upstream_groq: str | None = None
    """As ``upstream_openai``."""
    upstream_mistral: str | None = None
    """As ``upstream_openai``."""
    upstream_deepseek: str | None = None
    """As ``upstream_openai``."""
    upstream_cerebras: str | None = None
    """As ``upstream_openai``."""
    upstream_xai: str | None = None
    """As ``upstream_openai``."""
    host: str = "127.0.0.1"
    """Address of proxy and doors. Loopback unless others must reach the agent through the proxy (containers)."""
    advertise: str | None = None
    """Host name under which others reach the proxy; None: ``host``."""
    probes: Annotated[tuple[ProbeConfig, ...], NoDecode] = ()
    """None given: the process, or with ``url`` and no pid its port. In the environment separated by spaces."""
    heartbeat_s: Annotated[float, Field(gt=0, le=3600)] = 5.0
    """Between heartbeats; readers miss an agent after three."""
    stuck_after_s: Annotated[float, Field(ge=0, le=86_400)] = 600.0
    """An agent that has work, and none of it has moved for so long, is STUCK; 0: never."""
    stuck_repeats: Annotated[int, Field(ge=0, le=10_000)] = 20
    """One whose run repeats the same step, or the same few in turn, more often than that is STUCK; 0: never."""
    start_grace_s: Annotated[float, Field(ge=0, le=3600)] = 10.0
    """Failed probes do not condemn an agent that is still coming up for so long."""
    stop_timeout_s: Annotated[float, Field(ge=0, le=600)] = 5.0
    """From TERM to KILL."""
    data: Path = Field(default=Path("data"), validation_alias=AliasChoices("data", "AGENTOPS_DATA"))
    """Data directory of the whole system."""
    working_directory: Path | None = None
    """Where the command runs; None: here."""
    restarted: str = ""
    """Why this instance takes the place of an earlier one; told with the agent's start. Empty: it does not."""
    spool_max_bytes: Annotated[int, Field(ge=1_500_000)] = 64 * 1024 * 1024
    """Bound of the spool; when full the oldest metrics and logs go, then the oldest heartbeats, then the door answers 503."""
    spool_sync: bool = False
    """Flush every append to disk: accepted means safe from power loss too, at a price of one fsync a request."""
    log_level: Literal["off", "debug", "info", "warning", "error", "critical"] = "info"
    """The agent's output from this level on becomes ``log`` events, beside its file, which has all of it. Lines that tell no
    level are ``info``, tracebacks ``error``."""
    log_lines_per_s: Annotated[float, Field(gt=0, le=10_000)] = 5.0
    """So many a second for long; what is beyond is counted, and told in one event."""
    log_burst: Annotated[int, Field(ge=1, le=100_000)] = 100
    """So many at once: a traceback or the lines of a start are whole. Half of it is kept for warnings and worse."""

    @field_validator("probes", mode="before")
    @classmethod
    def _read_probes(cls, value: object) -> object:
        specs = value.split() if isinstance(value, str) else value
        return (
            tuple(parse(item) if isinstance(item, str) else item for item in specs) if isinstance(specs, list | tuple) else specs
        )

    @field_validator("metering", mode="before")
    @classmethod
    def _known_routes(cls, value: object) -> object:
        names = value.replace(",", " ").split() if isinstance(value, str) else value
        for name in names if isinstance(names, list | tuple) else ():
            if name not in ROUTES:
                raise ValueError(f"{name!r} is no provider that is metered: choose from {', '.join(ROUTES)}")
        return tuple(dict.fromkeys(names)) if isinstance(names, list | tuple) else names

    @field_validator("agent_id")
    @classmethod
    def _not_reserved(cls, value: str) -> str:
        if value == RESERVED_AGENT_ID:
            raise ValueError(f"{RESERVED_AGENT_ID!r} is reserved")
        return value

    @property
    def shown_name(self) -> str:
        """What people read."""
        return self.name or self.agent_id

    @property
    def asked_probes(self) -> tuple[ProbeConfig, ...]:
        """The probes given, or the one that is always possible."""
        if self.probes:
            return self.probes
        has_process = self.url is None or self.pid is not None
        return (ProbeConfig(kind="process" if has_process else "tcp"),)

    def upstreams(self, environment: Mapping[str, str]) -> dict[str, Upstream]:
        """Where each metered route leads; raises UnknownUpstreamError."""
        return {name: upstream(ROUTES[name], getattr(self, f"upstream_{name}"), environment) for name in self.metering}

    @property
    def agent_directory(self) -> Path:
        """Logs and run files of this agent."""
        return self.data / "agents" / self.agent_id

    @property
    def spool_directory(self) -> Path:
        """The spool of this agent."""
        return self.data / "spool" / self.agent_id
