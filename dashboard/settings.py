"""How the dashboard is set up."""

from typing import Final

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})


class DashboardSettings(BaseSettings):
    """Every field is the environment variable ``AGENTOPS_DASHBOARD_<FIELD>``."""

    model_config = SettingsConfigDict(
        env_prefix="AGENTOPS_DASHBOARD_", frozen=True, use_attribute_docstrings=True, extra="ignore"
    )

    host: str = "127.0.0.1"
    """Where to listen. Anything but loopback needs ``password``, or ``open``."""
    port: int = Field(default=8800, ge=0, le=65535)
    """0 takes any free port; it is logged."""
    password: SecretStr | None = None
    """Given: a login page asks for it. Not needed on loopback."""
    user: str = "operator"
    """The name under which alerts are acknowledged from this page."""
    open: bool = False
    """Serve beyond loopback without a password: for a network where something in front asks for one."""
    origins: str = ""
    """Further ``host:port`` names under which a proxy shows this page, comma-separated."""
    tabs: int = Field(default=100, ge=1)
    """At most so many open tabs; one more is refused and told so."""
    unused_s: float = Field(default=30.0, ge=0.1, le=240)
    """Seconds in which a delivered page has to open its connection, or it is let go of and loads again. The first visit over a slow link takes long."""
    audit_every_s: float = Field(default=300.0, gt=0)
    """How often the last hour is audited while at least one tab is open."""
