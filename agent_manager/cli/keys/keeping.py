"""API keys in their bucket, every change of them in AUDIT."""

from datetime import UTC, datetime
from uuid import uuid4

import nats.errors
from nats.aio.client import Client

from agent_manager.cli.connection import Place
from agent_manager.cli.failure import CommandFailedError
from agent_manager.cli.fleet.orders import person
from schemas.commands import AuditRecord
from schemas.keys import ApiKey, record_key
from streams import subjects, topology
from streams.kv import BucketMissingError, ChangedMeanwhileError, Entry, TypedBucket
from streams.messages import CONTENT_TYPE, JSON
from streams.publish import NotStoredError, publish


async def bucket(client: Client) -> TypedBucket[ApiKey]:
    """Where keys are kept; raises CommandFailedError where the topology lacks it."""
    try:
        return await TypedBucket.open(client, topology.API_KEYS, ApiKey)
    except BucketMissingError as error:
        raise CommandFailedError("bucket 'api_keys' does not exist", "Run `agentops streams apply`") from error


async def all_of(client: Client, tenant: str | None) -> list[ApiKey]:
    """Every key, by tenant and age."""
    found = (await (await bucket(client)).all()).values()
    return sorted(
        (each for each in found if tenant in {None, each.tenant_id}), key=lambda each: (each.tenant_id, each.created_at)
    )


async def find(client: Client, named: str, tenant: str | None) -> Entry[ApiKey]:
    """One key by its id, or by its name where only one that is not revoked has it; raises CommandFailedError naming what exists."""
    every = await all_of(client, tenant)
    found = [each for each in every if each.key_id == named] or [
        each for each in every if each.name == named and each.revoked_at is None
    ]
    if len(found) > 1:
        told = ", ".join(f"{each.key_id} of {each.tenant_id}" for each in found)
        raise CommandFailedError(f"several keys are called {named!r}: {told}", "Name one by its id")
    if not found:
        known = ", ".join(f"{each.key_id} ({each.name})" for each in every[:20])
        raise CommandFailedError(
            f"there is no key {named!r}", f"There are: {known}" if known else "`agentops keys create` makes one"
        )
    entry = await (await bucket(client)).get(record_key(found[0].tenant_id, found[0].key_id))
    if entry is None:
        raise CommandFailedError(f"key {named!r} was removed meanwhile", "See `agentops keys list`")
    return entry


async def keep(client: Client, place: Place, action: str, record: ApiKey, revision: int, reason: str = "") -> None:
    """Writes ``record`` where it still is at ``revision`` (0: there is none). The audit record comes first: no change goes without.

    Raises CommandFailedError; a change that failed after that has a second audit record, which says so.
    """
    await _audit(client, place, action, record, reason)
    try:
        await (await bucket(client)).update(record_key(record.tenant_id, record.key_id), record, revision)
    except ChangedMeanwhileError as error:
        await _audit(client, place, action, record, "somebody else changed it meanwhile", failed=True)
        raise CommandFailedError(f"key {record.key_id} was changed meanwhile", "Look again: `agentops keys list`") from error
    except (nats.errors.Error, TimeoutError) as error:
        await _audit(client, place, action, record, f"not stored: {type(error).__name__}", failed=True)
        raise CommandFailedError(
            f"the key was not stored ({type(error).__name__})", "May your NATS user write $KV.api_keys.>? See `agentops doctor`"
        ) from error


async def _audit(client: Client, place: Place, action: str, record: ApiKey, reason: str, *, failed: bool = False) -> None:
    params = {
        "key_id": record.key_id, "name": record.name, "last_four": record.last_four, "agents": list(record.agents), "person": person(),
        "expires_at": None if record.expires_at is None else record.expires_at.isoformat(), "replaces": record.replaces,
    }  # fmt: skip
    told = AuditRecord(
        audit_id=str(uuid4()), at=datetime.now(UTC), tenant_id=record.tenant_id, agent_id=subjects.KEYS_AUDITED, actor=place.user,
        action=f"keys.{action}", params=params, outcome="error" if failed else "success", reason=reason,
    )  # fmt: skip
    data = told.model_dump_json(exclude_none=True).encode()
    try:
        await publish(
            client,
            subjects.audit(record.tenant_id, subjects.KEYS_AUDITED),
            data,
            message_id=told.audit_id,
            headers={CONTENT_TYPE: JSON},
        )
    except NotStoredError as error:
        raise CommandFailedError(
            "the change was not made, because it could not be recorded in AUDIT",
            "May your NATS user publish audit.*.api_keys? Has AUDIT room? See `agentops doctor`",
        ) from error
