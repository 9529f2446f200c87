from datetime import timedelta

import httpx
from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from processors.notify.delivery import Patience


class InvalidWebhookError(ValueError):
    """A webhook's address cannot be used. Trying again does not help."""


class NotifySettings(BaseSettings):
    """Who is told, and how patiently. Every field is ``AGENTOPS_<FIELD>``."""

    model_config = SettingsConfigDict(env_prefix="AGENTOPS_", frozen=True, use_attribute_docstrings=True, extra="ignore")

    webhook_urls: SecretStr = SecretStr("")
    """Addresses, comma-separated, that each alert change is posted to as JSON. Their paths are secrets: only hosts are logged."""
    webhook_timeout_s: float = Field(default=10.0, gt=0, le=120)
    """For one attempt."""
    notify_longest_pause_s: float = Field(default=60.0, gt=0)
    """Pauses between attempts double from one second up to this."""
    notify_give_up_after_s: float = Field(default=86_400.0, gt=0)
    """An endpoint that is away is tried this long for each change; what nobody heard of for a day helps nobody."""
    notify_attempts: int = Field(default=12, ge=1)
    """An endpoint that answers but fails (500) is tried this often for each change, so that one it chokes on holds up few."""

    def webhooks(self) -> tuple[str, ...]:
        """The addresses; raises InvalidWebhookError."""
        urls = [url.strip() for url in self.webhook_urls.get_secret_value().split(",") if url.strip()]
        for number, url in enumerate(urls, 1):
            try:
                parsed = httpx.URL(url)
                usable = parsed.scheme in {"http", "https"} and bool(parsed.host)
            except httpx.InvalidURL:
                usable = False
            if not usable:
                msg = f"AGENTOPS_WEBHOOK_URLS: address {number} of {len(urls)} is not a http or https address"
                raise InvalidWebhookError(msg)
        return tuple(dict.fromkeys(urls))

    def patience(self) -> Patience:
        """The patience as the decision takes it."""
        return Patience(
            longest_pause=timedelta(seconds=self.notify_longest_pause_s),
            give_up_after=timedelta(seconds=self.notify_give_up_after_s),
            attempts=self.notify_attempts,
        )
