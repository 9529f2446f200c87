"""Both doors over one receiver, to be mounted by whoever has an intake: a sidecar, or a gateway for many agents."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from aiohttp import web

from sidecar.intake import Intake
from sidecar.otlp.bodies import MOST_BYTES, READ_S
from sidecar.otlp.http_door import HttpDoor
from sidecar.otlp.receiving import MOST_BYTES_IN_WORK, Admission, Receiver
from sidecar.otlp.sources import Sources
from sidecar.otlp.wrapping import MOST_SPANS

if TYPE_CHECKING:
    from sidecar.otlp.grpc_door import GrpcDoor

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
        most_bytes_in_work: int = MOST_BYTES_IN_WORK,
        most_spans: int = MOST_SPANS,
        read_s: float = READ_S,
        admit: Admission | None = None,
    ) -> None:
        limits = {} if admit is None else {"admit": admit}
        self._receiver = Receiver(intake, now=now, most_bytes=most_bytes_in_work, most_spans=most_spans, **limits)
        self._sources = sources
        self._grpc: GrpcDoor | None = None
        self._http = HttpDoor(self._receiver, sources, most_bytes=most_bytes, read_s=read_s)

    def routes(self) -> list[web.RouteDef]:
        """OTLP/HTTP, to be mounted beside other routes."""
        return self._http.routes()

    def application(self) -> web.Application:
        """OTLP/HTTP alone, for a port of its own."""
        application = web.Application()
        application.add_routes(self.routes())
        return application

    async def open_grpc(self, host: str, port: int = GRPC_PORT) -> int:
        """OTLP/gRPC listens on ``port``, 0 a free one; returns which. Raises CannotStartError."""
        # Its library takes 20 MB, for those alone who open this door.
        from sidecar.otlp.grpc_door import GrpcDoor  # noqa: PLC0415

        self._grpc = GrpcDoor(self._receiver, self._sources)
        return await self._grpc.start(host, port)

    async def close(self) -> None:
        """Closes the gRPC door, if it is open; routes close with the application they are mounted in."""
        if self._grpc is not None:
            await self._grpc.stop()
            self._grpc = None
