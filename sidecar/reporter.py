"""Says how the agent is: by events, on the documented agent topics, and when asked."""

import asyncio
import os
import secrets
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Literal
from uuid import UUID

import structlog
from pydantic import JsonValue

from schemas.ids import uuid7
from schemas.sections import AgentStatus, Metrics
from sidecar import reports
from sidecar.agent import Agent
from sidecar.control import AgentTopics
from sidecar.enforcement import Enforcer
from sidecar.probing import Prober
from sidecar.progress import Progress
from sidecar.proxy import Proxy
from sidecar.sampling import Sampler
from sidecar.shipping import Shipper
from streams.waiting import Nats

log = structlog.get_logger(__name__)

_LOOK_S = 0.5
"""How often failed requests are looked for."""


def _new_id() -> UUID:
    return uuid7(time.time_ns() // 1_000_000, secrets.randbits(74))


class Reporter:
    """Reads the parts and tells; changes none of them."""

    def __init__(
        self,
        identity: reports.Identity,
        agent: Agent,
        prober: Prober,
        proxy: Proxy,
        enforcer: Enforcer,
        shipper: Shipper,
        nats: Nats,
        progress: Progress,
        *,
        heartbeat_s: float,
        door_url: Callable[[], str],
    ) -> None:
        self._identity = identity
        self._agent = agent
        self._prober = prober
        self._proxy = proxy
        self._enforcer = enforcer
        self._shipper = shipper
        self._progress = progress
        self._served = False
        """Whether requests ever came through the proxy: then those under way are its work."""
        self._heartbeat_s = heartbeat_s
        self._door_url = door_url
        self._sampler = Sampler()
        self._told: tuple[str, str] | None = None
        self._telling: set[asyncio.Task[None]] = set()
        self.topics = AgentTopics(nats, identity.agent_id, self.status)

    def agent_status(self) -> AgentStatus:
        """Where the agent is in its life."""
        ended = self._agent.ended
        if ended is not None:
            return "stopped" if ended.clean else "error"
        return "starting" if self._prober.health(None).starting else "running"

    def status(self) -> dict[str, Any]:
        """What is known at this moment, for ``agent.<id>.query``."""
        ended = self._agent.ended
        health = self._prober.health(None if ended is None else ended.how)
        traffic = self._proxy.traffic()
        return {
            "status": self.agent_status(),
            "health": health.status,
            "reason": health.reason,
            "pid": self._agent.pid(),
            "sidecar_pid": os.getpid(),
            "name": self._identity.name,
            "version": self._identity.version,
            "proxy_url": self._identity.proxy_url,
            "door_url": self._door_url(),
            "checks": [check.model_dump(mode="json", exclude_none=True) for check in self._prober.checks()],
            "faults": [item.fault.model_dump(mode="json", exclude_none=True) for item in self._enforcer.active],
            "requests": traffic.requests,
            "latency_ms": traffic.latency_ms,
            "error_rate": traffic.error_rate,
            "spool_bytes": self._shipper.waiting_bytes,
            "spool_dropped": self._shipper.dropped,
            "started_at": None if self._agent.started_at is None else self._agent.started_at.isoformat(),
        }

    def agent_event(
        self,
        kind: Literal["agent.started", "agent.stopped"],
        status: AgentStatus,
        reason: str | None = None,
        *,
        mark: str | None = None,
    ) -> None:
        """The agent began or ended; ``mark`` names an attribute that is true of it."""
        section = self._identity.agent(
            status, pid=self._agent.last_pid, started_at=self._agent.started_at, ended=self._agent.ended, reason=reason
        )
        attributes: dict[str, JsonValue] | None = None if mark is None else {mark: True}
        event = self._identity.event(kind, _new_id(), datetime.now(UTC), agent=section, attributes=attributes)
        log.info(kind, event_id=str(event.event_id), pid=section.pid, exit_code=section.exit_code, signal=section.signal)
        self._shipper.report(event)

    def beat(self) -> None:
        """A heartbeat, unless the agent has none: it ended well, or is being stopped, which is reported by itself."""
        if "heartbeat_loss" in self._enforcer.kinds():
            return
        ended = self._agent.ended
        if self._agent.stopping or (ended is not None and ended.clean):
            return
        at = datetime.now(UTC)
        found = self._prober.health(None if ended is None else ended.how)
        traffic, in_flight = self._proxy.traffic(), self._proxy.in_flight
        self._served = self._served or bool(traffic.requests or in_flight)
        stuck = self._progress.stuck(time.monotonic(), busy=in_flight > 0 or not self._served)
        metrics = reports.metrics(
            traffic,
            in_flight,
            self._sampler.sample(self._agent.pid()),
            self._shipper.waiting_bytes,
            self._shipper.dropped,
            self._prober.failing_for_s(),
            None if stuck is None else stuck.for_s,
        )
        section = self._identity.agent(self.agent_status(), pid=self._agent.pid(), started_at=self._agent.started_at, ended=ended)
        health = reports.health(found, self._prober.checks(), self._enforcer.kinds(), self._heartbeat_s, stuck)
        self._shipper.report(
            self._identity.event("agent.heartbeat", _new_id(), at, agent=section, health=health, metrics=metrics)
        )
        self._tell(self.topics.tell_metrics(metrics.model_dump(mode="json", exclude_none=True), at), "tell-metrics")
        self.tell_status(health.status, health.reason)

    async def tell_failures(self) -> None:
        """Tells of failed requests until cancelled."""
        while True:
            await asyncio.sleep(_LOOK_S)
            self.failed_requests()

    def failed_requests(self, *, last: bool = False) -> None:
        """``metric.sampled`` with the requests that failed since it was last told, if it is time."""
        samples = self._proxy.failures.take(time.monotonic(), last=last)
        if samples:
            metrics = Metrics(errors=round(sum(sample.value for sample in samples)), samples=samples)
            self._shipper.report(self._identity.event("metric.sampled", _new_id(), datetime.now(UTC), metrics=metrics))

    def tell_status(self, health: str, reason: str | None) -> None:
        """``agent.status``, if it is another than was told."""
        told = (self.agent_status(), health)
        if told != self._told:
            self._told = told
            metadata = {"health": health, "reason": reason, "pid": self._agent.pid(), "version": self._identity.version}
            self._tell(self.topics.tell_status(told[0], metadata), "tell-status")

    def tell_again(self) -> None:
        """The next status is told even if it was told before: nobody may have heard it."""
        self._told = None

    def _tell(self, work: Any, name: str) -> None:
        task = asyncio.create_task(work, name=name)
        self._telling.add(task)
        task.add_done_callback(self._telling.discard)
