"""``faults clear --all``: through the manager where it answers, and without it where it does not."""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from nats.aio.client import Client

from agent_manager.cli import output
from agent_manager.cli.connection import Place, run
from agent_manager.cli.failure import CommandFailedError
from agent_manager.cli.fleet import orders, reading
from agent_manager.cli.fleet.outcomes import sentence
from agent_manager.commands.giving import Order
from schemas.commands import CommandResponse
from schemas.state import FaultSet
from streams import topology
from streams.kv import TypedBucket

_MANAGER_S = 5.0
"""The manager is waited for no longer than this before faults are taken back behind the manager's back."""


async def _directly(client: Client, key: str) -> None:
    """The sidecar follows the bucket itself: nobody else is needed."""
    bucket = await TypedBucket.open(client, topology.FAULTS, FaultSet)
    tenant, _, agent = key.partition(".")
    await bucket.put(key, FaultSet(agent_id=agent, tenant_id=tenant, updated_at=datetime.now(UTC)))


async def taken_back(
    client: Client, place: Place, keys: Sequence[str], timeout_s: float = _MANAGER_S
) -> list[tuple[CommandResponse, bool]]:
    """What became of the faults of each agent; True where the manager did not answer and the bucket was written directly."""
    wanted = [Order(key, "clear_faults", {}) for key in keys]
    responses = await orders.give_all(client, place, wanted, min(timeout_s, _MANAGER_S))
    asked = (await reading.fleet(client)).faults
    silent = [
        key
        for key, response in zip(keys, responses, strict=True)
        if response.status == "error" and key in asked and asked[key].faults
    ]
    await asyncio.gather(*(_directly(client, key) for key in silent))
    return [(response, key in silent) for key, response in zip(keys, responses, strict=True)]


async def cleared(client: Client, place: Place, tenant: str | None, timeout_s: float) -> list[tuple[CommandResponse, bool]]:
    """The same for every agent that anybody knows."""
    fleet = await reading.fleet(client)
    keys = [key for key in sorted({*fleet.states, *fleet.faults}) if tenant is None or key.startswith(f"{tenant}.")]
    return await taken_back(client, place, keys, timeout_s)


def clear_all(data: Path | None, tenant: str | None, *, timeout_s: float, as_json: bool) -> None:
    """Ends every fault of every agent now; raises CommandFailedError only where neither way worked."""

    async def work(client: Client, place: Place) -> list[tuple[CommandResponse, bool]]:
        return await cleared(client, place, tenant, timeout_s)

    found = run(data, work)
    if not found:
        raise CommandFailedError("there are no agents", "Start the agent manager, or see `agentops agents list`")
    if as_json:
        told: list[dict[str, Any]] = [
            response.model_dump(mode="json", exclude_none=True) | ({"cleared_directly": True} if directly else {})
            for response, directly in found
        ]
        output.write_json(told)
    for response, directly in found:
        if as_json:
            continue
        if directly:
            output.write_line(f"{response.agent_id}: the manager did not answer; taken back without it, its sidecar ends them")
        elif response.status == "success":
            output.write_line(sentence(response))
        else:
            output.note(f"{response.agent_id}: no answer of the manager; it has no faults")
