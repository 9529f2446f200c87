"""``agentops content show``."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from nats.aio.client import Client

from agent_manager.cli import output, readable
from agent_manager.cli.connection import Place, run
from agent_manager.cli.failure import CommandFailedError
from agent_manager.cli.fitting import Column
from schemas.content import PERSONAL_KINDS, ContentPolicy
from streams import topology
from streams.kv import BucketMissingError, Entry, TypedBucket

_COLUMNS = (
    Column("TENANT"),
    Column("MODE"),
    Column("REPLACED", rank=2, wrap=True),
    Column("OWN PATTERNS", rank=3, wrap=True),
    Column("SET", rank=4),
    Column("BY", rank=5),
    Column("WHY", rank=1, wrap=True),
)


async def bucket(client: Client) -> TypedBucket[ContentPolicy]:
    """Where policies stand; raises CommandFailedError where the topology lacks it."""
    try:
        return await TypedBucket.open(client, topology.CONTENT, ContentPolicy)
    except BucketMissingError as error:
        raise CommandFailedError("bucket 'content' does not exist", "Run `agentops streams apply`") from error


def _cells(tenant: str, policy: ContentPolicy | None, now: datetime) -> list[str]:
    if policy is None:
        return [tenant, "off", "all and KEY", "", "", "", "the default"]
    kinds = "all" if set(policy.kinds) == set(PERSONAL_KINDS) else ", ".join(policy.kinds)
    return [
        tenant,
        policy.mode,
        "KEY" if policy.mode == "full" or not policy.kinds else f"{kinds} and KEY",
        ", ".join(f"{each.name}={each.pattern}" for each in policy.patterns),
        "" if policy.updated_at is None else readable.age(policy.updated_at, now),
        policy.updated_by or "",
        policy.reason or "",
    ]


def _told(policy: ContentPolicy | None, tenant: str, revision: int = 0) -> dict[str, Any]:
    told = (policy or ContentPolicy(tenant_id=tenant)).model_dump(mode="json", exclude_none=True)
    return told | {"default": policy is None, "revision": revision}


def show(data: Path | None, tenant: str | None, *, as_json: bool) -> None:
    """Every policy, or the history of one."""

    async def work(client: Client, _: Place) -> list[Entry[ContentPolicy]]:
        opened = await bucket(client)
        if tenant is not None:
            return await opened.history(tenant)
        return [Entry(key, policy, 0) for key, policy in sorted((await opened.all()).items())]

    found = run(data, work)
    now = datetime.now(UTC)
    if as_json:
        every = [_told(each.value, each.key, each.revision) for each in found]
        output.write_json((every or [_told(None, tenant)]) if tenant is not None else every)
        return
    rows = [_cells(each.key, each.value, now) for each in found] or ([_cells(tenant, None, now)] if tenant is not None else [])
    output.write_table(
        _COLUMNS, rows, empty="every tenant has the default: off. Change one: agentops content set TENANT redacted --reason '…'"
    )
