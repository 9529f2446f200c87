"""``agentops audit``: the accounts of streams and warehouse, compared."""

import importlib
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

from nats.aio.client import Client
from pydantic import BaseModel

from agent_manager.cli import output
from agent_manager.cli.connection import Place, run
from agent_manager.cli.failure import CommandFailedError


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else value


def audit(data: Path | None, *, as_json: bool) -> None:
    """Prints what was checked and what does not add up; raises CommandFailedError when something does not."""
    accounts = importlib.import_module("streams.audit")

    async def work(client: Client, _: Place) -> Any:
        return await accounts.run(client)

    report = run(data, work)
    if as_json:
        output.write_json({"ok": report.ok, **_plain(report)})
    else:
        for finding in report.findings:
            said = {name: value for name, value in _plain(finding).items() if value not in ({}, None)}
            output.write_line("  ".join(str(part) for part in said.values()) if isinstance(said, dict) else str(said))
        if report.ok:
            output.write_line("the accounts agree: nothing is missing, nothing was counted twice")
    if not report.ok:
        raise CommandFailedError(
            "the accounts do not agree", "Each line above says where; `agentops doctor` says which part is not well"
        )
