"""How to reach NATS: read once from the environment by whoever composes a service."""

import ssl
from pathlib import Path
from typing import Any

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class TopologySettings(BaseSettings):
    """Of the streams themselves. Every field is the environment variable ``AGENTOPS_<FIELD>``."""

    model_config = SettingsConfigDict(env_prefix="AGENTOPS_", frozen=True, use_attribute_docstrings=True, extra="ignore")

    partitions: int | None = Field(default=None, ge=1, le=256)
    """Into how many partitions TELEMETRY is cut, for as many instances of validate at work at once; the number may only grow.
    Without it, as many as there are: one at first."""


class NatsSettings(BaseSettings):
    """Where NATS is and who we are there. Every field is the environment variable ``NATS_<FIELD>``."""

    model_config = SettingsConfigDict(env_prefix="NATS_", frozen=True, use_attribute_docstrings=True, extra="ignore")

    url: str = "nats://127.0.0.1:4222"
    """One server or several, comma-separated."""
    user: str | None = None
    password: SecretStr | None = None
    token: SecretStr | None = None
    credentials: Path | None = Field(default=None)
    """A ``.creds`` file (JWT and seed)."""
    tls_ca: Path | None = None
    """Certificate authority to trust; giving it turns TLS on."""
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    inbox_prefix: str | None = None
    """Where answers to our requests come: users made by ``agentops auth user add`` may listen nowhere but at ``_INBOX_<user>``."""
    connect_timeout_s: float = 5.0
    """For one attempt."""
    reconnect_wait_s: float = 0.5
    """Between attempts; attempts never end, because a client that gave up is a dead process that looks alive."""

    def servers(self) -> list[str]:
        """The server addresses."""
        return [part.strip() for part in self.url.split(",") if part.strip()]

    def shown_url(self) -> str:
        """The address fit for logs and pages: without user and password."""
        return ",".join(
            part.split("//", 1)[0] + "//" + part.split("@")[-1].split("//")[-1] if "@" in part else part
            for part in self.servers()
        )

    def unreadable(self) -> str | None:
        """The first of the files named here that is none, by its variable; None where all are there."""
        for field in ("credentials", "tls_ca", "tls_certificate", "tls_key"):
            path: Path | None = getattr(self, field)
            if path is not None and not path.is_file():
                return f"NATS_{field.upper()} names {path}, which is no file"
        return None

    def tls_context(self) -> ssl.SSLContext | None:
        """The TLS context these settings ask for, if any."""
        if self.tls_ca is None and self.tls_certificate is None:
            return None
        context = ssl.create_default_context(cafile=str(self.tls_ca) if self.tls_ca else None)
        if self.tls_certificate is not None:
            context.load_cert_chain(str(self.tls_certificate), str(self.tls_key) if self.tls_key else None)
        return context

    def options(self) -> dict[str, Any]:
        """Keyword arguments for ``nats.connect`` (without servers and name); ``streams.broker`` makes FastStream's of them."""
        given: dict[str, Any] = {
            "connect_timeout": self.connect_timeout_s,
            "reconnect_time_wait": self.reconnect_wait_s,
            "max_reconnect_attempts": -1,
            "allow_reconnect": True,
            "ping_interval": 20,
            "max_outstanding_pings": 3,
        }
        if self.user is not None:
            given["user"] = self.user
        if self.password is not None:
            given["password"] = self.password.get_secret_value()
        if self.inbox_prefix is not None:
            given["inbox_prefix"] = self.inbox_prefix
        if self.token is not None:
            given["token"] = self.token.get_secret_value()
        if self.credentials is not None:
            given["user_credentials"] = str(self.credentials)
        context = self.tls_context()
        if context is not None:
            given["tls"] = context
        return given
