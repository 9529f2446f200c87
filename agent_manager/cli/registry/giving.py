"""Commands about versions, from what was typed."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from nats.aio.client import Client
from pydantic import JsonValue

from agent_manager.cli import output
from agent_manager.cli.connection import Place, run
from agent_manager.cli.failure import CommandFailedError
from agent_manager.cli.fleet import orders
from agent_manager.cli.fleet.outcomes import sentence
from agent_manager.cli.when import NotATimeError, seconds
from agent_manager.commands.giving import Order
from agent_manager.discovery import manifest
from agent_manager.discovery.folders import NAMES
from agent_manager.discovery.manifest import ManifestError
from schemas.commands import CommandResponse
from schemas.state import AgentRecord


def span(option: str, text: str) -> float:
    """Seconds of ``5m``; raises CommandFailedError naming the option."""
    try:
        return seconds(text)
    except NotATimeError as error:
        raise CommandFailedError(f"{option}: {error}", code=2) from error


def described(path: Path, tenant: str) -> AgentRecord:
    """What the ``agent.yaml`` at ``path``, or in that folder, says; raises CommandFailedError naming every wrong field."""
    file = next((path / name for name in NAMES if (path / name).is_file()), None) if path.is_dir() else path
    if file is None:
        raise CommandFailedError(f"{path} holds no agent.yaml", "Name the file, or the folder it is in", code=2)
    try:
        return manifest.read(file.absolute(), default_tenant=tenant, now=datetime.now(UTC))
    except ManifestError as error:
        raise CommandFailedError("\n".join(str(problem) for problem in error.problems), code=2) from error


def register(
    data: Path | None, path: Path, tenant: str | None, params: dict[str, JsonValue], *, timeout_s: float, as_json: bool
) -> None:
    """Registers what a manifest describes."""
    record = described(path, tenant or "demo")
    if tenant is not None and record.tenant_id != tenant:
        raise CommandFailedError(f"--tenant {tenant}: the manifest says {record.tenant_id}", "Leave --tenant out", code=2)
    said = json.loads(record.model_dump_json())

    async def work(client: Client, place: Place) -> CommandResponse:
        order = Order(f"{record.tenant_id}.{record.agent_id}", "register", {"record": said, **params})
        return await orders.give(client, place, order, timeout_s)

    response = run(data, work)
    if as_json:
        output.write_json([response.model_dump(mode="json", exclude_none=True)])
    if response.status == "error":
        raise CommandFailedError(sentence(response))
    if not as_json:
        output.write_line(sentence(response))


def assigned(pairs: list[str]) -> dict[str, JsonValue]:
    """``owner=team`` and ``tags=["a"]`` as fields: JSON where it is JSON, else text."""
    fields: dict[str, JsonValue] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or not name:
            raise CommandFailedError(f"{pair!r} is no FIELD=VALUE", "Such as owner=research or 'tags=[\"chat\"]'", code=2)
        if name not in AgentRecord.model_fields:
            raise CommandFailedError(
                f"{name!r} is no field of an agent", f"There are: {', '.join(AgentRecord.model_fields)}", code=2
            )
        fields[name] = _value(text)
    return fields


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text
