"""What a client asks of chat completions, read strictly; what is wrong is said the way OpenAI says it."""

import json
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final

from examples.model_server.tokens import Message

ROLES: Final = ("system", "developer", "user", "assistant", "tool")


class RefusedError(Exception):
    """The request can never be answered as it is. ``status`` and the fields are those of OpenAI's error object."""

    def __init__(self, status: int, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.param = param
        self.code = code


@dataclass(frozen=True, slots=True)
class Completion:
    """One request for a completion."""

    model: str
    messages: tuple[Message, ...]
    max_tokens: int | None
    stream: bool
    include_usage: bool


def read_completion(raw: bytes, models: Collection[str]) -> Completion:
    """The request in ``raw``; raises RefusedError where it is none or asks for a model not in ``models``."""
    try:
        body = json.loads(raw)
    except ValueError as error:
        raise RefusedError(400, "We could not parse the JSON body of your request.") from error
    if not isinstance(body, dict):
        raise RefusedError(400, "The body of the request must be a JSON object.")
    model = body.get("model")
    if not isinstance(model, str) or not model:
        raise RefusedError(400, "you must provide a model parameter", param="model")
    if model not in models:
        raise RefusedError(
            404, f"The model `{model}` does not exist or you do not have access to it.", param="model", code="model_not_found"
        )
    if (choices := body.get("n")) is not None and choices != 1:
        raise RefusedError(400, "This server makes one choice a request.", param="n", code="unsupported_value")
    options = body.get("stream_options") or {}
    if not isinstance(options, dict):
        raise RefusedError(400, "stream_options must be an object.", param="stream_options", code="invalid_type")
    stream = body.get("stream") is True
    return Completion(
        model, _messages(body.get("messages")), _max_tokens(body), stream, stream and options.get("include_usage") is True
    )


def _max_tokens(body: dict[str, Any]) -> int | None:
    for name in ("max_completion_tokens", "max_tokens"):
        value = body.get(name)
        if value is None:
            continue
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise RefusedError(400, f"{name} must be an integer of at least 1.", param=name, code="invalid_type")
        return value
    return None


def _messages(value: Any) -> tuple[Message, ...]:
    if not isinstance(value, list) or not value:
        raise RefusedError(400, "messages must be a list of at least one message.", param="messages", code="invalid_type")
    return tuple(_message(item, f"messages[{place}]") for place, item in enumerate(value))


def _message(item: Any, where: str) -> Message:
    if not isinstance(item, dict) or item.get("role") not in ROLES:
        raise RefusedError(400, f"{where}.role must be one of {', '.join(ROLES)}.", param=f"{where}.role", code="invalid_value")
    content = item.get("content")
    if isinstance(content, list):
        content = "".join(_part(part, f"{where}.content") for part in content)
    if content is None and item["role"] == "assistant":
        content = ""
    if not isinstance(content, str):
        raise RefusedError(400, f"{where}.content must be text.", param=f"{where}.content", code="invalid_type")
    return str(item["role"]), content


def _part(part: Any, where: str) -> str:
    if isinstance(part, dict) and part.get("type") == "text" and isinstance(part.get("text"), str):
        return str(part["text"])
    raise RefusedError(400, "This server reads text parts only.", param=where, code="unsupported_value")
