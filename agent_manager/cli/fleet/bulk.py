"""One command for many agents: so many at once, in a fixed order, each with an outcome – also those that were not begun."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Literal

from agent_manager.cli.fleet.rows import Fleet
from agent_manager.commands.giving import Order
from schemas.commands import CommandError, CommandResponse

AT_ONCE: Final = 16
"""Commands on their way at a time, unless told otherwise."""

Give = Callable[[Order], Awaitable[CommandResponse]]


@dataclass(frozen=True, slots=True)
class Everyone:
    """Every agent the manager keeps."""


@dataclass(frozen=True, slots=True)
class Tagged:
    """Agents whose manifest carries one of these tags."""

    tags: tuple[str, ...]


def chosen(fleet: Fleet, choice: Everyone | Tagged, tenant: str | None, *, faulty_too: bool = False) -> list[str]:
    """The keys of the agents meant, in order. ``faulty_too``: also those nobody manages, which have faults."""
    match choice:
        case Everyone():
            keys = {*fleet.states, *(fleet.faults if faulty_too else ())}
        case Tagged(tags):
            keys = {key for key, record in fleet.records.items() if not set(tags).isdisjoint(record.tags)}
    return sorted(key for key in keys if tenant is None or key.startswith(f"{tenant}."))


@dataclass(frozen=True, slots=True)
class Pace:
    """How a bulk command proceeds."""

    at_once: int = AT_ONCE
    stop_on_failure: bool = False
    """After a failure nothing further begins; what is under way is waited for."""
    deadline_s: float | None = None
    """What has not begun by then is not begun."""


USUAL: Final = Pace()


def not_begun(order: Order, why: Literal["failure", "deadline"], pace: Pace) -> CommandResponse:
    """The outcome of an order that was never sent."""
    if why == "failure":
        error = CommandError(code="refused", message="not begun: another failed before (--stop-on-failure)")
    else:
        error = CommandError(code="timeout", message=f"not begun within {pace.deadline_s:g} s (--deadline)")
    return CommandResponse(
        status="error", command=order.command, agent_id=order.agent_id, command_id="not-sent", error=error, timestamp=datetime.now(UTC)
    )  # fmt: skip


async def give_in_turn(orders: Sequence[Order], give: Give, pace: Pace) -> list[CommandResponse]:
    """Gives every order, at most ``pace.at_once`` at a time; outcomes in the order of ``orders``.

    The queue is ``orders`` itself: nothing is sent before its turn, so nothing waits anywhere else.
    """
    clock = asyncio.get_running_loop().time
    began = clock()
    outcomes: dict[int, CommandResponse] = {}
    failed = False
    waiting = iter(enumerate(orders))

    async def work() -> None:
        nonlocal failed
        for number, order in waiting:
            if failed and pace.stop_on_failure:
                outcomes[number] = not_begun(order, "failure", pace)
            elif pace.deadline_s is not None and clock() - began >= pace.deadline_s:
                outcomes[number] = not_begun(order, "deadline", pace)
            else:
                outcomes[number] = found = await give(order)
                failed = failed or found.status == "error"

    async with asyncio.TaskGroup() as group:
        for _ in range(min(pace.at_once, len(orders))):
            group.create_task(work(), name="bulk")
    return [outcomes[number] for number in range(len(orders))]
