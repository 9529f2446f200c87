"""The contract as JSON Schema files, for people and for services in other languages.

``python -m schemas.export`` writes ``schemas/json/``; ``--check`` fails where a committed file is out of date, or where
the new contract would reject an event that was valid before without its version having grown.
"""

import argparse
import json
import sys
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel, TypeAdapter

from schemas.alerts import Acknowledgement, AlertChange
from schemas.budgets import BudgetDefinition, BudgetFlag, BudgetsPage, BudgetsParams
from schemas.commands import AuditRecord, Command, CommandResponse, FaultParams
from schemas.compatibility import breaking_changes
from schemas.content import ContentChange, ContentChanged, ContentPolicy
from schemas.corrections import CorrectionAnswer, CorrectionRequest
from schemas.coverage import Coverage
from schemas.dead_letters import DeadLetter
from schemas.events import AcceptedEvent, Event
from schemas.keys import ApiKey
from schemas.ledger import LedgerEntry
from schemas.policies import PolicyFlag
from schemas.prices.book import Book, StoredBook
from schemas.prices.overrides import PriceChange, PriceChanged, Revision
from schemas.queries import QUERIES, Page, QueryError
from schemas.snapshots import SnapshotProgress, SnapshotRequest
from schemas.state import AgentRecord, AgentState, FaultSet, Observation
from schemas.v0 import EventV0
from schemas.versions import (
    CanaryParams,
    PromoteParams,
    RegisterParams,
    RegistryChange,
    Releases,
    RollbackParams,
    Sighting,
    UpdateParams,
)

DIRECTORY: Final = Path(__file__).parent / "json"

EXPORTED: Final[dict[str, type[BaseModel]]] = {
    "event-v1": Event,
    "event-v0": EventV0,
    "accepted-event-v1": AcceptedEvent,
    "command": Command,
    "command-response": CommandResponse,
    "fault-params": FaultParams,
    "audit-record": AuditRecord,
    "alert-change": AlertChange,
    "acknowledgement": Acknowledgement,
    "ledger-entry": LedgerEntry,
    "price-revision": Revision,
    "price-change": PriceChange,
    "price-changed": PriceChanged,
    "stored-price-book": StoredBook,
    "price-book": Book,
    "correction-request": CorrectionRequest,
    "correction-answer": CorrectionAnswer,
    "content-policy": ContentPolicy,
    "content-change": ContentChange,
    "content-changed": ContentChanged,
    "coverage": Coverage,
    "dead-letter": DeadLetter,
    "agent-record": AgentRecord,
    "agent-state": AgentState,
    "observation": Observation,
    "releases": Releases,
    "registry-change": RegistryChange,
    "sighting": Sighting,
    "register-params": RegisterParams,
    "update-params": UpdateParams,
    "promote-params": PromoteParams,
    "rollback-params": RollbackParams,
    "canary-params": CanaryParams,
    "fault-set": FaultSet,
    "api-key": ApiKey,
    "budget-definition": BudgetDefinition,
    "budget-flag": BudgetFlag,
    "policy-flag": PolicyFlag,
    "budgets-params": BudgetsParams,
    "budgets-page": BudgetsPage,
    "snapshot-request": SnapshotRequest,
    "snapshot-progress": SnapshotProgress,
    "query-page": Page,
    "query-error": QueryError,
    **{f"query-{name}": params for name, params in QUERIES.items()},
}
"""File name (without ``.schema.json``) of each exported model."""

GUARDED: Final = ("event-v1", "event-v0", "command")
"""Contracts others write to: they may only grow more permissive within a version."""


def schema(name: str) -> dict[str, Any]:
    """The JSON Schema of the exported model ``name``, with its title and file id."""
    made = TypeAdapter(EXPORTED[name]).json_schema(mode="validation")
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "$id": f"{name}.schema.json"} | made


def rendered(name: str) -> str:
    """The file content for ``name``."""
    return json.dumps(schema(name), indent=2, sort_keys=True) + "\n"


def problems(directory: Path = DIRECTORY) -> list[str]:
    """What a check has to say against the committed files; empty when all is well."""
    told = []
    for name in EXPORTED:
        path = directory / f"{name}.schema.json"
        if not path.exists():
            told.append(f"{path.name} is missing")
            continue
        committed = path.read_text()
        if committed == rendered(name):
            continue
        if name in GUARDED:
            told += [f"{path.name}: {change}" for change in breaking_changes(json.loads(committed), schema(name))]
        told.append(f"{path.name} is out of date")
    known = {f"{name}.schema.json" for name in EXPORTED}
    told += [f"{path.name} belongs to no exported model" for path in sorted(directory.glob("*.json")) if path.name not in known]
    return told


def main() -> int:
    """Writes or checks the files; the exit code says whether all is well."""
    parser = argparse.ArgumentParser(prog="python -m schemas.export", description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare with the committed files instead of writing them")
    if parser.parse_args().check:
        told = problems()
        for line in told:
            print(line, file=sys.stderr)
        if told:
            print("run `python -m schemas.export` and commit what it writes", file=sys.stderr)
        return 1 if told else 0
    DIRECTORY.mkdir(exist_ok=True)
    for name in EXPORTED:
        (DIRECTORY / f"{name}.schema.json").write_text(rendered(name))
    print(f"wrote {len(EXPORTED)} schemas to {DIRECTORY.name}/")
    return 0


if __name__ == "__main__":
    sys.exit(main())
