"""What an API is told: by its command line, else by its environment."""

from pathlib import Path
from typing import Annotated, Final, Self
from urllib.parse import urlsplit

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

PORT: Final = 8820
_LOOPBACK: Final = frozenset({"127.0.0.1", "localhost", "::1"})


class ApiSettings(BaseSettings):
    """One API. Every field is also the environment variable ``AGENTOPS_API_<FIELD>``; the command line wins."""

    model_config = SettingsConfigDict(env_prefix="AGENTOPS_API_", frozen=True, use_attribute_docstrings=True, extra="ignore")

    host: str = "127.0.0.1"
    """Where it listens. Loopback unless others must reach it."""
    port: Annotated[int, Field(ge=0, le=65535)] = PORT
    """0 takes a free one."""
    tls_certificate: Path | None = None
    """With ``tls_key``: it speaks HTTPS. Without, keys travel in the clear: put TLS before it where the network is not yours alone."""
    tls_key: Path | None = None
    oidc_issuer: str | None = None
    """Whose tokens are taken besides API keys: the ``iss`` they carry. Its keys are found by OpenID discovery, or at ``oidc_jwks_url``."""
    oidc_audience: str | None = None
    """The ``aud`` tokens for this API carry."""
    oidc_jwks_url: str | None = None
    """Where the issuer's public keys are."""
    oidc_role_claim: str = "agentops_role"
    """The claim with ``viewer``, ``operator`` or ``admin``, or a list in which the greatest counts."""
    oidc_tenants_claim: str = "agentops_tenants"
    """The claim with the tenants, a list or words; ``*`` for every one."""
    max_connections: Annotated[int, Field(ge=1, le=65_536)] = 512
    """One more is answered 503 and closed."""
    max_streams: Annotated[int, Field(ge=1, le=10_000)] = 100
    """Live streams at once; one more is answered 503."""
    head_s: Annotated[float, Field(gt=0, le=600)] = 10.0
    """A request's head must be complete so long after its connection, or after its first byte."""
    body_s: Annotated[float, Field(gt=0, le=600)] = 10.0
    """Its body must be complete so long after its head."""
    idle_s: Annotated[float, Field(gt=0, le=3600)] = 30.0
    """A connection without a request is closed after so long."""
    beat_s: Annotated[float, Field(gt=0, le=600)] = 15.0
    """A live stream without events says so often that it lives, and that whoever reads it may still."""

    @model_validator(mode="after")
    def _fit(self) -> Self:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("tls_certificate and tls_key go together")
        if (self.oidc_issuer is None) != (self.oidc_audience is None):
            raise ValueError("oidc_issuer and oidc_audience go together")
        for name in ("oidc_issuer", "oidc_jwks_url"):
            url = getattr(self, name)
            if url is not None and urlsplit(url).scheme != "https" and urlsplit(url).hostname not in _LOOPBACK:
                raise ValueError(
                    f"{name} must begin with https:// (is {url}): whoever stands between could put in keys of his own"
                )
        return self
