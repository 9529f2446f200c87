"""The health door of a service: ``/healthz`` (alive), ``/readyz`` (doing its work), ``/metrics`` (Prometheus)."""

from collections.abc import Callable
from dataclasses import dataclass, field

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from service.instruments import REGISTRY

Readiness = Callable[[], dict[str, str]]
"""What keeps the service from its work, by part; empty when ready."""


def _nothing() -> dict[str, str]:
    return {}


def readiness_answer(service: str, missing: dict[str, str]) -> tuple[int, dict[str, object]]:
    """Status and body of ``/readyz``."""
    return (
        503 if missing else 200,
        {"service": service, "status": "not ready" if missing else "ready", "waiting_for": missing},
    )


@dataclass(slots=True)
class HealthDoor:
    """A small HTTP server on loopback unless told otherwise. Port 0 takes any free one."""

    service: str
    readiness: Readiness = _nothing
    host: str = "127.0.0.1"
    port: int = 0
    standing: Readiness = _nothing
    """How its parts stand while they are ready: an instance that waits to take over is well, and says so here."""
    _runner: web.AppRunner | None = field(default=None, init=False)

    def routes(self) -> list[web.RouteDef]:
        """The three routes, to be mounted in an application of the service's own."""
        return [web.get("/healthz", self._healthz), web.get("/readyz", self._readyz), web.get("/metrics", self._metrics)]

    async def start(self) -> int:
        """Opens the door; returns the port. Raises OSError when the port is taken."""
        app = web.Application()
        app.add_routes(self.routes())
        self._runner = web.AppRunner(app, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, self.host, self.port)
        await site.start()
        address = self._runner.addresses[0]
        self.port = int(address[1])
        return self.port

    async def stop(self) -> None:
        """Closes the door."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _healthz(self, _: web.Request) -> web.Response:
        return web.json_response({"service": self.service, "status": "ok"})

    async def _readyz(self, _: web.Request) -> web.Response:
        status, body = readiness_answer(self.service, self.readiness())
        standing = self.standing()
        if standing:
            body["standing"] = standing
        return web.json_response(body, status=status)

    async def _metrics(self, _: web.Request) -> web.Response:
        return web.Response(body=generate_latest(REGISTRY), headers={"Content-Type": CONTENT_TYPE_LATEST})
