"""``agents history`` and ``agents diff``."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from nats.aio.client import Client

from agent_manager.cli import output, readable
from agent_manager.cli.connection import Place, run
from agent_manager.cli.failure import CommandFailedError
from agent_manager.cli.fitting import Column
from agent_manager.cli.fleet import reading as fleets
from agent_manager.cli.registry import reading
from agent_manager.cli.registry.reading import Told
from agent_manager.registry.releases import differences, release, versions
from schemas.versions import Releases

_HISTORY = (Column("WHEN"), Column("CHANGE"), Column("VERSION"), Column("BY", rank=1), Column("WHAT", wrap=True))
_DIFF = (Column("FIELD"), Column("BEFORE", wrap=True), Column("AFTER", wrap=True))


def history(data: Path | None, agent: str, tenant: str | None, limit: int, *, as_json: bool) -> None:
    """Every change of one agent, the newest first."""

    async def work(client: Client, _: Place) -> list[Told]:
        return await reading.history(client, tenant, agent)

    found = run(data, work)
    if not found:
        raise CommandFailedError(f"nothing was ever registered as {agent!r}", "See `agentops agents list`")
    shown = found[::-1][:limit]
    if as_json:
        output.write_json([_as_json(one) for one in shown])
        return
    several = len({one.change.record.tenant_id for one in found}) > 1
    now = datetime.now(UTC)
    output.write_table(_HISTORY, [_cells(one, now, several=several) for one in shown], empty="no changes")


def _as_json(one: Told) -> dict[str, Any]:
    return {"at": one.at.isoformat(), "by": one.by, "reason": one.reason, **one.change.model_dump(mode="json")}


def _cells(one: Told, now: datetime, *, several: bool) -> list[str]:
    change = one.change
    what = [f"from {change.previous}"] if change.previous not in {None, change.version} else []
    what += [f"to {change.stage}"] if change.stage else []
    what += [f"changed {', '.join(change.fields)}"] if change.fields else []
    what += [one.reason] if one.reason else []
    version = f"{change.record.tenant_id}: {change.version}" if several else change.version
    return [readable.age(one.at, now), change.change, version, one.by, "; ".join(what)]


def diff(data: Path | None, agent: str, tenant: str | None, before: str | None, after: str | None, *, as_json: bool) -> None:
    """What two versions have otherwise; without names the current one beside the one before it."""

    async def work(client: Client, _: Place) -> Releases | None:
        return await reading.versions(client, fleets.key_of(await fleets.fleet(client), agent, tenant))

    found = run(data, work)
    names = list(versions(found))
    if found is None or not names:
        raise CommandFailedError(f"{agent!r} has no versions", "It is observed, not registered: see `agentops agents register`")
    new = after or found.current
    place = names.index(new) if new in names else 0
    old = before or names[max(0, place - 1)]
    chosen = []
    for name in (old, new):
        if (one := release(found, name)) is None:
            raise CommandFailedError(f"{agent!r} has no version {name!r} at hand", f"There are: {', '.join(names)}")
        chosen.append(one.record)
    lines = differences(*chosen)
    if as_json:
        told = [{"field": line.field, "before": line.before, "after": line.after} for line in lines]
        output.write_json({"agent_id": agent, "before": old, "after": new, "differences": told})
        return
    cells = [[line.field, _value(line.before), _value(line.after)] for line in lines]
    output.note(f"{agent}: {old} → {new}")
    output.write_table(_DIFF, cells, empty="they say the same")


def _value(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
