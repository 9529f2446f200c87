"""Audit records and events of the manager: journalled first, then published in order until stored."""

import asyncio
from uuid import UUID

import structlog
from nats.aio.client import Client

from agent_manager.journal import Journal, JournalFullError, Record
from schemas.commands import AuditRecord
from schemas.events import Event
from service.instruments import LOOP_ERRORS
from streams import subjects
from streams.messages import CONTENT_TYPE, JSON
from streams.publish import publish_until_stored

log = structlog.get_logger(__name__)


def audit_record(audit: AuditRecord) -> Record:
    """``audit`` as a message for the audit stream."""
    data = audit.model_dump_json(exclude_none=True).encode()
    return Record(subjects.audit(audit.tenant_id, audit.agent_id), audit.audit_id, data, {CONTENT_TYPE: JSON})


def history_record(audit: AuditRecord) -> Record:
    """``audit`` of a change in the registry, for the history of its agent."""
    data = audit.model_dump_json(exclude_none=True).encode()
    return Record(subjects.registry_history(audit.tenant_id, audit.agent_id), audit.audit_id, data, {CONTENT_TYPE: JSON})


def event_record(event: Event) -> Record:
    """``event`` as a message for ``telemetry.``, like everybody's."""
    subject = subjects.telemetry(event.tenant.tenant_id, event.run.agent_id, event.kind)
    identity: UUID = event.event_id
    return Record(subject, str(identity), event.model_dump_json(exclude_none=True).encode(), {CONTENT_TYPE: JSON})


class Outbox:
    """Publishes what the journal holds. While NATS is away it waits on disk."""

    def __init__(self, client: Client, journal: Journal) -> None:
        self.client = client
        self._journal = journal
        self._something = asyncio.Event()

    def wake(self) -> None:
        """Something was put into the journal."""
        self._something.set()

    def put(self, record: Record) -> None:
        """Journals ``record`` for publication; when the journal is full it is dropped, logged and counted."""
        try:
            self._journal.put(record)
        except JournalFullError as error:
            LOOP_ERRORS.labels("outbox_full").inc()
            log.error("outbox.full", subject=record.subject, message_id=record.message_id, reason=str(error))
        self._something.set()

    async def run(self) -> None:
        """Publishes for ever."""
        while True:
            self._something.clear()
            while (found := self._journal.first()) is not None:
                number, record = found
                await publish_until_stored(
                    self.client, record.subject, record.data, message_id=record.message_id, headers=record.headers
                )
                self._journal.published(number)
            await self._something.wait()

    async def drained(self, within_s: float) -> bool:
        """Waits until everything is published, at most ``within_s``; whether it was."""
        deadline = asyncio.get_running_loop().time() + within_s
        while self._journal.waiting():
            if asyncio.get_running_loop().time() > deadline:
                return False
            await asyncio.sleep(0.02)
        return True
