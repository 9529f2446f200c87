"""``policies set|list|show|delete``."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from nats.aio.client import Client
from pydantic import ValidationError

from agent_manager.cli import output, readable
from agent_manager.cli.changes import change, check_ids, check_reason
from agent_manager.cli.connection import Place, run
from agent_manager.cli.failure import CommandFailedError
from agent_manager.cli.fitting import Column
from agent_manager.cli.when import NotATimeError, seconds
from schemas.errors import field_errors
from schemas.policies import PolicyFlag, PolicyScope
from streams import subjects, topology
from streams.kv import BucketMissingError, TypedBucket

_COLUMNS = (
    Column("POLICY"), Column("TENANT", rank=2), Column("FOR", rank=1), Column("DENIES", wrap=True), Column("ENDS IN", rank=3),
    Column("SINCE", rank=4), Column("WHY", wrap=True),
)  # fmt: skip
_OPTIONS = {"of": "of", "providers": "provider", "models": "model", "reason": "reason", "until": "for", "scope": "scope"}
_WHO = "validate"


async def _bucket(client: Client) -> TypedBucket[PolicyFlag]:
    try:
        return await TypedBucket.open(client, topology.POLICY_FLAGS, PolicyFlag)
    except BucketMissingError as error:
        raise CommandFailedError("bucket 'policy_flags' does not exist", "Run `agentops streams apply`") from error


def _denied(policy: PolicyFlag) -> str:
    whose = f" of {', '.join(policy.providers)}" if policy.providers else ""
    return f"{', '.join(policy.models) or 'every model'}{whose}"


def _over(policy: PolicyFlag, now: datetime) -> bool:
    return policy.until is not None and policy.until <= now


def _cells(key: str, policy: PolicyFlag | None, now: datetime) -> list[str]:
    tenant, _, name = key.partition(".")
    if policy is None:
        return [name, tenant, "", "nothing: it cannot be read", "", "", "delete it, or set it again"]
    whom = policy.scope if policy.of is None else f"{policy.scope} {policy.of}"
    ends = readable.NOTHING if policy.until is None else "over" if _over(policy, now) else readable.age(policy.until, now)
    return [name, tenant, whom, _denied(policy), ends, readable.age(policy.since, now), policy.reason]


def _told(key: str, policy: PolicyFlag | None, now: datetime) -> dict[str, Any]:
    tenant, _, name = key.partition(".")
    if policy is None:
        return {"policy_id": name, "tenant_id": tenant, "readable": False, "in_force": False}
    in_force = policy.since <= now and not _over(policy, now)
    return policy.model_dump(mode="json", exclude_none=True) | {"readable": True, "in_force": in_force}


async def _found(client: Client, tenant: str | None) -> dict[str, PolicyFlag | None]:
    """Every policy by key, those that cannot be read with none."""
    bucket = await _bucket(client)
    known, keys = await bucket.all(), await bucket.keys()
    return {key: known.get(key) for key in sorted(keys | known.keys()) if tenant is None or key.startswith(f"{tenant}.")}


async def _key(client: Client, named: str, tenant: str | None) -> str:
    every = list(await _found(client, tenant))
    found = [key for key in every if key.partition(".")[2] == named]
    if len(found) > 1:
        tenants = ", ".join(key.partition(".")[0] for key in found)
        raise CommandFailedError(f"policy {named!r} exists in several tenants: {tenants}", "Say which with --tenant")
    if not found:
        known = ", ".join(key.partition(".")[2] for key in every[:20])
        raise CommandFailedError(
            f"there is no policy {named!r}", f"There are: {known}" if known else "`agentops policies set` makes one"
        )
    return found[0]


def list_(data: Path | None, tenant: str | None, *, as_json: bool) -> None:
    """Every policy."""

    async def work(client: Client, _: Place) -> dict[str, PolicyFlag | None]:
        return await _found(client, tenant)

    found, now = run(data, work), datetime.now(UTC)
    if as_json:
        output.write_json([_told(key, policy, now) for key, policy in found.items()])
        return
    output.write_table(
        _COLUMNS, [_cells(key, policy, now) for key, policy in found.items()],
        empty="no policies; set one: agentops policies set NAME --tenant TENANT --model 'gpt-5*' --reason '…'",
    )  # fmt: skip


def show(data: Path | None, named: str, tenant: str | None, *, as_json: bool) -> None:
    """One policy."""

    async def work(client: Client, _: Place) -> tuple[str, PolicyFlag | None]:
        key = await _key(client, named, tenant)
        entry = await (await _bucket(client)).get(key)
        return key, None if entry is None else entry.value

    (key, policy), now = run(data, work), datetime.now(UTC)
    if as_json:
        output.write_json(_told(key, policy, now))
        return
    cells = _cells(key, policy, now)
    output.write_facts(list(zip([column.title.lower() for column in _COLUMNS], cells, strict=True)))


def set_(
    data: Path | None, named: str, tenant: str, scope: PolicyScope, of: str | None, providers: list[str], models: list[str],
    for_: str | None, reason: str, *, as_json: bool,
) -> None:  # fmt: skip
    """Denies model calls from now on."""
    check_reason(reason)
    check_ids(POLICY=named, **{"--tenant": tenant, "--of": of})
    now = datetime.now(UTC)
    try:
        until = None if for_ is None else now + timedelta(seconds=seconds(for_))
    except (NotATimeError, OverflowError) as error:
        raise CommandFailedError(f"--for: {error}", "Use 2h, 30d", code=2) from error
    if until is not None and until <= now:
        raise CommandFailedError(f"--for: must be above 0 (is {for_})", "Use 2h, 30d", code=2)
    try:
        policy = PolicyFlag(
            policy_id=named, tenant_id=tenant, scope=scope, of=of, providers=tuple(providers), models=tuple(models), reason=reason,
            since=now, until=until,
        )  # fmt: skip
    except ValidationError as error:
        told = []
        for one in field_errors(error):
            field = one.loc.removeprefix("$").removeprefix(".").partition("[")[0]
            told.append(one.told(f"--{_OPTIONS[field]}") if field in _OPTIONS else f"--{one.msg}")
        raise CommandFailedError("; ".join(told), code=2) from error

    async def work(client: Client, place: Place) -> None:
        revision = await (await _bucket(client)).revision(f"{tenant}.{named}")
        value = policy.model_dump(mode="json", exclude_none=True)
        await change(client, place, subjects.POLICIES, tenant, named, revision, value, reason, _WHO)

    run(data, work)
    if as_json:
        output.write_json(_told(f"{tenant}.{named}", policy, now))
        return
    whom = f"tenant {tenant}" if of is None else f"{scope} {of} of tenant {tenant}"
    ends = "" if until is None else f", until {readable.clock(until)}"
    output.write_line(f"policy {named}: metered calls of {_denied(policy)} by {whom} are refused from now on{ends}")


def delete(data: Path | None, named: str, tenant: str | None, reason: str, *, as_json: bool) -> None:
    """Ends a policy."""
    check_reason(reason)

    async def work(client: Client, place: Place) -> str:
        key = await _key(client, named, tenant)
        of = key.partition(".")[0]
        revision = await (await _bucket(client)).revision(key)
        await change(client, place, subjects.POLICIES, of, named, revision, None, reason, _WHO)
        return of

    of = run(data, work)
    if as_json:
        output.write_json({"policy_id": named, "tenant_id": of, "deleted": True})
    else:
        output.write_line(f"policy {named} of tenant {of} deleted: what it refused passes again")
