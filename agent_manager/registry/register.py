"""Writing what agents are: only what changed, each change in the history first."""

import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import structlog

from agent_manager.lifecycle import telling
from agent_manager.lifecycle.book import Book
from agent_manager.outbox import Outbox, event_record, history_record
from agent_manager.registry import releases
from agent_manager.registry.releases import NOT_SAID
from schemas.commands import AuditRecord
from schemas.ids import derived_id
from schemas.state import AgentRecord
from schemas.versions import Change, RegistryChange, Releases, Stage
from streams.kv import agent_key

log = structlog.get_logger(__name__)

_STORED_S = 5.0


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

    return [name for name in AgentRecord.model_fields if name not in NOT_SAID and said(found, name) != said(kept, name)]


@dataclass(frozen=True, slots=True)
class By:
    """Who changes something, and why."""

    who: str
    reason: str = ""


class Register:
    """The registry's records, their versions, and the history of both."""

    def __init__(self, records: Book[AgentRecord], versions: Book[Releases], outbox: Outbox) -> None:
        self._records = records
        self._versions = versions
        self._outbox = outbox

    def record(self, key: str) -> AgentRecord | None:
        """What an agent is now."""
        return self._records.get(key)

    def versions(self, key: str) -> Releases | None:
        """Its versions."""
        return self._versions.get(key)

    def by_command(self) -> tuple[AgentRecord, ...]:
        """Agents that no folder describes: somebody's command did."""
        known = ((key, self._versions.get(key)) for key in self._versions.known())
        kept = [self._records.get(key) for key, history in known if history is not None and history.source == "command"]
        return tuple(record for record in kept if record is not None)

    def take(self, found: AgentRecord, now: datetime) -> AgentRecord:
        """Writes what a manifest says if that is new; returns what the registry holds.

        A manifest that says what it said before changes nothing: what people have done since, a rollback say, stands.
        """
        key = agent_key(found.tenant_id, found.agent_id)
        kept, history = self._records.get(key), self._versions.get(key)
        if kept is not None and history is not None and history.found is not None and not _differences(found, history.found):
            return kept
        result = compare(found, kept, now)
        if history is None or not isinstance(result, Same):
            history = releases.added(history, result.record, now=now, by=found.updated_by, current=True)
        history = history.model_copy(update={"found": found, "source": "folder", "canary": None})
        if isinstance(result, Same):
            self._versions.put(key, history)
            return result.record
        change: Change = "register" if isinstance(result, New) else "update"
        self._write(key, change, result.record, history, kept, By(found.updated_by, "its manifest says so"), now)
        return result.record

    def put(self, record: AgentRecord, *, current: bool, by: By, now: datetime) -> AgentRecord:
        """Registers ``record`` as its version by command; where not ``current``, what is registered stays what it is."""
        key = agent_key(record.tenant_id, record.agent_id)
        kept, history = self._records.get(key), self._versions.get(key)
        result = compare(record.model_copy(update={"updated_by": by.who}), kept, now)
        current = current or kept is None
        known = history
        history = releases.added(history, result.record, now=now, by=by.who, current=current)
        if known is None or known.source == "command":
            history = history.model_copy(update={"source": "command"})
        if current:
            history = history.model_copy(update={"canary": None})
        if history == known:
            return result.record
        change: Change = "update" if releases.release(known, record.version) is not None else "register"
        self._write(key, change, result.record, history, kept, by, now, current=current)
        return result.record

    def make_current(self, key: str, version: str, change: Change, *, by: By, now: datetime, **more: Any) -> AgentRecord:
        """The record of an earlier or later version becomes what the agent is. ``more`` changes the rest of the history's state."""
        kept, history = self._records.get(key), self._versions.get(key)
        chosen = releases.release(history, version)
        assert chosen is not None and history is not None, "asked for by a version that was found"  # noqa: PT018
        created = kept.created_at if kept is not None else chosen.record.created_at
        record = chosen.record.model_copy(update={"created_at": created, "updated_at": now, "updated_by": by.who})
        history = history.model_copy(update={"current": version, "canary": None, **more})
        self._write(key, change, record, history, kept, by, now)
        return record

    def promote(self, key: str, version: str, to: Stage, *, by: By, now: datetime) -> None:
        """The version rises to ``to``."""
        kept, history = self._records.get(key), self._versions.get(key)
        assert kept is not None and history is not None, "asked for by a version that was found"  # noqa: PT018
        chosen = releases.release(history, version)
        assert chosen is not None, "asked for by a version that was found"
        history = releases.changed(history, version, stage=to)
        self._versions.put(key, history)
        self._tell("promote", chosen.record, kept.version, (), by, now, stage=to)

    def passed(self, key: str, reason: str, now: datetime) -> None:
        """A trial is over and its version stays."""
        kept, history = self._records.get(key), self._versions.get(key)
        assert kept is not None and history is not None and history.canary is not None, "a trial was judged"  # noqa: PT018
        self._versions.put(key, history.model_copy(update={"canary": None}))
        self._tell("canary_passed", kept, history.canary.previous, (), By("canary", reason), now)

    def good(self, key: str, version: str, now: datetime) -> None:
        """The version has been healthy for long enough to go back to. Not told in the history: nobody changed anything."""
        history = self._versions.get(key)
        if history is not None and (known := releases.release(history, version)) is not None and known.good_at is None:
            log.info("version.good", key=key, version=version)
            self._versions.put(key, releases.changed(history, version, good_at=now))

    def delete(self, key: str, *, by: By, now: datetime) -> None:
        """The agent is no longer known; its history stays."""
        kept = self._records.get(key)
        assert kept is not None, "only what is registered is deleted"
        self._tell("delete", kept, kept.version, (), by, now)
        self._records.remove(key)
        self._versions.remove(key)

    async def stored(self, key: str) -> bool:
        """Whether what was written is in NATS, within a few seconds."""
        return await self._records.stored(key, _STORED_S) and await self._versions.stored(key, _STORED_S)

    def _write(
        self,
        key: str,
        change: Change,
        record: AgentRecord,
        history: Releases,
        kept: AgentRecord | None,
        by: By,
        now: datetime,
        *,
        current: bool = True,
    ) -> None:
        before = kept if current else getattr(releases.release(self._versions.get(key), record.version), "record", None)
        fields = () if before is None else tuple(one.field for one in releases.differences(before, record))
        # The history first: killed between, the manager finds the same difference again and tells it again.
        self._tell(change, record, None if kept is None else kept.version, fields, by, now)
        self._versions.put(key, history)
        if current:
            self._records.put(key, record)
            self._outbox.put(event_record(telling.registered(record, fields)))
        log.info("agent.registered", agent_id=record.agent_id, version=record.version, change=change, changed=list(fields))

    def _tell(
        self,
        change: Change,
        record: AgentRecord,
        previous: str | None,
        fields: tuple[str, ...],
        by: By,
        now: datetime,
        *,
        stage: Stage | None = None,
    ) -> None:
        told = RegistryChange(
            change=change, version=record.version, previous=previous, stage=stage, fields=fields, record=record
        )  # fmt: skip
        content = json.dumps(record.model_dump(mode="json"), sort_keys=True)
        audit = AuditRecord(
            audit_id=str(derived_id("registry", change, record.tenant_id, record.agent_id, now.isoformat(), content)),
            at=now,
            tenant_id=record.tenant_id,
            agent_id=record.agent_id,
            actor=by.who,
            action=f"registry.{change}",
            params=told.model_dump(mode="json", exclude_none=True),
            outcome="success",
            reason=by.reason[:8192],
        )
        self._outbox.put(history_record(audit))
