"""Asking the processor that alone may change something: cost prices and the ledger, validate content policies."""

import asyncio
from typing import Final, TypeVar

import nats.errors
from nats.aio.client import Client
from pydantic import BaseModel, ValidationError

from agent_manager.cli import output
from agent_manager.cli.failure import CommandFailedError
from schemas.queries import QueryError
from streams.messages import FAILED

_TIMEOUT_S: Final = 30.0
_ATTEMPTS: Final = 3

Answer = TypeVar("Answer", bound=BaseModel)


async def ask_cost(
    client: Client, subject: str, request: BaseModel, answer: type[Answer], attempts: int = _ATTEMPTS, who: str = "cost"
) -> Answer:
    """The answer of ``who``; asks again where there was none, which is safe: nothing is done twice. Raises CommandFailedError."""
    data = request.model_dump_json(exclude_none=True).encode()
    for attempt in range(1, attempts + 1):
        try:
            message = await client.request(subject, data, timeout=_TIMEOUT_S)
        except nats.errors.NoRespondersError as error:
            problem = f"{who} is not there to answer"
            if attempt == attempts:
                raise CommandFailedError(
                    problem, f"Is `python -m processors {who}` running? Then the same again: nothing is done twice"
                ) from error
        except (nats.errors.TimeoutError, TimeoutError) as error:
            problem = f"{who} did not answer within {_TIMEOUT_S:g} s"
            if attempt == attempts:
                raise CommandFailedError(problem, "Try the same again: nothing is done twice. See `agentops doctor`") from error
        else:
            if (message.headers or {}).get(FAILED):
                raise CommandFailedError(_refusal(message.data, who))
            return answer.model_validate_json(message.data)
        output.note(f"{problem}: asking again ({attempt}/{attempts - 1})")
        await asyncio.sleep(2.0 * attempt)
    raise AssertionError("unreachable")


def _refusal(data: bytes, who: str) -> str:
    try:
        refused = QueryError.model_validate_json(data)
    except ValidationError:
        return f"{who} refused: {data[:200].decode(errors='replace')}"
    fields = "; ".join(one.told() for one in refused.errors if one.msg != refused.message)
    return f"{refused.message}{f' ({fields})' if fields else ''}"
