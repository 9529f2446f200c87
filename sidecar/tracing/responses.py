"""What a model's response, or a chunk of one, tells of itself: OpenAI-, Anthropic- and Gemini-shaped, objects or dictionaries.

Read while the agent waits, so only what is small is touched; counting tokens is left to ``sidecar.tracing.usage``.
"""

from collections.abc import Mapping
from typing import Any, Final

from sidecar.tracing.values import fields_of, identifier

_USAGES: Final = ("usage", "usageMetadata", "usage_metadata", "meta")
_GOOGLE: Final = frozenset({"usageMetadata", "usage_metadata"})


def part(value: Any, *names: str) -> Any:
    """The first of ``names`` that ``value`` has, as a key or an attribute, and that is not None."""
    for each in names:
        found = value.get(each) if isinstance(value, Mapping) else getattr(value, each, None)
        if found is not None:
            return found
    return None


def _text(value: Any) -> str | None:
    value = getattr(value, "value", value)
    return identifier(value) if isinstance(value, str) and value else None


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, list | tuple) and value else None


def _mapping(value: Any) -> dict[str, Any] | None:
    found = dict(value) if isinstance(value, Mapping) else fields_of(value)
    if found is None and hasattr(value, "__dict__"):
        found = {name: item for name, item in vars(value).items() if not name.startswith("_")}
    return found


def _camel(found: Mapping[str, Any]) -> dict[str, Any]:
    """Gemini's counts as its HTTP interface names them; its Python client has other names for the same."""
    words = ((name.split("_"), value) for name, value in found.items())
    return {first + "".join(word.capitalize() for word in more): value for (first, *more), value in words}


class Seen:
    """What was told so far: chunk after chunk adds to it."""

    __slots__ = ("finish_reason", "kind", "model", "response_id", "service_tier", "usage")

    def __init__(self) -> None:
        self.response_id: str | None = None
        self.model: str | None = None
        self.finish_reason: str | None = None
        self.service_tier: str | None = None
        self.kind = "usage"
        """Under which name the response told of its usage."""
        self.usage: dict[str, Any] | None = None

    def read(self, value: Any) -> bool:
        """Takes over what ``value`` tells; whether it was a response at all."""
        found = self._one(value)
        # Anthropic's ``message_start`` and OpenAI's ``response.completed`` carry the response inside.
        for inner in (part(value, "message"), part(value, "response")):
            if inner is not None and not isinstance(inner, str):
                found = self._one(inner) or found
        return found

    def _one(self, value: Any) -> bool:
        if value is None or isinstance(value, str | bytes | int | float):
            return False
        self.response_id = _text(part(value, "id", "responseId", "response_id")) or self.response_id
        self.model = _text(part(value, "model", "modelVersion", "model_version")) or self.model
        self._finish(value)
        for name in _USAGES:
            told = part(value, name)
            usage = None if told is None or isinstance(told, str | int | float) else _mapping(told)
            if usage:
                google = name in _GOOGLE
                self.kind = "usageMetadata" if google else name
                known = {key: item for key, item in (_camel(usage) if google else usage).items() if item is not None}
                self.usage = {**(self.usage or {}), **known}
                tier = known.get("service_tier")
                self.service_tier = tier if isinstance(tier, str) else self.service_tier
                break
        self.service_tier = _text(part(value, "service_tier")) or self.service_tier
        return self.usage is not None or self.response_id is not None

    def _finish(self, value: Any) -> None:
        choice = _first(part(value, "choices", "candidates"))
        reason = part(choice, "finish_reason", "finishReason") if choice is not None else None
        if reason is None:
            reason = part(value, "stop_reason") or part(part(value, "delta"), "stop_reason")
        if reason is None and part(value, "object") == "response":
            reason = part(part(value, "incomplete_details"), "reason") or part(value, "status")
        self.finish_reason = _text(reason) or self.finish_reason

    def body(self, model: str) -> dict[str, Any] | None:
        """The response as far as counting needs it; None where it told of no usage."""
        if self.usage is None:
            return None
        told = self.model or model
        return {"model": told, "modelVersion": told, "id": self.response_id, self.kind: self.usage}
