"""Both doors over one receiver, to be mounted by whoever has an intake: a sidecar, or a gateway for many agents."""

import time
from collections.abc import Callable

from aiohttp import web

from sidecar.intake import Intake
from sidecar.otlp.bodies import MOST_BYTES, READ_S
from sidecar.otlp.http_door import HttpDoor
from sidecar.otlp.receiving import Receiver
from sidecar.otlp.sources import Sources
from sidecar.otlp.wrapping import MOST_SPANS

HTTP_PORT = 4318
GRPC_PORT = 4317
"""Where exporters look when nobody tells them otherwise."""


class OtlpDoors:
    """What is accepted goes to ``intake``; ``sources`` says whose it is, by the headers."""

    def __init__(
        self,
        intake: Intake,
        sources: Sources,
        *,
        now: Callable[[], int] = time.time_ns,
        most_bytes: int = MOST_BYTES,
        most_spans: int = MOST_SPANS,
        read_s: float = READ_S,
    ) -> None:
        self._receiver = Receiver(intake, now=now, most_spans=most_spans)
        self._sources = sources
        self._http = HttpDoor(self._receiver, sources, most_bytes=most_bytes, read_s=read_s)

    def routes(self) -> list[web.RouteDef]:
        """OTLP/HTTP, to be mounted beside other routes."""
        return self._http.routes()

    def application(self) -> web.Application:
        """OTLP/HTTP alone, for a port of its own."""
        application = web.Application()
        application.add_routes(self.routes())
        return application
