"""Commands to the agent manager, by whoever is at the keyboard."""

import asyncio
import getpass
from collections.abc import Sequence

from nats.aio.client import Client

from agent_manager.cli.connection import Place
from agent_manager.cli.failure import CommandFailedError
from agent_manager.commands import giving
from agent_manager.commands.giving import Order
from schemas.commands import CommandResponse
from streams import subjects
from streams.publish import NotStoredError


def person() -> str:
    """Who is at the keyboard, as far as the operating system knows."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


async def give(client: Client, place: Place, order: Order, timeout_s: float) -> CommandResponse:
    """Carries ``order`` to the manager and waits for its answer; an absent answer becomes an error ``timeout``."""
    try:
        return await giving.give(client, place.user, order, timeout_s, issued_by=person())
    except NotStoredError as error:
        subject = subjects.command(order.tenant_id, place.user, order.agent_id)
        raise CommandFailedError(
            f"the command was not accepted ({error})",
            f"Run `agentops streams check`, and see whether user {place.user!r} may publish {subject}",
        ) from error


async def give_all(client: Client, place: Place, orders: Sequence[Order], timeout_s: float) -> list[CommandResponse]:
    """Every order at once; the answers in their order."""
    return await asyncio.gather(*(give(client, place, order, timeout_s) for order in orders))
