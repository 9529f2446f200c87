"""OTLP over gRPC: ``Export`` of the three services.

OK: kept; of a partial success how many items can never be events, and why. INVALID_ARGUMENT: no request; UNAUTHENTICATED,
PERMISSION_DENIED: the sender may not. UNAVAILABLE, and RESOURCE_EXHAUSTED where it says when, with ``RetryInfo``: send all of
it again. Without it RESOURCE_EXHAUSTED means too large.

Fullness: at most 64 calls at once, each of at most 4 MiB; one more is refused.
"""

from math import ceil
from typing import Any, Final, NoReturn

import grpc
import grpc.aio
import structlog

from privacy.redaction import Tally, redact
from privacy.rules import STRICTEST
from service.instruments import OTLP_REQUESTS
from sidecar.listener import CannotStartError
from sidecar.otlp import wire
from sidecar.otlp.bodies import UnreadableError
from sidecar.otlp.receiving import RETRY_S, Busy, NoRoomError, Receiver, Taken
from sidecar.otlp.rpc_status import CODES, rpc_status
from sidecar.otlp.signals import SIGNALS, Signal
from sidecar.otlp.sources import Refused, Source, Sources

log = structlog.get_logger(__name__)

MOST_BYTES: Final = 4 * 1024 * 1024
"""As gRPC's own default and the OpenTelemetry collector's."""
MOST_CALLS: Final = 64
_DETAILS: Final = "grpc-status-details-bin"
_STATUS: Final = {code.value[0]: code for code in grpc.StatusCode}
_Context = grpc.aio.ServicerContext[Any, Any]


class GrpcDoor:
    """One port."""

    def __init__(
        self, receiver: Receiver, sources: Sources, *, most_bytes: int = MOST_BYTES, most_calls: int = MOST_CALLS
    ) -> None:
        self._receiver = receiver
        self._sources = sources
        self._most_bytes = most_bytes
        self._most_calls = most_calls
        self._server: grpc.aio.Server | None = None

    async def start(self, host: str, port: int) -> int:
        """Listens; returns the port. Raises CannotStartError."""
        self._server = grpc.aio.server(
            maximum_concurrent_rpcs=self._most_calls,
            options=[
                ("grpc.max_receive_message_length", self._most_bytes),
                # Two processes on one port would share the spans between them.
                ("grpc.so_reuseport", 0),
                ("grpc.max_metadata_size", 16 * 1024),
            ],
        )
        self._server.add_generic_rpc_handlers(
            [
                grpc.method_handlers_generic_handler(
                    wire.SERVICES[signal], {"Export": grpc.unary_unary_rpc_method_handler(self._export(signal))}
                )
                for signal in SIGNALS
            ]
        )
        try:
            bound = self._server.add_insecure_port(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
            await self._server.start()
        except RuntimeError as error:
            raise CannotStartError(
                f"cannot listen on {host}:{port} for OTLP over gRPC: stop what listens there, or choose another port"
            ) from error
        return bound

    async def stop(self) -> None:
        """Closes; calls in work may end within a second."""
        if self._server is not None:
            await self._server.stop(1.0)
            self._server = None

    def _export(self, signal: Signal) -> Any:
        async def export(body: bytes, context: _Context) -> bytes:
            source = self._sources({name.lower(): str(value) for name, value in context.invocation_metadata() or ()})
            if isinstance(source, Refused):
                await self._refuse(signal, context, CODES.get(source.status, 7), source.reason, source.retry_after_s)
            try:
                with self._receiver.room() as room:
                    room.grow(len(body))
                    with self._receiver.arrival(source, signal, body) as arrival:
                        outcome = await self._take(signal, source, body, arrival.at)
                        arrival.answered = isinstance(outcome, Taken) and not context.cancelled()
            except NoRoomError as error:
                await self._refuse(signal, context, CODES[503], f"{error}: send it again later", RETRY_S)
            except UnreadableError as error:
                log.info("otlp.unreadable", signal=signal, media="grpc", error=redact(str(error), STRICTEST, Tally()))
                await self._refuse(signal, context, CODES[400], str(error))
            if isinstance(outcome, Busy):
                again = f"{outcome.reason}: send it again later"
                await self._refuse(signal, context, CODES[outcome.status], again, outcome.retry_after_s)
            OTLP_REQUESTS.labels("grpc", signal, "OK").inc()
            return wire.answer(signal, outcome.rejected, outcome.message)

        return export

    async def _take(self, signal: Signal, source: Source, body: bytes, at: int) -> Taken | Busy:
        match signal:
            case "traces":
                return await self._receiver.traces(source, wire.traces(body), at)
            case "logs":
                return await self._receiver.logs(source, wire.logs(body), at)
            case "metrics":
                return await self._receiver.metrics(source, wire.metrics(body), at)

    @staticmethod
    async def _refuse(signal: Signal, context: _Context, code: int, message: str, retry_after_s: float | None = None) -> NoReturn:
        status = _STATUS.get(code, grpc.StatusCode.UNKNOWN)
        OTLP_REQUESTS.labels("grpc", signal, status.name).inc()
        retry = None if retry_after_s is None else max(1, ceil(retry_after_s))
        trailing = ((_DETAILS, rpc_status(code, message, retry)),)
        await context.abort(status, message, trailing)
        raise AssertionError("abort raises")
