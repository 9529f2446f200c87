"""A command given to agents, and its outcome printed."""

from collections.abc import Callable, Sequence
from pathlib import Path

from nats.aio.client import Client
from pydantic import JsonValue

from agent_manager.cli import output
from agent_manager.cli.connection import Place, run
from agent_manager.cli.failure import CommandFailedError
from agent_manager.cli.fleet import bulk, orders, reading
from agent_manager.cli.fleet.bulk import USUAL, Everyone, Pace, Tagged
from agent_manager.cli.fleet.outcomes import sentence
from agent_manager.cli.fleet.rows import Fleet
from agent_manager.commands.giving import Order
from schemas.commands import CommandName, CommandResponse

Choice = Callable[[Fleet], list[str]]
"""Picks keys of agents."""


def tell(
    data: Path | None, agents: Sequence[str] | Everyone | Tagged | Choice, tenant: str | None, command: CommandName,
    params: dict[str, JsonValue], *, timeout_s: float, as_json: bool, pace: Pace = USUAL, dry_run: bool = False,
) -> None:  # fmt: skip
    """Gives ``command`` to the agents meant and prints each outcome; raises CommandFailedError when one failed.

    With ``dry_run`` it only says whom it would be given.
    """

    async def work(client: Client, place: Place) -> list[CommandResponse]:
        fleet = await reading.fleet(client)
        if callable(agents):
            keys = agents(fleet)
        elif isinstance(agents, Everyone | Tagged):
            keys = bulk.chosen(fleet, agents, tenant, faulty_too=command == "clear_faults")
        else:
            keys = [reading.key_of(fleet, agent, tenant) for agent in dict.fromkeys(agents)]
        if not keys:
            meant = f"no agent is tagged {' or '.join(agents.tags)}" if isinstance(agents, Tagged) else "there are no agents"
            raise CommandFailedError(meant, "Start the agent manager, or see `agentops agents list`")
        found = [Order(key, command, params) for key in keys]
        if dry_run:
            _would(found, fleet, pace, as_json=as_json)
            return []
        return await bulk.give_in_turn(found, lambda order: orders.give(client, place, order, timeout_s), pace)

    responses = run(data, work)
    if dry_run:
        return
    failed = [response for response in responses if response.status == "error"]
    if as_json:
        output.write_json([response.model_dump(mode="json", exclude_none=True) for response in responses])
    else:
        for response in responses:
            if response.status == "success":
                output.write_line(sentence(response))
    if failed:
        raise CommandFailedError("\n".join(sentence(response) for response in failed))


def _would(found: Sequence[Order], fleet: Fleet, pace: Pace, *, as_json: bool) -> None:
    if as_json:
        output.write_json([
            {
                "agent_id": order.agent_id, "tenant_id": order.tenant_id, "command": order.command, "dry_run": True,
                "status": state.status if (state := fleet.states.get(order.key)) is not None else None,
            }
            for order in found
        ])  # fmt: skip
        return
    for order in found:
        state = fleet.states.get(order.key)
        output.write_line(f"{order.agent_id}: would {order.command} ({state.status if state else 'not managed here'})")
    output.note(f"dry run: nothing was sent; {len(found)} agents, at most {pace.at_once} at once")
