"""One API, put together: keys, the fleet, the web server, NATS."""

import asyncio
import socket
from contextlib import AsyncExitStack, nullcontext
from typing import Final

import httpx
import structlog
import uvicorn

from agent_manager.api.application import application
from agent_manager.api.callers import Callers
from agent_manager.api.desk import Desk
from agent_manager.api.fleet import FleetWatch
from agent_manager.api.listening import Attentive
from agent_manager.api.oidc import Provider
from agent_manager.api.settings import ApiSettings
from schemas.keys import PEOPLE
from service.patience import Patience, patient
from service.running import end
from service.signals import stop_event
from streams.api_keys import KeyRing, KeyWatch
from streams.settings import NatsSettings
from streams.waiting import Nats

log = structlog.get_logger(__name__)

_STOP_S: Final = 2
"""Requests under way are finished within so long; live streams just end, and their readers come again."""
_BACKLOG: Final = 256


class CannotServeError(RuntimeError):
    """The API could not begin. The message says why and what to do."""


def _listen(settings: ApiSettings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    found = socket.socket(family, socket.SOCK_STREAM)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind((settings.host, settings.port))
        found.listen(_BACKLOG)
    except OSError as error:
        found.close()
        raise CannotServeError(
            f"cannot listen on {settings.host}:{settings.port} ({error.strerror}): stop what listens there, or choose another "
            "with --port (0 takes a free one)"
        ) from error
    return found


async def serve(settings: ApiSettings, nats_settings: NatsSettings) -> bool:
    """Runs an API until SIGTERM or SIGINT; whether that was why it ended. Raises CannotServeError."""
    until = stop_event()
    ring, fleet, nats = KeyRing(PEOPLE), FleetWatch(), Nats(nats_settings, "api")
    desk = Desk(fleet)

    def waiting_for() -> dict[str, str]:
        missing = dict.fromkeys(fleet.unread, "not read yet")
        if nats.client is None:
            missing["nats"] = "not connected; what needs it is answered 503"
        if not ring.read:
            missing["keys"] = "not read yet"
        return missing

    async def follow() -> None:
        client = desk.client = await nats.connect()
        async with asyncio.TaskGroup() as group:
            group.create_task(KeyWatch(ring).run(client), name="keys-follow")
            group.create_task(fleet.run(client), name="fleet-follow")

    listening = _listen(settings)
    async with AsyncExitStack() as stack:
        provider = None
        if settings.oidc_issuer is not None:
            provider = Provider(settings, await stack.enter_async_context(httpx.AsyncClient()))
        app = application(settings, Callers(ring, provider), desk, waiting_for)
        config = uvicorn.Config(
            Attentive(app, settings.body_s),
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
        serving = asyncio.create_task(server.serve(sockets=[listening]), name="web server")
        following = asyncio.create_task(follow(), name="keys and fleet")
        waiting = asyncio.create_task(until.wait(), name="stop")
        scheme = "https" if settings.tls_certificate else "http"
        log.info("api.started", url=f"{scheme}://{settings.host}:{listening.getsockname()[1]}", oidc=settings.oidc_issuer)
        done, _ = await asyncio.wait({serving, following, waiting}, return_when=asyncio.FIRST_COMPLETED)
        server.should_exit = True
        await asyncio.wait({serving}, timeout=_STOP_S + 1)
        await end([serving, following, waiting], 1.0)
        await nats.close()
    if waiting not in done:
        log.error("api.task_died", tasks=sorted(task.get_name() for task in done))
        return False
    log.info("api.stopped")
    return True
