"""Finding NATS and talking to it: ``NATS_URL``, else the running system of the data directory, else the usual port."""

import asyncio
import os
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from nats.aio.client import Client
from pydantic import SecretStr

from agent_manager.cli import running
from agent_manager.cli.failure import CommandFailedError
from schemas.ids import is_token
from service import logs
from streams.connect import CannotConnectError, connect
from streams.settings import NatsSettings

OPERATOR: Final = "operator"
PATIENCE_S: Final = 4.0
_GUESSED_S: Final = 0.5
"""An address nobody named is worth one try."""

Answer = TypeVar("Answer")


def data_directory(given: Path | None) -> Path:
    """``--data``, else ``AGENTOPS_DATA``, else ``./data``."""
    return given or Path(os.environ.get("AGENTOPS_DATA") or "data")


@dataclass(frozen=True, slots=True)
class Place:
    """Where NATS is, who we are there, and how that is known."""

    settings: NatsSettings
    source: str
    endpoints: running.Endpoints | None
    data: Path

    @property
    def guessed(self) -> bool:
        """Whether neither NATS_URL nor a running system told the address."""
        return self.endpoints is None and self.source != "NATS_URL"

    @property
    def user(self) -> str:
        """The user token of our commands: the server lets us publish under no other."""
        user = self.settings.user
        return user if user is not None and is_token(user) else OPERATOR


def find(data: Path | None, environment: Mapping[str, str]) -> Place:
    """Where to connect; raises CommandFailedError when ``up.json`` cannot be read."""
    directory = data_directory(data)
    try:
        endpoints = running.read(directory)
    except PermissionError as error:
        raise CommandFailedError(f"{error.filename} may not be read", "Run as the user who started `agentops up`") from error
    except running.UnreadableError as error:
        raise CommandFailedError(
            f"{directory / running.FILE} is damaged ({error})",
            "Restart `agentops up`, or set NATS_URL, NATS_USER and NATS_PASSWORD",
        ) from error
    if environment.get("NATS_URL"):
        return Place(NatsSettings(), "NATS_URL", endpoints, directory)
    if endpoints is not None and running.alive(endpoints.pid):
        login = endpoints.users.get(OPERATOR)
        settings = NatsSettings(
            url=endpoints.nats_url,
            user=login.user if login else None,
            password=SecretStr(login.password) if login else None,
        )
        return Place(settings, str(directory / running.FILE), endpoints, directory)
    return Place(NatsSettings(), "the default address", None, directory)


def _not_reached(place: Place, error: CannotConnectError) -> CommandFailedError:
    refused = "authorization" in str(error).lower()
    settings = place.settings
    if (unreadable := settings.unreadable()) is not None:
        return CommandFailedError(unreadable, "Give the path of one that can be read, or unset the variable")
    if isinstance(why := error.__cause__, ssl.SSLError):
        told = why.verify_message if isinstance(why, ssl.SSLCertVerificationError) else str(why)
        return CommandFailedError(
            f"NATS at {settings.shown_url()} is not trusted: {told}", "Set NATS_TLS_CA to the certificate of whom to trust"
        )
    if place.source == "NATS_URL":
        login = "NATS_USER and NATS_PASSWORD"
        if settings.token is not None or settings.credentials is not None:
            login = "NATS_TOKEN" if settings.token is not None else "NATS_CREDENTIALS"
        advice = f"Check {login}" if refused else "Check NATS_URL, and that the server runs"
        return CommandFailedError(
            f"NATS at {place.settings.shown_url()} (from NATS_URL) {'refused the login' if refused else 'does not answer'}",
            advice,
        )
    if place.endpoints is not None:
        return CommandFailedError(
            f"NATS at {place.settings.shown_url()} (from {place.source}) {'refused the login' if refused else 'does not answer'}",
            f"See {place.data / 'logs'} and {place.data / 'nats' / 'nats-server.log'}, or restart `agentops up`",
        )
    return CommandFailedError(
        f"no running system: {(place.data / running.FILE).absolute()} names none and NATS at {place.settings.shown_url()} {'refused us' if refused else 'does not answer'}",
        "Start one with `agentops up`, name its data directory with --data, or set NATS_URL (and NATS_USER, NATS_PASSWORD)",
    )


@asynccontextmanager
async def connected(place: Place, on_disconnect: Callable[[], None] | None = None) -> AsyncIterator[Client]:
    """A connection, closed afterwards; raises CommandFailedError with what to do."""
    try:
        patience_s = _GUESSED_S if place.guessed else PATIENCE_S
        client = await connect(place.settings, "agentops-cli", patience_s=patience_s, on_disconnect=on_disconnect)
    except CannotConnectError as error:
        raise _not_reached(place, error) from error
    try:
        yield client
    finally:
        try:
            async with asyncio.timeout(3):
                await client.close()
        except TimeoutError:
            pass


def run(
    data: Path | None, work: Callable[[Client, Place], Awaitable[Answer]], on_disconnect: Callable[[], None] | None = None
) -> Answer:
    """Connects, does ``work``, disconnects; ``on_disconnect`` hears that the connection was lost, before it is tried again."""
    logs.configure("agentops", level=os.environ.get("AGENTOPS_LOG_LEVEL", "ERROR"))
    place = find(data, os.environ)

    async def whole() -> Answer:
        async with connected(place, on_disconnect) as client:
            return await work(client, place)

    return asyncio.run(whole())
