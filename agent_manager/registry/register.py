"""Writing what agents are: only when it changed, so that the bucket's history is a history of changes."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import structlog

from agent_manager.lifecycle import telling
from agent_manager.lifecycle.book import Book
from agent_manager.outbox import Outbox, event_record
from schemas.state import AgentRecord
from streams.kv import agent_key

log = structlog.get_logger(__name__)

_NOT_SAID: Final = frozenset({"created_at", "updated_at", "updated_by"})


@dataclass(frozen=True, slots=True)
class Same:
    """Nothing to write; ``record`` is what stands there."""

    record: AgentRecord


@dataclass(frozen=True, slots=True)
class New:
    """Never seen before."""

    record: AgentRecord


@dataclass(frozen=True, slots=True)
class Changed:
    """These fields say something else now."""

    record: AgentRecord
    fields: tuple[str, ...]


def compare(found: AgentRecord, kept: AgentRecord | None, now: datetime) -> Same | New | Changed:
    """What ``found`` means beside what the registry keeps; a record to be written carries ``now``."""
    created = now if kept is None else kept.created_at or kept.updated_at
    written = found.model_copy(update={"created_at": created, "updated_at": now})
    if kept is None:
        return New(written)
    fields = tuple(_differences(found, kept))
    return Changed(written, fields) if fields else Same(kept)


def _differences(found: AgentRecord, kept: AgentRecord) -> list[str]:
    def said(record: AgentRecord, name: str) -> Any:
        return getattr(record, name)

    return [name for name in AgentRecord.model_fields if name not in _NOT_SAID and said(found, name) != said(kept, name)]


class Register:
    """Keeps the registry's records as the manifests say."""

    def __init__(self, records: Book[AgentRecord], outbox: Outbox) -> None:
        self._records = records
        self._outbox = outbox

    def take(self, found: AgentRecord, now: datetime) -> AgentRecord:
        """Writes ``found`` if it says something new; returns what the registry holds."""
        key = agent_key(found.tenant_id, found.agent_id)
        result = compare(found, self._records.get(key), now)
        if isinstance(result, Same):
            return result.record
        fields = result.fields if isinstance(result, Changed) else ()
        self._records.put(key, result.record)
        self._outbox.put(event_record(telling.registered(result.record, fields)))
        log.info("agent.registered", agent_id=found.agent_id, version=found.version, changed=list(fields))
        return result.record
