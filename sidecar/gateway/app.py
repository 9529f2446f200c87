"""One gateway, put together: keys, doors, the web server, NATS."""

import asyncio
import socket
from contextlib import nullcontext
from typing import Final

import structlog
import uvicorn

from service.bodies import Holding
from service.patience import Patience, patient
from service.signals import stop_event
from sidecar.content import IN_FORCE, NATS
from sidecar.gateway.application import application
from sidecar.gateway.doors import Doors
from sidecar.gateway.otlp import GatewayOtlp
from sidecar.gateway.publishing import PublishingIntake
from sidecar.gateway.rates import Rates
from sidecar.gateway.settings import GatewaySettings
from sidecar.listener import CannotStartError
from streams.api_keys import KeyRing, KeyWatch
from streams.content import PolicyWatch
from streams.settings import NatsSettings
from streams.waiting import Nats

log = structlog.get_logger(__name__)

_STOP_S: Final = 5
"""Requests under way are finished within so long."""
_BACKLOG: Final = 256


def _listen(settings: GatewaySettings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    found = socket.socket(family, socket.SOCK_STREAM)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind((settings.host, settings.port))
        found.listen(_BACKLOG)
    except OSError as error:
        found.close()
        raise CannotStartError(
            f"cannot listen on {settings.host}:{settings.port} ({error.strerror}): stop what listens there, or choose another "
            "with --port (0 takes a free one)"
        ) from error
    return found


class Gateway:
    """``serve`` until it is time."""

    def __init__(self, settings: GatewaySettings, nats_settings: NatsSettings) -> None:
        self._settings = settings
        self.ring = KeyRing()
        self._nats = Nats(nats_settings, "gateway")
        self.intake = PublishingIntake(self._nats, settings.stored_s)
        rates = Rates(settings.events_per_s)
        self._doors = Doors(self.ring, self.intake, rates, Holding(settings.held_bytes), body_s=settings.body_s)
        self._otlp = GatewayOtlp(settings, self.ring, rates, self.intake)

    def _waiting_for(self) -> dict[str, str]:
        missing = {}
        if self._nats.client is None:
            missing["nats"] = "not connected; senders are answered 503 and keep their events"
        if not self.ring.read:
            missing["keys"] = "not read yet"
        return missing

    async def _follow(self) -> None:
        client = await self._nats.connect()
        NATS.there = lambda: self._nats.client is not None
        policies = PolicyWatch(IN_FORCE)
        async with asyncio.TaskGroup() as group:
            group.create_task(policies.run(client), name="content-follow")
            # Nobody is let in before it is known what may be kept of what they send.
            await policies.known.wait()
            group.create_task(KeyWatch(self.ring).run(client), name="keys-follow")

    async def serve(self, until: asyncio.Event) -> str | None:
        """Serves until asked to stop: returns None, else what died. Raises CannotStartError."""
        settings = self._settings
        listening = _listen(settings)
        try:
            await self._otlp.start()
        except CannotStartError:
            await self._otlp.stop()
            listening.close()
            raise
        port: int = listening.getsockname()[1]
        config = uvicorn.Config(
            application(self._doors, self._waiting_for),
            http=patient(Patience(settings.max_connections, settings.head_s)),
            ws="none",
            loop="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            timeout_keep_alive=max(1, round(settings.idle_s)),
            timeout_graceful_shutdown=_STOP_S,
            ssl_certfile=settings.tls_certificate,
            ssl_keyfile=settings.tls_key,
        )
        server = uvicorn.Server(config)
        # Uvicorn raises the signal it was stopped by once more at the end: a stop that was asked for would look like a crash.
        server.capture_signals = nullcontext  # type: ignore[method-assign, assignment]
        serving = asyncio.create_task(server.serve(sockets=[listening]), name="doors")
        following = asyncio.create_task(self._follow(), name="keys and policies")
        waiting = asyncio.create_task(until.wait(), name="stop")
        scheme = "https" if settings.tls_certificate else "http"
        log.info("gateway.started", url=f"{scheme}://{settings.host}:{port}", **self._otlp.ports)
        done, _ = await asyncio.wait({serving, following, waiting}, return_when=asyncio.FIRST_COMPLETED)
        died = None if waiting in done else ", ".join(task.get_name() for task in done)
        server.should_exit = True
        await asyncio.gather(serving, return_exceptions=True)
        await self._otlp.stop()
        for task in (following, waiting):
            task.cancel()
        await asyncio.gather(following, waiting, return_exceptions=True)
        await self._nats.close()
        log.info("gateway.stopped")
        return died


async def serve(settings: GatewaySettings, nats_settings: NatsSettings) -> bool:
    """Runs a gateway until SIGTERM or SIGINT; whether that was why it ended. Raises CannotStartError."""
    died = await Gateway(settings, nats_settings).serve(stop_event())
    if died is not None:
        log.error("gateway.task_died", task=died)
    return died is None
