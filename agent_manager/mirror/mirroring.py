"""Agents into documents, and wishes in documents into commands. Neither waits for the other, and nobody waits for either."""

import asyncio
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, Final

import nats.errors
import structlog

from agent_manager.commands.giving import Order, give
from agent_manager.following import FleetFollower
from agent_manager.mirror.document import OWN, Wish, document, steady, wishes
from agent_manager.mirror.settings import MirrorSettings
from agent_manager.mirror.store import AwayError, Documents, Heard, MovedError
from schemas.errors import FieldError
from schemas.ids import derived_text
from service.instruments import LOOP_ERRORS, MIRROR_PENDING, MIRROR_WRITES
from streams.publish import NotStoredError
from streams.waiting import Nats

log = structlog.get_logger(__name__)

USER: Final = "firestore"
"""The user token of commands that documents ask for, and so the audit trail's actor."""
_TICK_S: Final = 0.2
_COMMAND_S: Final = 60.0
_LONGEST_S: Final = 60.0
_TOGETHER: Final = 32
_MOST_ERRORS: Final = 20


class Mirroring:
    """Keeps, of each agent, only whether its document is old: however long Firestore is away, nothing piles up."""

    def __init__(self, settings: MirrorSettings, nats: Nats) -> None:
        self._settings = settings
        self._nats = nats
        self.follower = FleetFollower("mirror", self._agent_changed)
        self.documents = Documents(settings, self._document_changed)
        self.away: str | None = "not reached yet"
        """Why Firestore takes nothing now."""
        self._stale: set[str] = set()
        """Ids of agents whose document is old."""
        self._asked: set[str] = set()
        """Ids of documents that may ask for something."""
        self._answered: dict[str, datetime] = {}
        """Until which change each document's wishes were carried out, or refused."""
        self._at_work: dict[str, asyncio.Task[None]] = {}
        self._told: dict[str, dict[str, Any]] = {}
        self._told_at: dict[str, float] = {}
        self._errors: dict[str, list[dict[str, Any]]] = {}

    def _agent_changed(self, key: str) -> None:
        tenant, _, agent = key.partition(".")
        if tenant == self._settings.tenant:
            self._stale.add(agent)

    def _document_changed(self, name: str) -> None:
        self._asked.add(name)
        self._stale.add(name)

    async def run(self) -> None:
        """Mirrors until cancelled."""
        pause = 1.0
        while True:
            await asyncio.sleep(_TICK_S)
            MIRROR_PENDING.set(len(self._stale))
            if self.follower.unread or not self.documents.whole:
                continue
            try:
                self._listen()
                await self._write_some()
                self.away, pause = None, 1.0
            except AwayError as error:
                self.away = str(error)
                log.warning("firestore.away", error=self.away, again_in_s=pause)
                await asyncio.sleep(pause)
                pause = min(_LONGEST_S, 2 * pause)
            except Exception:
                LOOP_ERRORS.labels("mirror").inc()
                log.exception("mirror.failed")

    async def close(self) -> None:
        """Gives up what is under way: the document still asks for it."""
        for task in self._at_work.values():
            task.cancel()
        await asyncio.gather(*self._at_work.values(), return_exceptions=True)
        await self.documents.close()

    def _listen(self) -> None:
        for name in list(self._asked):
            heard = self.documents.heard.get(name)
            if heard is None or self._answered.get(name) == heard.updated_at:
                self._asked.discard(name)
                continue
            asked = wishes(heard.fields)
            if not asked.wishes and not asked.errors:
                self._asked.discard(name)
                self._answered[name] = heard.updated_at
            elif name not in self._at_work:
                task = asyncio.create_task(self._answer(name, heard, asked.wishes, asked.errors), name=f"wishes of {name}")
                self._at_work[name] = task

    async def _answer(self, name: str, heard: Heard, asked: Sequence[Wish], errors: Sequence[FieldError]) -> None:
        """Carries out what a document asks, or says in it why not; then it says again how things are."""
        found = [error.model_dump(exclude_none=True) for error in errors]
        try:
            for wish in asked:
                found += await self._carry_out(name, heard, wish)
        except (NotStoredError, nats.errors.Error, OSError) as error:
            log.warning("wish.not_asked", agent=name, error=repr(error))
            await asyncio.sleep(1.0)
            return
        except Exception:
            LOOP_ERRORS.labels("mirror").inc()
            log.exception("wish.failed", agent=name)
            return
        finally:
            self._at_work.pop(name, None)
        self._answered[name] = heard.updated_at
        self._errors[name] = found[:_MOST_ERRORS]
        self._told.pop(name, None)
        self._stale.add(name)

    async def _carry_out(self, name: str, heard: Heard, wish: Wish) -> list[dict[str, Any]]:
        client = self._nats.client
        if client is None:
            raise nats.errors.ConnectionClosedError
        changed = heard.updated_at.isoformat()
        command_id = derived_text("firestore", self._settings.project, self._settings.collection, name, changed, wish.what)
        order = Order(f"{self._settings.tenant}.{name}", wish.command, wish.params)
        answer = await give(
            client, USER, order, _COMMAND_S, issued_by=f"{self._settings.collection}/{name}", command_id=command_id
        )
        log.info("wish.answered", agent=name, wish=wish.what, status=answer.status)
        if answer.error is None:
            return []
        return [{"loc": wish.what, "msg": answer.error.message, "command_id": answer.command_id}]

    async def _write_some(self) -> None:
        """Writes documents that are old and due; raises AwayError."""
        now = time.monotonic()
        due: list[tuple[str, dict[str, Any] | None]] = []
        fleet, at = self.follower.fleet(), datetime.now(UTC)
        agents = {key.partition(".")[2] for key in fleet.agents() if key.startswith(f"{self._settings.tenant}.")}
        for name in list(self._stale):
            if name in self._at_work or name in self._asked:
                continue
            if name not in agents:
                due.append((name, None))
                continue
            fields = document(f"{self._settings.tenant}.{name}", fleet, at)
            if self._errors.get(name):
                fields[OWN]["errors"] = self._errors[name]
            before = self._told.get(name)
            if before == fields:
                self._stale.discard(name)
                continue
            same = before is not None and steady(before) == steady(fields)
            if now - self._told_at.get(name, float("-inf")) >= (self._settings.numbers_s if same else self._settings.write_s):
                due.append((name, fields))
        for start in range(0, len(due), _TOGETHER):
            outcomes = await asyncio.gather(
                *(self._write(*one) for one in due[start : start + _TOGETHER]), return_exceptions=True
            )
            for outcome in outcomes:
                if isinstance(outcome, BaseException):
                    raise outcome

    async def _write(self, name: str, fields: dict[str, Any] | None) -> None:
        heard = self.documents.heard.get(name)
        try:
            if fields is not None:
                await self.documents.write(name, fields)
            elif heard is not None and OWN in heard.fields:
                await self.documents.remove(name)
        except MovedError:
            # Somebody changed it: that comes by the listener, and is looked at first.
            MIRROR_WRITES.labels("moved").inc()
            self._told_at[name] = time.monotonic()
            return
        MIRROR_WRITES.labels("written").inc()
        self._stale.discard(name)
        self._told_at[name] = time.monotonic()
        if fields is None:
            self._told.pop(name, None)
        else:
            self._told[name] = fields
