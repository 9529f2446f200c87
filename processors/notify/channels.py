"""The ways to people. A channel makes one attempt and says what came of it; it never retries by itself."""

import asyncio
import hashlib
from datetime import UTC, datetime
from typing import Any, Protocol

import httpx
import structlog

from processors.notify.delivery import Away, Delivered, Outcome, of_status
from schemas.alerts import AlertChange

log = structlog.get_logger(__name__)


class Channel(Protocol):
    """One way to people."""

    @property
    def name(self) -> str:
        """Its own, for ever: its durable consumer carries it."""

    @property
    def shown(self) -> str:
        """Its name for people and logs; never a secret."""

    async def deliver(self, change: AlertChange) -> Outcome:
        """One attempt."""

    async def close(self) -> None:
        """Gives up what it holds open; it may be used again."""


def text_of(change: AlertChange) -> str:
    """One line for people."""
    subject = f"{change.tenant_id}/{change.agent_id}" if change.agent_id else change.tenant_id
    by = f" by {change.acknowledged_by}" if change.state == "acknowledged" and change.acknowledged_by else ""
    return f"[{change.severity.upper()}] {change.state}{by}: {change.rule} ({subject}) {change.summary}"


class LogChannel:
    """The log of this process."""

    name = "log"
    shown = "log"

    async def deliver(self, change: AlertChange) -> Outcome:
        """Writes one line, at the level of the alert's severity."""
        serious = change.state == "firing" and change.severity != "info"
        tell = (log.error if change.severity == "critical" else log.warning) if serious else log.info
        tell("alert.notified", text=text_of(change), **change.model_dump(mode="json", exclude_none=True))
        return Delivered()

    async def close(self) -> None:
        """Nothing is held open."""


class WebhookChannel:
    """Posts each change as JSON; ``text`` is what Slack-compatible webhooks show."""

    def __init__(self, url: str, timeout_s: float) -> None:
        self._url = httpx.URL(url)
        self._timeout_s = timeout_s
        self._http: httpx.AsyncClient | None = None
        self.name = "webhook-" + hashlib.sha256(url.encode()).hexdigest()[:16]
        self.shown = self._url.host

    async def deliver(self, change: AlertChange) -> Outcome:
        """One POST, redirects not followed."""
        if self._http is None:
            self._http = httpx.AsyncClient(timeout=self._timeout_s, follow_redirects=False)
        body: dict[str, Any] = {"text": text_of(change)} | change.model_dump(mode="json", exclude_none=True)
        try:
            # httpx limits each wait, not their sum: an answer that trickles in must not outlast the consumer's patience.
            async with asyncio.timeout(self._timeout_s):
                answer = await self._http.post(self._url, json=body, headers={"Idempotency-Key": change.change_id})
        except (httpx.HTTPError, TimeoutError) as error:
            # The message of the error may hold the address, which is a secret.
            return Away(type(error).__name__)
        return of_status(answer.status_code, answer.headers.get("Retry-After"), datetime.now(UTC))

    async def close(self) -> None:
        """Closes connections."""
        http, self._http = self._http, None
        if http is not None:
            await http.aclose()
