"""The web application: pages, health, metrics, and the guard in front."""

import asyncio
import gc
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import structlog
from fastapi import FastAPI
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import JSONResponse, Response
from starlette.staticfiles import StaticFiles

from dashboard.hub.hub import Hub
from dashboard.serving import assets
from dashboard.serving.guard import Guard
from dashboard.serving.login import Login
from dashboard.serving.mount import mount
from dashboard.settings import LOOPBACK, DashboardSettings
from dashboard.views.session import PageSession
from service.instruments import LOOP_ERRORS, REGISTRY
from streams.settings import NatsSettings

log = structlog.get_logger(__name__)


def hosts(settings: DashboardSettings, port: int) -> frozenset[str]:
    """The names the page answers to: its own on loopback, with those of proxies; empty where any will do."""
    named = {name.strip().lower() for name in settings.origins.split(",") if name.strip()}
    if settings.host not in LOOPBACK:
        return frozenset(named)
    return frozenset(named | {f"127.0.0.1:{port}", f"localhost:{port}", f"[::1]:{port}"})


def build(settings: DashboardSettings, nats: NatsSettings, port: int) -> Any:
    """The ASGI application; its lifespan runs the hub."""
    # Anything else would fetch from other machines; Bokeh reads it at each page.
    os.environ["BOKEH_RESOURCES"] = "server"
    hub = Hub(nats, settings.audit_every_s)
    where = assets.address()
    login = Login(settings.password.get_secret_value() if settings.password else None, where)

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        running = asyncio.create_task(hub.run(), name="dashboard-hub")

        def ended(task: asyncio.Task[None]) -> None:
            if not task.cancelled():
                LOOP_ERRORS.labels("dashboard-hub").inc()
                log.critical("hub.ended", error=repr(task.exception()))

        running.add_done_callback(ended)
        # What Panel and Bokeh made while loading stays for ever: collections need not look at it again.
        gc.collect()
        gc.freeze()
        yield
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    async def healthz() -> JSONResponse:
        return JSONResponse({"service": "dashboard", "status": "ok"})

    async def readyz() -> JSONResponse:
        missing = hub.waiting_for()
        told = {"service": "dashboard", "status": "not ready" if missing else "ready", "waiting_for": missing}
        return JSONResponse(told, 503 if missing else 200)

    async def metrics() -> Response:
        return Response(generate_latest(REGISTRY), media_type=CONTENT_TYPE_LATEST)

    app = FastAPI(lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    for path, answer in (("/healthz", healthz), ("/readyz", readyz), ("/metrics", metrics)):
        app.add_api_route(path, answer, methods=["GET"])
    app.add_route("/login", login.show, methods=["GET"])
    app.add_route("/login", login.take, methods=["POST"])
    app.mount(where, StaticFiles(directory=assets.DIRECTORY), name="assets")
    mount(app, lambda: PageSession(hub, where, settings.user).view(), settings.unused_s)
    app.add_middleware(GZipMiddleware, minimum_size=1024, compresslevel=5)
    return Guard(app, hosts(settings, port), login.logged_in, settings.tabs)
