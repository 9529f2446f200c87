"""What a gateway is told: by its command line, else by its environment."""

from pathlib import Path
from typing import Annotated, Final, Self

from pydantic import Field, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

PORT: Final = 8810


class GatewaySettings(BaseSettings):
    """One gateway. Every field is also the environment variable ``AGENTOPS_GATEWAY_<FIELD>``; the command line wins."""

    model_config = SettingsConfigDict(
        env_prefix="AGENTOPS_GATEWAY_", env_parse_none_str="null", frozen=True, use_attribute_docstrings=True, extra="ignore"
    )

    host: str = "127.0.0.1"
    """Where it listens. Loopback unless others must reach it."""
    port: Annotated[int, Field(ge=0, le=65535)] = PORT
    """0 takes a free one."""
    otlp_port: Annotated[int, Field(ge=0, le=65535)] | None = 4318
    """OTLP over HTTP; 0 takes a free one. The usual one is left out where it is taken, one that is given must be free. In the
    environment ``null`` for none. OTLP doors speak no TLS of their own."""
    otlp_grpc_port: Annotated[int, Field(ge=0, le=65535)] | None = 4317
    """OTLP over gRPC; likewise."""
    tls_certificate: Path | None = None
    """With ``tls_key``: it speaks HTTPS. Without, keys travel in the clear: put TLS before it where the network is not yours alone."""
    tls_key: Path | None = None
    events_per_s: Annotated[float, Field(gt=0, le=1_000_000)] = 5000.0
    """Of one tenant; beyond it 429 with Retry-After. Twice as many may come at once after a pause."""
    max_connections: Annotated[int, Field(ge=1, le=65_536)] = 512
    """One more is answered 503 and closed."""
    held_bytes: Annotated[int, Field(ge=1_000_000)] = 64_000_000
    """Of bodies that are being read, judged or published; beyond it 503 with Retry-After."""
    head_s: Annotated[float, Field(gt=0, le=600)] = 10.0
    """A request's head must be complete so long after its connection, or after its first byte."""
    body_s: Annotated[float, Field(gt=0, le=600)] = 30.0
    """Its body must be complete so long after its head."""
    idle_s: Annotated[float, Field(gt=0, le=3600)] = 30.0
    """A connection without a request is closed after so long."""
    stored_s: Annotated[float, Field(gt=0, le=600)] = 8.0
    """How long it tries to have an event acknowledged by NATS before it answers 503."""

    @model_validator(mode="after")
    def _both_or_none(self) -> Self:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise ValueError("tls_certificate and tls_key go together")
        return self
