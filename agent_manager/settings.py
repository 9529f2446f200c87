"""The manager's settings, read once from the environment."""

import os
from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from streams.settings import NatsSettings


class ManagerSettings(BaseSettings):
    """Every field is the environment variable ``AGENTOPS_<FIELD>``."""

    model_config = SettingsConfigDict(env_prefix="AGENTOPS_", frozen=True, use_attribute_docstrings=True, extra="ignore")

    data: Path = Path("data")
    """Where agents' output and the manager's journal lie."""
    agents: str = ""
    """Folders with agents, separated like PATH. Empty: no local agents, only faults and queries for those that report."""
    tenant: str = "demo"
    """Whose agents they are when a manifest names no tenant."""
    health_host: str = "127.0.0.1"
    """Where the health door listens; ``0.0.0.0`` in a container."""
    health_port: int = 0
    """0 takes any free port and logs it."""
    stop_agents: bool = False
    """Whether agents are stopped with the manager. Default: they run on and are adopted by the next one."""
    discovery_interval_s: float = 5.0
    """Between looks at the folders; a look costs a stat per manifest."""
    sighting_interval_s: float = 30.0
    """Between questions to agents that announce themselves as the micro service ``agents``; their heartbeats are heard at once."""
    good_after_s: float = 30.0
    """A version that has been HEALTHY for this long is one to go back to."""
    tick_s: float = 1.0
    """Each agent is looked at this often even when nothing is heard; what matters wakes it at once."""
    grace_s: float = 10.0
    """After a start or a reconnect silence is not held against agents for two of their heartbeats."""
    start_patience_s: float = 15.0
    """A start or restart has this long to answer; a new instance this long to become HEALTHY before its probes count."""
    verify_s: float = 30.0
    """A recovery has this long to reach HEALTHY."""
    fleet_share: float = Field(default=0.5, gt=0, le=1)
    """From this share of the agents in trouble on, the cause is taken to be elsewhere and restarts are held back."""
    fleet_least: int = Field(default=4, ge=1)
    """Fleets smaller than this are healed whatever the share: two of three may well have troubles of their own."""
    fleet_trial_s: float = Field(default=60.0, gt=0)
    """While restarts are held back one agent is tried this often, so that healing resumes by itself."""
    stop_within_s: float = 6.0
    """Stopping all agents takes no longer than this."""
    cloud_run_endpoint: str | None = None
    """``host:port`` of a Cloud Run Admin API without logins, as ``agentops dev fake-cloud-run`` is one; default: Google's own."""
    cloud_run_poll_s: float = 15.0
    """Between looks at each Cloud Run agent; Google allows some 50 reads a second in a project and region."""
    cloud_run_patience_s: float = 60.0
    """A call that Google turns away for the moment (UNAVAILABLE, RESOURCE_EXHAUSTED, ABORTED) is repeated for this long."""
    sidecar_nats_url: str | None = None
    """Where sidecars find NATS; default: where the manager does."""
    sidecar_nats_user: str | None = None
    """Who sidecars are there. Given: they get this login and no other of the manager's."""
    sidecar_nats_password: SecretStr | None = None

    def directories(self) -> tuple[Path, ...]:
        """The folders with agents."""
        return tuple(Path(part).resolve() for part in self.agents.split(os.pathsep) if part.strip())

    def for_sidecars(self, nats: NatsSettings) -> dict[str, str]:
        """The environment by which a sidecar reaches NATS."""
        given = {"NATS_URL": self.sidecar_nats_url or nats.url}
        if self.sidecar_nats_user is not None:
            given["NATS_USER"] = self.sidecar_nats_user
            if self.sidecar_nats_password is not None:
                given["NATS_PASSWORD"] = self.sidecar_nats_password.get_secret_value()
            return given
        if nats.user is not None:
            given["NATS_USER"] = nats.user
        if nats.password is not None:
            given["NATS_PASSWORD"] = nats.password.get_secret_value()
        if nats.token is not None:
            given["NATS_TOKEN"] = nats.token.get_secret_value()
        if nats.credentials is not None:
            given["NATS_CREDENTIALS"] = str(nats.credentials)
        return given
