"""One named query asked over NATS."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import nats.errors
import orjson
from nats.aio.client import Client
from nats.aio.msg import Msg
from pydantic import ValidationError

from agent_manager.cli.failure import CommandFailedError
from schemas.queries import Page, QueryError
from streams import subjects
from streams.messages import FAILED

if TYPE_CHECKING:
    import polars as pl

TIMEOUT_S: Final = 15.0


class NoWarehouseError(CommandFailedError):
    """Nobody answers queries now."""


async def _asked(client: Client, name: str, params: Mapping[str, Any], timeout_s: float) -> Msg:
    try:
        message = await client.request(subjects.query(name), orjson.dumps(dict(params)), timeout=timeout_s)
    except nats.errors.NoRespondersError as error:
        raise NoWarehouseError(
            "the warehouse does not answer yet",
            "It may be starting (reading its log) or overloaded; `agentops doctor` tells more",
        ) from error
    except (nats.errors.TimeoutError, TimeoutError) as error:
        raise NoWarehouseError(
            f"the warehouse did not answer within {timeout_s:g} s", "Ask for less (--since, --limit), or see `agentops doctor`"
        ) from error
    headers = message.headers or {}
    if headers.get(FAILED) or headers.get("Nats-Service-Error"):
        raise CommandFailedError(_refusal(name, message.data, headers))
    return message


async def ask_frame(client: Client, name: str, params: Mapping[str, Any], timeout_s: float = TIMEOUT_S) -> "pl.DataFrame":
    """The answer's rows as a frame, exact decimals and all; raises what ``ask`` raises."""
    import polars as pl  # noqa: PLC0415 - heavy, and few commands need it

    message = await _asked(client, name, {**params, "format": "arrow"}, timeout_s)
    return pl.read_ipc_stream(message.data)


async def ask(client: Client, name: str, params: Mapping[str, Any], timeout_s: float = TIMEOUT_S) -> Page:
    """The answer; raises NoWarehouseError when nobody answers, CommandFailedError when the question is refused."""
    message = await _asked(client, name, params, timeout_s)
    try:
        return Page.model_validate_json(message.data)
    except ValidationError as error:
        raise CommandFailedError(
            f"the answer to {name!r} cannot be read", "Are the warehouse and this command of the same version?"
        ) from error


def _refusal(name: str, data: bytes, headers: Mapping[str, str]) -> str:
    try:
        refused = QueryError.model_validate_json(data)
    except ValidationError:
        return f"query {name!r} failed: {headers.get('Nats-Service-Error') or data[:200].decode(errors='replace')}"
    fields = "; ".join(error.told() for error in refused.errors)
    return f"query {name!r} failed: {refused.message}{f' ({fields})' if fields else ''}"
