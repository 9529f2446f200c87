"""Budgets as they are set, and as the budget processor says they stand."""

import asyncio
from difflib import get_close_matches

import nats.errors
from nats.aio.client import Client
from pydantic import ValidationError

from agent_manager.cli.failure import CommandFailedError
from schemas.budgets import BudgetDefinition, BudgetsPage, BudgetsParams, BudgetStanding, budget_key
from schemas.queries import QueryError
from streams import subjects, topology
from streams.kv import BucketMissingError, TypedBucket

_ANSWER_S = 5.0
_SEEN_S = 6.0


async def bucket(client: Client) -> TypedBucket[BudgetDefinition]:
    """Where budgets are set; raises CommandFailedError where the topology lacks it."""
    try:
        return await TypedBucket.open(client, topology.BUDGETS, BudgetDefinition)
    except BucketMissingError as error:
        raise CommandFailedError("bucket 'budgets' does not exist", "Run `agentops streams apply`") from error


async def definitions(client: Client, tenant: str | None) -> dict[str, BudgetDefinition]:
    """Every budget by ``<tenant>.<budget>``, in that order."""
    found = await (await bucket(client)).all()
    return {key: found[key] for key in sorted(found) if tenant in {None, found[key].tenant_id}}


async def standings(client: Client, tenant: str | None = None, budget: str | None = None) -> dict[str, BudgetStanding] | None:
    """How budgets stand, by key; None while no budget processor answers."""
    request = BudgetsParams(tenant=tenant, budget=budget).model_dump_json(exclude_none=True).encode()
    try:
        reply = await client.request(subjects.query("budgets"), request, timeout=_ANSWER_S)
    except (nats.errors.NoRespondersError, nats.errors.TimeoutError, TimeoutError):
        return None
    try:
        page = BudgetsPage.model_validate_json(reply.data)
    except ValidationError as error:
        try:
            why = QueryError.model_validate_json(reply.data).message
        except ValidationError:
            raise CommandFailedError(
                "the answer of the budget processor cannot be read", "Are it and this command of the same version?"
            ) from error
        raise CommandFailedError(f"the budget processor refused: {why}", "Ask for one tenant with --tenant") from error
    return {budget_key(each.definition.tenant_id, each.definition.budget_id): each for each in page.budgets}


async def find(client: Client, budget: str, tenant: str | None) -> BudgetDefinition:
    """One budget; raises CommandFailedError naming what exists."""
    every = await definitions(client, tenant)
    found = [each for each in every.values() if each.budget_id == budget]
    if len(found) == 1:
        return found[0]
    if found:
        tenants = ", ".join(each.tenant_id for each in found)
        raise CommandFailedError(f"budget {budget!r} exists in several tenants: {tenants}", "Say which with --tenant")
    known = sorted({each.budget_id for each in every.values()})
    near = get_close_matches(budget, known, n=1)
    where = f" of tenant {tenant!r}" if tenant else ""
    if near:
        advice = f"Did you mean {near[0]!r}?"
    elif known:
        advice = f"There are: {', '.join(known[:20])}"
    else:
        advice = f"Set one: agentops budgets set {budget} --tenant … --limit 25"
    raise CommandFailedError(f"there is no budget {budget!r}{where}", advice)


async def taken_over(client: Client, wanted: BudgetDefinition) -> BudgetStanding | None:
    """How ``wanted`` stands once the processor has it and has summed up its period; None: it has not said so in time."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _SEEN_S
    last = None
    # When and by whom is the processor's to say.
    said = {"updated_at": wanted.updated_at, "updated_by": wanted.updated_by}
    while loop.time() < deadline:
        told = await standings(client, wanted.tenant_id, wanted.budget_id)
        if told is None:
            return None
        last = next((each for each in told.values() if each.definition.model_copy(update=said) == wanted), None)
        if last is not None and last.counted:
            return last
        await asyncio.sleep(0.1)
    return last
