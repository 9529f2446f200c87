"""Which faults this agent's sidecars have met, across their restarts."""

from datetime import datetime
from pathlib import Path

import structlog
from pydantic import BaseModel, ConfigDict, ValidationError

from schemas.sections import Fault

log = structlog.get_logger(__name__)


class Met(BaseModel):
    """One fault that came into force."""

    model_config = ConfigDict(frozen=True)

    fault: Fault
    injected_at: datetime
    done: bool = False
    """It happens once (a crash) and has happened."""


class _Page(BaseModel):
    met: dict[str, Met] = {}


class FaultMemory:
    """A small file. A crash happens once even if the sidecar restarts for it, and a repeated report is the same report."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._met: dict[str, Met] = {}
        try:
            self._met = dict(_Page.model_validate_json(path.read_bytes()).met)
        except FileNotFoundError:
            pass
        except (ValidationError, OSError) as error:
            log.warning("faults.memory_unreadable", path=path.name, error=str(error))

    def met(self) -> tuple[Met, ...]:
        """Every fault not yet forgotten."""
        return tuple(self._met.values())

    def injected_at(self, fault: Fault, now: datetime) -> datetime:
        """When ``fault`` came into force: ``now``, unless it already had."""
        if fault.fault_id not in self._met:
            self._met[fault.fault_id] = Met(fault=fault, injected_at=now)
            self._write()
        return self._met[fault.fault_id].injected_at

    def spent(self) -> frozenset[str]:
        """Faults that happened and may not happen again."""
        return frozenset(fault_id for fault_id, met in self._met.items() if met.done)

    def spend(self, fault_id: str) -> None:
        """Remembers, before it happens, that it has."""
        if fault_id in self._met:
            self._met[fault_id] = self._met[fault_id].model_copy(update={"done": True})
            self._write()

    def forget(self, fault_id: str, now: datetime) -> None:
        """The fault is over. A spent one is remembered until its deadline: it may still be asked for."""
        self._met = {
            key: met
            for key, met in self._met.items()
            if (met.done and met.fault.until > now) or (key != fault_id and not met.done)
        }
        self._write()

    def _write(self) -> None:
        draft = self._path.with_suffix(".new")
        try:
            draft.write_text(_Page(met=self._met).model_dump_json())
            draft.replace(self._path)
        except OSError as error:
            # A fault must end in time even where the disk is full.
            log.error("faults.memory_unwritable", path=self._path.name, error=str(error))
