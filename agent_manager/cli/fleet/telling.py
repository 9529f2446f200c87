"""A command given to agents, and its outcome printed."""

from collections.abc import Callable, Sequence
from pathlib import Path

from nats.aio.client import Client
from pydantic import JsonValue

from agent_manager.cli import output
from agent_manager.cli.connection import Place, run
from agent_manager.cli.failure import CommandFailedError
from agent_manager.cli.fleet import orders, reading
from agent_manager.cli.fleet.outcomes import sentence
from agent_manager.cli.fleet.rows import Fleet
from schemas.commands import CommandName, CommandResponse


def tell(
    data: Path | None, agents: Sequence[str] | None, tenant: str | None, command: CommandName, params: dict[str, JsonValue], *,
    timeout_s: float, as_json: bool, choose: Callable[[Fleet], list[str]] | None = None,
) -> None:  # fmt: skip
    """Gives ``command`` to the named agents (None: all, or those ``choose`` picks) and prints each outcome; raises CommandFailedError when one failed."""

    async def work(client: Client, place: Place) -> list[CommandResponse]:
        fleet = await reading.fleet(client)
        if choose is not None:
            keys = choose(fleet)
        elif agents is None:
            keys = [
                key
                for key in sorted({*fleet.states, *(fleet.faults if command == "clear_faults" else ())})
                if tenant is None or key.startswith(f"{tenant}.")
            ]
        else:
            keys = [reading.key_of(fleet, agent, tenant) for agent in dict.fromkeys(agents)]
        if not keys:
            raise CommandFailedError("there are no agents", "Start the agent manager, or see `agentops agents list`")
        return await orders.give_all(client, place, [orders.Order(key, command, params) for key in keys], timeout_s)

    responses = run(data, work)
    failed = [response for response in responses if response.status == "error"]
    if as_json:
        output.write_json([response.model_dump(mode="json", exclude_none=True) for response in responses])
    else:
        for response in responses:
            if response.status == "success":
                output.write_line(sentence(response))
    if failed:
        raise CommandFailedError("\n".join(sentence(response) for response in failed))
