"""What a mirror is told: by its command line, else by its environment."""

from typing import Annotated

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from schemas.model import Token
from schemas.state import GoogleProject


class MirrorSettings(BaseSettings):
    """One mirror. Every field is also the environment variable ``AGENTOPS_MIRROR_<FIELD>``; the command line wins.

    ``FIRESTORE_EMULATOR_HOST`` names an emulator instead of Google's Firestore; Google's own login is found as its libraries do.
    """

    model_config = SettingsConfigDict(env_prefix="AGENTOPS_MIRROR_", frozen=True, use_attribute_docstrings=True, extra="ignore")

    project: GoogleProject
    """The Google Cloud project."""
    tenant: Token
    """Whose agents: a document is called by its agent's id, which is one agent's within a tenant."""
    database: str = "(default)"
    collection: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,100}$")] = "agents"
    write_s: Annotated[float, Field(ge=1.0, le=60)] = 1.0
    """One document is written at most so often: Firestore takes one write a second for long."""
    numbers_s: Annotated[float, Field(ge=1.0, le=3600)] = 30.0
    """Where nothing but heartbeat and metrics is new, at most so often: each write costs."""
    health_host: str = Field(default="127.0.0.1", validation_alias="AGENTOPS_HEALTH_HOST")
    health_port: int = Field(default=0, validation_alias="AGENTOPS_HEALTH_PORT")
    """0 takes any free port and logs it."""
