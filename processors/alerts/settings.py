from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from schemas.model import Token


class AlertSettings(BaseSettings):
    """Where the rules are, and how often the streams themselves are looked at. Every field is ``AGENTOPS_<FIELD>``."""

    model_config = SettingsConfigDict(env_prefix="AGENTOPS_", frozen=True, use_attribute_docstrings=True, extra="ignore")

    rules: Path | None = None
    """A YAML file of alert rules; without one the rules shipped apply."""
    alerts_check_s: float = Field(default=30.0, gt=0)
    """Between looks at how full the streams are and how far behind their readers."""
    system_tenant: Token = "system"
    """The tenant in whose name alerts about the streams themselves are told."""
