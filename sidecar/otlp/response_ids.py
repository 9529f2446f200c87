"""The provider's id of a response, where an emitter has no attribute for it but quotes the response.

OpenInference's instrumentations write down what the client library returned, as JSON: the response itself (OpenAI, Agents
SDK), or LangChain's result around it. Only the places where such JSON has the provider's id are looked at: ids of messages,
tool calls and runs are others.
"""

from collections.abc import Mapping
from typing import Any, Final

import orjson

_QUOTED: Final = ("output.value", "llm.invocation_parameters")
_LONGEST: Final = 256_000
"""Characters of JSON that are read for an id; what is longer has none."""


def quoted(attributes: Mapping[str, Any]) -> str | None:
    """The id of the response quoted in a span's ``attributes``; None where none is quoted."""
    for name in _QUOTED:
        text = attributes.get(name)
        if text.__class__ is str and text[:1] == "{" and len(text) <= _LONGEST and '"id"' in text:
            try:
                found = _id(orjson.loads(text))
            except orjson.JSONDecodeError:
                continue
            if found is not None:
                return found
    return None


def _id(response: Any) -> str | None:
    for place in (
        ("id",),
        ("llm_output", "id"),
        ("generations", 0, 0, "message", "kwargs", "response_metadata", "id"),
        ("generations", 0, 0, "message", "response_metadata", "id"),
    ):
        found = response
        for part in place:
            if isinstance(part, int):
                found = found[part] if isinstance(found, list) and len(found) > part else None
            else:
                found = found.get(part) if isinstance(found, dict) else None
        if isinstance(found, str) and found:
            return found
    return None
