"""A metering door in this process, in front of a provider of the test's own: real sockets, no NATS."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import aiohttp

from schemas.events import Event
from schemas.sections import Fault, Tenant
from sidecar.denials import Denials
from sidecar.enforcement import Enforcer
from sidecar.fault_memory import FaultMemory
from sidecar.metering.bodies import IDLE_S
from sidecar.metering.calls import Owner
from sidecar.metering.door import MeteringDoor
from sidecar.metering.meter import Meter
from sidecar.metering.providers import ROUTES, upstream
from sidecar.metering.usage import Extractors
from sidecar.policies import Policies
from sidecar.reports import Identity
from tests.conftest import until
from tests.sidecar.metering.providing import Handler, Provider, providing
from tests.sidecar.test_proxy import listening


@cache
def extractors() -> Extractors:
    return Extractors()


class Front:
    """The door, what stands behind it, and what it told."""

    def __init__(self, url: str, http: aiohttp.ClientSession, provider: Provider, events: list[Event]) -> None:
        self.url = url
        self.http = http
        self.provider = provider
        self.events = events
        self.door: MeteringDoor
        self.meter: Meter
        self.enforcer: Enforcer
        self.denials: Denials
        self.policies: Policies

    @property
    def openai(self) -> str:
        return f"{self.url}/openai/v1"

    @property
    def anthropic(self) -> str:
        return f"{self.url}/anthropic"

    def calls(self) -> list[Event]:
        """The model calls that were told."""
        return [event for event in self.events if event.kind == "model_call"]

    def inject(self, kind: Any, seconds: float = 60, **more: Any) -> None:
        self.enforcer.ask([Fault(fault_id=f"f-{kind}", kind=kind, until=datetime.now(UTC) + timedelta(seconds=seconds), **more)])

    async def told(self, count: int = 1) -> list[Event]:
        """The first ``count`` model calls."""
        await until(lambda: len(self.calls()) >= count, f"{count} model calls are told")
        return self.calls()

    async def chat(self, *, headers: dict[str, str] | None = None, **more: Any) -> tuple[int, bytes]:
        body = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello, how are you?"}]} | more
        async with self.http.post(f"{self.openai}/chat/completions", json=body, headers=headers) as response:
            return response.status, await response.read()


@asynccontextmanager
async def front(
    directory: Path, handler: Handler | None = None, *, to: str | None = None, idle_s: float = IDLE_S
) -> AsyncIterator[Front]:
    """Every route leads to one provider."""
    events: list[Event] = []
    tenant = Tenant(tenant_id="acme", project_id="p")
    identity = Identity(tenant, "a", "a", "1", "test", "http://proxy")
    enforcer = Enforcer(identity, FaultMemory(directory / "faults.json"), lambda: None, lambda _: None, lambda: None)
    running = asyncio.create_task(enforcer.run())
    try:
        async with providing(handler) as provider:
            meter = Meter(Owner(tenant, "a"), extractors(), events.append)
            denials = Denials("acme", "a", project="p", path=directory / "denials.json")
            policies = Policies("acme", "a", project="p", path=directory / "policies.json")
            upstreams = {name: upstream(route, to or provider.url, {}) for name, route in ROUTES.items()}
            door = MeteringDoor(upstreams, meter, "acme", enforcer, denials, policies, idle_s=idle_s)
            async with (
                listening(door.application(), auto_decompress=False, handler_cancellation=True) as url,
                aiohttp.ClientSession(auto_decompress=False) as http,
            ):
                here = Front(url, http, provider, events)
                here.door, here.meter, here.enforcer, here.denials, here.policies = door, meter, enforcer, denials, policies
                yield here
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
