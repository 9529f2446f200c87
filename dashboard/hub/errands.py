"""What tabs ask for, carried out while the page goes on: orders to agents, acknowledgements of alerts."""

import asyncio
import secrets
import time
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol

import structlog
from nats.aio.client import Client

from dashboard.hub import commanding
from dashboard.hub.orders import Acknowledge, Order
from dashboard.model.page import PageModel
from schemas.ids import uuid7
from service.instruments import LOOP_ERRORS

log = structlog.get_logger(__name__)


class Tab(Protocol):
    """An open browser tab."""

    user: str

    def show(self, text: str, sequence: int) -> None:
        """Sends one encoded frame; may drop it and resynchronise later if the tab is behind."""

    def tell(self, message: dict[str, Any]) -> None:
        """Sends something to this tab alone."""


def _toast(text: str, *, ok: bool = False) -> dict[str, Any]:
    return {"toast": {"ok": ok, "text": text}}


@dataclass(slots=True)
class Errands:
    """At most one order an agent at a time: a second is refused and told so. Being busy is shown to all tabs, the outcome to one."""

    model: PageModel
    tabs: Mapping[int, Tab]
    dirty: asyncio.Event
    _tasks: set[asyncio.Task[None]] = field(default_factory=set)

    def give(self, client: Client | None, order: Order, tab: Tab) -> None:
        """Begins to carry ``order`` out."""
        parts = self.model.fleet.agents.get(order.key)
        if parts is None:
            tab.tell(_toast(f"{order.agent_id} is not known here"))
        elif parts.busy is not None:
            tab.tell(_toast(f"{order.agent_id}: {parts.busy.lower()} is still under way"))
        elif client is None or not client.is_connected:
            tab.tell(_toast(f"{order.agent_id}: not sent, NATS is away"))
        else:
            self.model.fleet.busy(order.key, order.doing)
            self.dirty.set()
            self._begin(self._order(client, order, tab), f"order-{order.key}")

    async def _order(self, client: Client, order: Order, tab: Tab) -> None:
        command_id = str(uuid7(time.time_ns() // 1_000_000, secrets.randbits(74)))
        try:
            outcome = await commanding.carry_out(client, order, command_id, datetime.now(UTC))
        finally:
            self.model.fleet.busy(order.key, None)
            self.dirty.set()
        self._tell(tab, _toast(f"{order.agent_id}: {outcome.text[:1].lower()}{outcome.text[1:]}", ok=outcome.ok))

    def acknowledge(self, client: Client | None, asked: Acknowledge, tab: Tab) -> None:
        """Begins to acknowledge an alert, if it is open."""
        answered = {"acknowledged": asked.alert_id}
        if not self.model.alerts.holds(asked.alert_id):
            tab.tell(_toast("That alert is no longer open") | answered)
        elif client is None or not client.is_connected:
            tab.tell(_toast("Not acknowledged: NATS is away") | answered)
        else:
            self._begin(self._acknowledge(client, asked, tab), f"acknowledge-{asked.alert_id}")

    async def _acknowledge(self, client: Client, asked: Acknowledge, tab: Tab) -> None:
        outcome = await commanding.acknowledge(client, asked.alert_id, tab.user, datetime.now(UTC))
        self._tell(tab, _toast(outcome.text, ok=outcome.ok) | {"acknowledged": asked.alert_id})

    def stop(self) -> None:
        """Waits for no answer any more; what was sent is with the manager."""
        for task in tuple(self._tasks):
            task.cancel()

    def _tell(self, tab: Tab, message: dict[str, Any]) -> None:
        if id(tab) in self.tabs:
            tab.tell(message)

    def _begin(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            LOOP_ERRORS.labels("dashboard-order").inc()
            log.error("order.broke", task=task.get_name(), error=repr(error))
