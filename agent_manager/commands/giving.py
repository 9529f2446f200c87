"""A command given to the manager: published with an acknowledgement, answered on a subject of its own."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import uuid4

from nats.aio.client import Client
from pydantic import JsonValue, ValidationError

from schemas.commands import Command, CommandError, CommandName, CommandResponse
from streams import subjects
from streams.messages import CONTENT_TYPE, JSON
from streams.publish import publish

TTL_HEADER: Final = "Nats-TTL"


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


async def give(
    client: Client, user: str, order: Order, timeout_s: float, *, issued_by: str, command_id: str | None = None
) -> CommandResponse:
    """Carries ``order`` to the manager as ``user`` and waits for its answer; an absent answer becomes an error ``timeout``.

    The command expires with our patience: nothing begins later that nobody waits for any more. One whose ``command_id`` the manager
    knows is not carried out again: it is answered as it was. Raises NotStoredError where the stream does not take it.
    """
    now = datetime.now(UTC)
    command = Command(
        command_id=command_id or str(uuid4()), command=order.command, agent_id=order.agent_id, params=order.params, timestamp=now,
        expires_at=now + timedelta(seconds=timeout_s), issued_by=issued_by,
    )  # fmt: skip
    answers = await client.subscribe(subjects.command_response_to(user, command.command_id))
    try:
        await client.flush()
        headers = {CONTENT_TYPE: JSON, TTL_HEADER: f"{max(1, round(timeout_s))}s"}
        subject = subjects.command(order.tenant_id, user, order.agent_id)
        await publish(client, subject, command.model_dump_json(exclude_none=True).encode(), headers=headers)
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
