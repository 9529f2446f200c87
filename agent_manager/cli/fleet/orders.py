"""Commands to the agent manager: published with an acknowledgement, answered on a subject of their own."""

import asyncio
import getpass
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from nats.aio.client import Client
from pydantic import JsonValue, ValidationError

from agent_manager.cli.connection import Place
from agent_manager.cli.failure import CommandFailedError
from schemas.commands import Command, CommandError, CommandName, CommandResponse
from streams import subjects
from streams.messages import CONTENT_TYPE, JSON
from streams.publish import NotStoredError, publish

TTL_HEADER = "Nats-TTL"


@dataclass(frozen=True, slots=True)
class Order:
    """What is asked of one agent."""

    key: str
    """``<tenant>.<agent_id>``."""
    command: CommandName
    params: dict[str, JsonValue]

    @property
    def tenant_id(self) -> str:
        return self.key.partition(".")[0]

    @property
    def agent_id(self) -> str:
        return self.key.partition(".")[2]


def person() -> str:
    """Who is at the keyboard, as far as the operating system knows."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


async def give(client: Client, place: Place, order: Order, timeout_s: float) -> CommandResponse:
    """Carries ``order`` to the manager and waits for its answer; an absent answer becomes an error ``timeout``.

    The command expires with our patience: nothing begins later that nobody waits for any more.
    """
    now = datetime.now(UTC)
    command = Command(
        command_id=str(uuid4()), command=order.command, agent_id=order.agent_id, params=order.params, timestamp=now,
        expires_at=now + timedelta(seconds=timeout_s), issued_by=person(),
    )  # fmt: skip
    answers = await client.subscribe(subjects.command_response(command.command_id))
    try:
        await client.flush()
        headers = {CONTENT_TYPE: JSON, TTL_HEADER: f"{max(1, round(timeout_s))}s"}
        subject = subjects.command(order.tenant_id, place.user, order.agent_id)
        try:
            await publish(
                client,
                subject,
                command.model_dump_json(exclude_none=True).encode(),
                message_id=command.command_id,
                headers=headers,
            )
        except NotStoredError as error:
            raise CommandFailedError(
                f"the command was not accepted ({error})",
                f"Run `agentops streams check`, and see whether user {place.user!r} may publish {subject}",
            ) from error
        message = await answers.next_msg(timeout=timeout_s)
        return CommandResponse.model_validate_json(message.data)
    except TimeoutError:
        return _failed(
            command, "timeout", f"no answer within {timeout_s:g} s: not begun by now, it has expired; begun, it goes on"
        )
    except ValidationError as error:
        return _failed(command, "failed", f"the manager's answer cannot be read: {error.error_count()} problems")
    finally:
        await answers.unsubscribe()


def _failed(command: Command, code: Any, message: str) -> CommandResponse:
    return CommandResponse(
        status="error", command=command.command, agent_id=command.agent_id, command_id=command.command_id,
        error=CommandError(code=code, message=message), timestamp=datetime.now(UTC),
    )  # fmt: skip


async def give_all(client: Client, place: Place, orders: Sequence[Order], timeout_s: float) -> list[CommandResponse]:
    """Every order at once; the answers in their order."""
    return await asyncio.gather(*(give(client, place, order, timeout_s) for order in orders))
