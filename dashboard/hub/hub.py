"""The hub: keeps the page model up with NATS and hands every open tab the same encoded frame."""

import asyncio
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

import nats.errors
import orjson
import structlog
from nats.aio.client import Client

from dashboard.hub import asking, watching
from dashboard.hub.auditing import Auditor
from dashboard.hub.errands import Errands, Tab
from dashboard.hub.orders import Acknowledge, Order
from dashboard.model.page import Link, PageModel
from service.instruments import LOOP_ERRORS, SESSIONS
from streams.connect import CannotConnectError, connect
from streams.kv import BucketMissingError
from streams.settings import NatsSettings

log = structlog.get_logger(__name__)

TICK_S: Final = 0.1
"""At least so long between two frames."""
PULSE_S: Final = 1.0
"""How often time itself is looked at: faults running out, the latency line."""
SIGN_OF_LIFE_S: Final = 2.0
"""An empty frame goes out when nothing changed for so long, so that a tab can tell quiet from cut off."""
LATE_MS: Final = 1000
"""A tick later than this is told to the tabs: the process is overloaded."""


@dataclass(slots=True)
class Hub:
    """One a process. ``run`` until cancelled. Tabs come and go by ``open`` and ``close``."""

    nats: NatsSettings
    audit_every_s: float = 300.0
    model: PageModel = field(default_factory=PageModel)
    tabs: dict[int, Tab] = field(default_factory=dict)
    sequence: int = 0
    late_ms: int = 0
    _client: Client | None = None
    _dirty: asyncio.Event = field(default_factory=asyncio.Event)
    _reconnected: asyncio.Event = field(default_factory=asyncio.Event)
    _pollster: asking.Pollster = field(default_factory=asking.Pollster)
    _alerts_position: int | None = None
    _errands: Errands = field(init=False)

    def __post_init__(self) -> None:
        self._errands = Errands(self.model, self.tabs, self._dirty)

    @staticmethod
    def now_ms() -> int:
        """Milliseconds since 1970."""
        return time.time_ns() // 1_000_000

    def open(self, tab: Tab) -> None:
        """From now on ``tab`` gets every frame."""
        if not self.tabs:
            self._pollster.forget()
        self.tabs[id(tab)] = tab
        SESSIONS.set(len(self.tabs))
        self._dirty.set()

    def close(self, tab: Tab) -> None:
        """``tab`` is gone."""
        self.tabs.pop(id(tab), None)
        SESSIONS.set(len(self.tabs))

    def snapshot(self) -> tuple[str, int]:
        """Everything, encoded, with the sequence number of the last frame it includes."""
        content = self.model.snapshot(self.now_ms()) | {"seq": self.sequence}
        return orjson.dumps(content).decode(), self.sequence

    def give(self, order: Order, tab: Tab) -> None:
        """Begins to carry out what a tab asked for."""
        self._errands.give(self._client, order, tab)

    def acknowledge(self, asked: Acknowledge, tab: Tab) -> None:
        """Begins to acknowledge an alert."""
        self._errands.acknowledge(self._client, asked, tab)

    async def run(self) -> None:
        """Until cancelled: keeps the connection, the model and the tabs going."""
        self.model.connect(Link("connecting", self.now_ms(), f"Connecting to NATS at {self.nats.shown_url()}"))
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._tick(), name="dashboard-tick")
                group.create_task(self._ask(), name="dashboard-ask")
                group.create_task(self._keep(), name="dashboard-keep")
                group.create_task(self._audit(), name="dashboard-audit")
                group.create_task(self._ask_budgets(), name="dashboard-budgets")
        finally:
            self._errands.stop()
            if self._client is not None and not self._client.is_closed:
                await self._client.close()

    def waiting_for(self) -> dict[str, str]:
        """What keeps the page from being live; empty when it is."""
        self._look_at_link()
        if self.model.link.state != "live":
            return {"nats": self.model.link.message or self.model.link.state}
        return {} if self.model.loaded else {"buckets": "not read yet"}

    def _look_at_link(self) -> None:
        client, link = self._client, self.model.link
        if client is None or link.state == "connecting":
            return
        if client.is_connected and link.state == "away":
            self.model.connect(Link("live", self.now_ms()))
        elif not client.is_connected and link.state == "live":
            self.model.connect(Link("away", self.now_ms(), "NATS does not answer; what you see is the last that was known"))

    async def _keep(self) -> None:
        """Connects, however long it takes; then watches, beginning anew after each reconnect."""

        async def reconnected() -> None:
            self._reconnected.set()

        while self._client is None:
            try:
                self._client = await connect(self.nats, "dashboard", on_reconnect=reconnected)
            except CannotConnectError as error:
                log.warning("hub.cannot_connect", error=str(error))
                self.model.connect(Link("connecting", self.model.link.since_ms, str(error)))
                self._dirty.set()
                await asyncio.sleep(1)
        while True:
            self._reconnected.clear()
            watch = asyncio.create_task(self._watch(self._client), name="dashboard-watch")
            again = asyncio.create_task(self._reconnected.wait(), name="dashboard-again")
            try:
                await asyncio.wait({watch, again}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                watch.cancel()
                again.cancel()
                await asyncio.gather(watch, again, return_exceptions=True)

    async def _watch(self, client: Client) -> None:
        """Reads all buckets once, then follows them and the alerts. Begins again after trouble."""
        while True:
            try:
                buckets = await watching.open_all(client)
                async with asyncio.timeout(15):
                    await watching.read_all(buckets, self.model)
                    self._alerts_position = await watching.alerts_position(client, self._alerts_position)
                self.model.load()
                self.model.connect(Link("live", self.now_ms()))
                self._dirty.set()
                log.info("hub.live", agents=len(self.model.fleet.agents))
                await self._follow(client, buckets)
            except BucketMissingError as error:
                self.model.connect(Link("connecting", self.model.link.since_ms, f"NATS is there, but {error}"))
                self._dirty.set()
            except (nats.errors.Error, TimeoutError, OSError) as error:
                log.warning("hub.watch_again", error=repr(error))
            except Exception as error:
                LOOP_ERRORS.labels("dashboard-watch").inc()
                log.exception("hub.watch_broke", error=repr(error))
            await asyncio.sleep(1)

    async def _follow(self, client: Client, buckets: list[watching.Watched]) -> None:
        """Follows everything until something of it ends; what NATS does now and then is no news."""
        try:
            async with asyncio.TaskGroup() as group:
                for bucket in buckets:
                    group.create_task(watching.follow(bucket, self.model, self._dirty), name="dashboard-bucket")
                group.create_task(self._follow_alerts(client), name="dashboard-alerts")
        except* (nats.errors.Error, TimeoutError, OSError) as errors:
            log.warning("hub.watch_again", error=repr(errors.exceptions))

    async def _follow_alerts(self, client: Client) -> None:
        async for position in watching.follow_alerts(client, self._alerts_position or 0, self.model):
            self._alerts_position = position
            self._dirty.set()

    async def _tick(self) -> None:
        pulse = frame = 0.0
        while True:
            try:
                async with asyncio.timeout(PULSE_S / 2):
                    await self._dirty.wait()
            except TimeoutError:
                pass
            self._dirty.clear()
            try:
                now = time.monotonic()
                self._look_at_link()
                if now - pulse >= PULSE_S:
                    self.model.pulse(self.now_ms())
                    pulse = now
                if self.tabs and (self.model.dirty or now - frame >= SIGN_OF_LIFE_S):
                    self._show()
                    frame = now
            except Exception as error:
                LOOP_ERRORS.labels("dashboard-tick").inc()
                log.exception("hub.tick_broke", error=repr(error))
            slept = time.monotonic()
            await asyncio.sleep(TICK_S)
            self.late_ms = round((time.monotonic() - slept - TICK_S) * 1000)

    def _show(self) -> None:
        """Encodes once, sends to all; one broken tab never stops the others."""
        self.sequence += 1
        content = self.model.frame(self.now_ms()) | {"seq": self.sequence}
        if self.late_ms > LATE_MS:
            content["late"] = self.late_ms
        text = orjson.dumps(content).decode()
        for tab in tuple(self.tabs.values()):
            try:
                tab.show(text, self.sequence)
            except Exception as error:  # noqa: BLE001 - the edge of the loop
                LOOP_ERRORS.labels("dashboard-tab").inc()
                log.warning("tab.broke", error=repr(error))

    async def _ask(self) -> None:
        while True:
            await asyncio.sleep(0.25)
            client = self._client
            if not self.tabs or client is None or not client.is_connected or not self.model.loaded:
                continue
            for question in self._pollster.due(time.monotonic()):
                try:
                    page = await asking.ask(client, question.query, question.parameters(datetime.now(UTC)))
                    self.model.answer(question.name, page.rows, self.now_ms())
                except asking.NoAnswerError as error:
                    if client.is_connected:
                        self.model.silence(str(error), self.now_ms())
                    self._dirty.set()
                    await asyncio.sleep(1)
                    break
                except asking.QuestionRefusedError as error:
                    log.warning("query.refused", query=question.query, error=str(error))
                except Exception as error:
                    LOOP_ERRORS.labels("dashboard-ask").inc()
                    log.exception("hub.ask_broke", error=repr(error))
                self._pollster.asked(question, time.monotonic())
                self._dirty.set()

    async def _ask_budgets(self) -> None:
        due = 0.0
        while True:
            await asyncio.sleep(0.25)
            client = self._client
            if not self.tabs or client is None or not client.is_connected or not self.model.loaded:
                due = 0.0
                continue
            if time.monotonic() < due:
                continue
            try:
                self.model.budgets.stand(await asking.budgets(client), self.now_ms())
            except (asking.NoAnswerError, asking.QuestionRefusedError) as error:
                if client.is_connected:
                    self.model.budgets.silence(str(error), self.now_ms())
            except Exception as error:
                LOOP_ERRORS.labels("dashboard-budgets").inc()
                log.exception("hub.budgets_broke", error=repr(error))
            if self.model.budgets.changed:
                self._dirty.set()
            due = time.monotonic() + asking.BUDGETS_EVERY_S

    async def _audit(self) -> None:
        auditor = Auditor(self.audit_every_s)
        while True:
            await asyncio.sleep(0.5)
            client = self._client
            if not self.tabs or client is None or not client.is_connected or not self.model.loaded:
                continue
            if auditor.due(time.monotonic()):
                self.model.audited(await auditor.look(client, self.now_ms()))
                self._dirty.set()
