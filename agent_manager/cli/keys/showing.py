"""``keys create|list|revoke|rotate``."""

import secrets
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from nats.aio.client import Client

from agent_manager.cli import output, readable
from agent_manager.cli.connection import Place, run
from agent_manager.cli.failure import CommandFailedError
from agent_manager.cli.fitting import Column
from agent_manager.cli.fleet.orders import person
from agent_manager.cli.keys import keeping
from agent_manager.cli.keys.making import SECRET_BYTES, Chance, Made, check, ending, made, period, revoked, standing
from schemas.keys import KEY_ID_LENGTH, ApiKey, KeyRole

_COLUMNS = (
    Column("KEY"), Column("NAME"), Column("ROLE"), Column("TENANT", rank=3), Column("ENDS IN", rank=1), Column("AGENTS", rank=2),
    Column("STATE"), Column("CREATED", rank=4), Column("EXPIRES", rank=3), Column("BY", rank=5),
)  # fmt: skip


def _chance() -> Chance:
    return Chance(secrets.token_hex(KEY_ID_LENGTH // 2), secrets.token_urlsafe(SECRET_BYTES))


def _json(record: ApiKey, now: datetime) -> dict[str, Any]:
    return record.model_dump(mode="json", exclude={"digest"}) | {"state": standing(record, now)}


def _show_once(new: Made, *, as_json: bool, extra: dict[str, Any] | None = None) -> None:
    record = new.record
    if as_json:
        output.write_json(_json(record, datetime.now(UTC)) | {"key": new.key} | (extra or {}))
        return
    # The key alone on standard output, so that it can go straight into a file or a variable.
    output.write_line(new.key)
    whose = f"for {', '.join(record.agents)}" if record.agents else "for every agent"
    until = "" if record.expires_at is None else f", until {readable.clock(record.expires_at)}"
    output.note(
        f"key {record.key_id} ({record.name}, {record.role}) of tenant {record.tenant_id}, {whose}{until}. It is shown this once: keep it now."
    )


def create(
    data: Path | None, name: str, tenant: str, role: KeyRole, agents: tuple[str, ...], expires: str | None, *, as_json: bool
) -> None:  # fmt: skip
    """Makes a key and shows it."""
    check(name, tenant, agents, expires)

    async def work(client: Client, place: Place) -> Made:
        now = datetime.now(UTC)
        until = None if expires is None else now + period("--expires", expires)
        new = made(name, tenant, _chance(), now=now, by=person(), agents=agents, expires_at=until, role=role)
        await keeping.keep(client, place, "create", new.record, 0)
        return new

    _show_once(run(data, work), as_json=as_json)


def list_(data: Path | None, tenant: str | None, *, as_json: bool) -> None:
    """Every key, never its secret."""

    async def work(client: Client, _: Place) -> list[ApiKey]:
        return await keeping.all_of(client, tenant)

    found, now = run(data, work), datetime.now(UTC)
    if as_json:
        output.write_json([_json(each, now) for each in found])
        return
    rows = [
        [
            each.key_id, each.name, each.role, each.tenant_id, f"…{each.last_four}", ", ".join(each.agents) or "all", standing(each, now),
            readable.age(each.created_at, now), readable.NOTHING if each.expires_at is None else readable.age(each.expires_at, now), each.created_by,
        ]
        for each in found
    ]  # fmt: skip
    output.write_table(_COLUMNS, rows, empty="no API keys; make one: agentops keys create NAME --tenant TENANT")


def revoke(data: Path | None, named: str, tenant: str | None, reason: str, *, as_json: bool) -> None:
    """Makes a key good for nothing."""

    async def work(client: Client, place: Place) -> tuple[ApiKey, bool]:
        entry = await keeping.find(client, named, tenant)
        assert entry.value is not None
        if entry.value.revoked_at is not None:
            return entry.value, False
        gone = revoked(entry.value, now=datetime.now(UTC), by=person())
        await keeping.keep(client, place, "revoke", gone, entry.revision, reason)
        return gone, True

    record, changed = run(data, work)
    if as_json:
        output.write_json(_json(record, datetime.now(UTC)))
    elif changed:
        output.write_line(
            f"key {record.key_id} ({record.name}) of tenant {record.tenant_id} is revoked: it is refused within a second"
        )
    else:
        output.write_line(
            f"key {record.key_id} ({record.name}) was revoked {readable.age(record.revoked_at, datetime.now(UTC))} by {record.revoked_by}"
        )


def rotate(data: Path | None, named: str, tenant: str | None, overlap: str, *, as_json: bool) -> None:
    """Makes a key in place of another, which ends after ``overlap``."""
    after = period("--overlap", overlap)

    async def work(client: Client, place: Place) -> tuple[Made, ApiKey]:
        entry = await keeping.find(client, named, tenant)
        old, now = entry.value, datetime.now(UTC)
        assert old is not None
        if standing(old, now) != "active":
            raise CommandFailedError(
                f"key {old.key_id} ({old.name}) is {standing(old, now)}", "Make a new one: agentops keys create"
            )
        lasted = None if old.expires_at is None else now + (old.expires_at - old.created_at)
        new = made(
            old.name,
            old.tenant_id,
            _chance(),
            now=now,
            by=person(),
            agents=old.agents,
            expires_at=lasted,
            replaces=old.key_id,
            role=old.role,
        )
        await keeping.keep(client, place, "rotate", new.record, 0, f"in place of {old.key_id}")
        ended = ending(old, now + after)
        await keeping.keep(client, place, "end", ended, entry.revision, f"replaced by {new.record.key_id}")
        return new, ended

    new, ended = run(data, work)
    _show_once(new, as_json=as_json, extra={"replaced": _json(ended, datetime.now(UTC))})
    if not as_json:
        output.note(
            f"key {ended.key_id} is good until {readable.clock(ended.expires_at)}; `agentops keys revoke {ended.key_id}` ends it at once"
        )
