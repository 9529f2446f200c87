"""Questions to the warehouse and to the budget processor, and their refusals as problems."""

from collections.abc import Mapping
from typing import Any, Final, TypeVar

import nats.errors
import orjson
from nats.aio.client import Client
from pydantic import BaseModel, ValidationError

from agent_manager.api.problems import ProblemError, away, invalid
from schemas.errors import field_errors
from schemas.queries import QUERIES, QueryError
from streams import subjects
from streams.messages import FAILED

TIMEOUT_S: Final = 10.0
_TRUE: Final = frozenset({"true", "1"})

Answer = TypeVar("Answer", bound=BaseModel)


async def ask(client: Client | None, name: str, params: Mapping[str, Any], kind: type[Answer]) -> Answer:
    """The answer to ``query.<name>``; raises ProblemError (422, 502, 503). A parameter that is None is left out."""
    if client is None or not client.is_connected:
        raise away("NATS is away: ask again in a moment")
    told = {key: value for key, value in params.items() if value is not None}
    if (model := QUERIES.get(name)) is not None:
        try:
            model.model_validate_json(orjson.dumps(told))
        except ValidationError as error:
            raise invalid("the question is not valid", field_errors(error)) from error
    try:
        message = await client.request(subjects.query(name), orjson.dumps(told), timeout=TIMEOUT_S)
    except nats.errors.NoRespondersError as error:
        raise away("nobody answers questions now: the warehouse may be starting") from error
    except (nats.errors.Error, TimeoutError, OSError) as error:
        raise away(f"the warehouse did not answer within {TIMEOUT_S:g} s: ask for less, or again later") from error
    try:
        if (message.headers or {}).get(FAILED):
            refused = QueryError.model_validate_json(message.data)
            raise invalid(refused.message, refused.errors)
        return kind.model_validate_json(message.data)
    except ValidationError as error:
        raise ProblemError(502, "unreadable", "the answer cannot be read: are all parts of the same version?") from error
