"""The dashboard's process: hub, page and web server in one event loop."""

import argparse
import asyncio
import socket
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Final

import structlog

from dashboard.settings import LOOPBACK, DashboardSettings
from service import logs
from service.running import run
from service.signals import stop_event
from streams.settings import NatsSettings

if TYPE_CHECKING:
    import uvicorn

log = structlog.get_logger(__name__)

STOP_S: Final = 2
"""Open tabs are closed after so long at the latest."""


class CannotServeError(RuntimeError):
    """The dashboard cannot begin. The message says why and what to do."""


def listen(host: str, port: int) -> socket.socket:
    """A socket listening on ``host``:``port``; raises CannotServeError where that is not to be had."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    found = socket.socket(family, socket.SOCK_STREAM)
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        found.bind((host, port))
        found.listen(128)
    except OSError as error:
        found.close()
        msg = f"cannot listen on {host}:{port}: {error.strerror}. Is another dashboard running? Choose another with --port (0 takes any free one)."
        raise CannotServeError(msg) from error
    return found


async def _until_stopped(server: "uvicorn.Server", listening: socket.socket) -> None:
    # Uvicorn raises the signal it was stopped by once more at the end: a stop that was asked for would look like a crash.
    server.capture_signals = nullcontext  # type: ignore[method-assign, assignment]
    asked = stop_event()
    serving = asyncio.create_task(server.serve(sockets=[listening]), name="uvicorn")
    asking = asyncio.create_task(asked.wait(), name="stop")
    await asyncio.wait({serving, asking}, return_when=asyncio.FIRST_COMPLETED)
    asking.cancel()
    server.should_exit = True
    await serving


async def serve(settings: DashboardSettings, nats: NatsSettings) -> None:
    """Serves until SIGTERM or SIGINT; raises CannotServeError when it cannot begin."""
    if settings.host not in LOOPBACK and settings.password is None and not settings.open:
        msg = (
            f"refusing to show the fleet to everybody who reaches {settings.host}: set AGENTOPS_DASHBOARD_PASSWORD, "
            "or AGENTOPS_DASHBOARD_OPEN=true if something in front asks for a login."
        )
        raise CannotServeError(msg)
    listening = listen(settings.host, settings.port)
    port: int = listening.getsockname()[1]
    # Loaded here, so that --help and a taken port do not wait for Panel.
    import uvicorn  # noqa: PLC0415

    from dashboard.serving.web import build  # noqa: PLC0415

    config = uvicorn.Config(
        build(settings, nats, port),
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=STOP_S,
        ws_max_size=256 * 1024,
        # Frames are small and mostly cross loopback: squeezing each for each tab costs more than it saves.
        ws_per_message_deflate=False,
    )
    shown = f"[{settings.host}]" if ":" in settings.host else settings.host
    log.info("dashboard.listening", url=f"http://{shown}:{port}/")
    try:
        await _until_stopped(uvicorn.Server(config), listening)
    finally:
        listening.close()
    log.info("dashboard.stopped")


def main(arguments: Sequence[str] | None = None) -> int:
    """``python -m dashboard``; returns the exit code."""
    settings = DashboardSettings()
    parser = argparse.ArgumentParser(prog="python -m dashboard", description="The live page of the fleet.")
    parser.add_argument("--host", default=settings.host, help="where to listen (default %(default)s)")
    parser.add_argument("--port", type=int, default=settings.port, help="0 takes any free one (default %(default)s)")
    parser.add_argument("--data", default=None, help="the system's data directory; the dashboard itself keeps nothing")
    given = parser.parse_args(arguments)
    logs.configure("dashboard")
    try:
        run(serve(settings.model_copy(update={"host": given.host, "port": given.port}), NatsSettings()))
    except CannotServeError as error:
        print(f"dashboard: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0
    return 0
