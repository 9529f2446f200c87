"""OTLP at a gateway: the doors of ``sidecar.otlp`` on the standard ports, behind the same keys.

A port that nobody asked for by name and that is taken is left out with a warning: the other doors are of use without it.
"""

import math
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

import structlog

from service.instruments import GATEWAY_KEYS_REFUSED
from sidecar.gateway.publishing import PublishingIntake
from sidecar.gateway.rates import Rates, Wait
from sidecar.gateway.settings import GatewaySettings
from sidecar.listener import CannotStartError, Listener
from sidecar.otlp.doors import OtlpDoors
from sidecar.otlp.sources import Refused, Source, attributed
from sidecar.patience import Patience
from streams.api_keys import KeyRing, Known, presented

log = structlog.get_logger(__name__)

_AGAIN_S: Final = 1.0


def source(ring: KeyRing, rates: Rates, headers: Mapping[str, str], now: datetime, at: float) -> Source | Refused:
    """Whose spans a request brings, by its key. Who owes the rate something is not read at all; ``admission`` counts what was read."""
    if not ring.read:
        return Refused(503, "keys are not known yet: send it again later", _AGAIN_S)
    found = ring.judge(presented(headers.get("authorization"), headers.get("x-api-key")), now)
    if not isinstance(found, Known):
        GATEWAY_KEYS_REFUSED.labels(found.reason).inc()
        return Refused(401, "send a good API key: OTEL_EXPORTER_OTLP_HEADERS=x-api-key=…")
    key = found.key
    if len(key.agents) > 1:
        return Refused(403, "a key for several agents cannot tell whose spans these are: use one key for each agent")
    if (refused := _waits(rates, key.tenant_id, 0, at)) is not None:
        return replace(refused, reason=f"{refused.reason}: send it again later")
    return attributed(Source(key.tenant_id, key.agents[0] if key.agents else None), headers)


def _waits(rates: Rates, tenant: str, items: int, at: float) -> Refused | None:
    waiting = rates.take(tenant, items, at)
    if isinstance(waiting, Wait):
        return Refused(429, "too much of this tenant at once", float(math.ceil(waiting.seconds)))
    return None


def admission(rates: Rates, of: Source, items: int, at: float) -> Refused | None:
    """Whether a request of so many spans, records or points may be kept: each is an event of its tenant's rate."""
    return _waits(rates, of.tenant, max(1, items), at)


class GatewayOtlp:
    """Both OTLP doors of a gateway."""

    def __init__(self, settings: GatewaySettings, ring: KeyRing, rates: Rates, intake: PublishingIntake) -> None:
        self._settings = settings
        self._doors = OtlpDoors(
            intake, lambda headers: source(ring, rates, headers, datetime.now(UTC), time.monotonic()),
            most_bytes_in_work=settings.held_bytes, admit=lambda of, items: admission(rates, of, items, time.monotonic()),
        )  # fmt: skip
        self._listener: Listener | None = None
        self.ports: dict[str, int] = {}
        """Where they listen."""

    async def start(self) -> None:
        """Those that are wanted listen; raises CannotStartError for a port that was asked for and is taken."""
        settings = self._settings
        if settings.otlp_port is not None:
            bears = Patience(settings.max_connections, settings.head_s)
            listener = Listener(
                self._doors.application(),
                settings.host,
                settings.otlp_port,
                "OTLP door",
                bears=bears,
                keepalive_timeout=settings.idle_s,
            )
            try:
                await listener.start()
            except CannotStartError as error:
                self._left_out("otlp_port", error)
            else:
                self._listener = listener
                self.ports["otlp_port"] = listener.port
        if settings.otlp_grpc_port is not None:
            try:
                self.ports["otlp_grpc_port"] = await self._doors.open_grpc(settings.host, settings.otlp_grpc_port)
            except CannotStartError as error:
                self._left_out("otlp_grpc_port", error)

    def _left_out(self, name: str, error: CannotStartError) -> None:
        if name in self._settings.model_fields_set:
            raise error
        log.warning("gateway.otlp_left_out", setting=name, error=str(error))

    async def stop(self) -> None:
        """Closes."""
        if self._listener is not None:
            await self._listener.stop()
        await self._doors.close()
