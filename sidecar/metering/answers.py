"""What an answer says of itself: its model, its id, why it ended, what it used. Whole, or event by event."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from sidecar.metering.apis import Shape
from sidecar.metering.estimates import characters

_LONGEST: Final = 128


@dataclass(slots=True)
class Answer:
    """One answer as far as it was read."""

    shape: Shape
    model: str | None = None
    response_id: str | None = None
    finish_reason: str | None = None
    service_tier: str | None = None
    usage: dict[str, Any] = field(default_factory=dict)
    """As the provider reports it, later reports over earlier ones."""
    whole: bool = False
    """Its end was seen: what it reports is all there is."""
    ended: bool = False
    """Its end mark came."""
    later: bool = False
    """The provider goes on in the background: its usage comes with a later answer."""
    written: int = 0
    """Characters the model wrote."""
    error: tuple[str, str | None] | None = None
    """Type and code of the error it ended with."""

    def take(self, data: Any) -> bool:
        """One event of a stream; whether it carries the model's own words (the first of them is the first token)."""
        if not isinstance(data, dict):
            return False
        before = self.written
        _STREAMED[self.shape](self, data)
        return self.written > before

    def take_whole(self, data: Any) -> None:
        """The body of an answer that is not streamed."""
        self.whole = True
        if isinstance(data, dict):
            _WHOLE[self.shape](self, data)

    def document(self) -> dict[str, Any]:
        """What was said, in the form in which extractors read a whole answer."""
        name, model = _NAMES.get(self.shape, ("usage", "model"))
        return {name: self.usage} | ({model: self.model} if self.model is not None else {})

    def reported(self, usage: Any) -> None:
        """The provider says what was used so far."""
        if isinstance(usage, dict):
            self.usage |= {name: count for name, count in usage.items() if count is not None}

    def told(self, data: Mapping[str, Any], *, model: str = "model", response_id: str = "id") -> None:
        """Model and id, where they are said."""
        self.model = _text(data.get(model)) or self.model
        self.response_id = _text(data.get(response_id)) or self.response_id

    def failed(self, error: Any) -> None:
        """It ended with this error."""
        said = error if isinstance(error, dict) else {}
        code = said.get("code")
        self.error = (
            _text(said.get("type")) or _text(said.get("status")) or _text(code) or "provider_error",
            _text(str(code)) if isinstance(code, str | int) else None,
        )


_NAMES: Final = {"gemini": ("usageMetadata", "modelVersion")}


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and 0 < len(value) <= _LONGEST and "\x00" not in value else None


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _each(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def _chat(answer: Answer, data: dict[str, Any]) -> None:
    answer.told(data)
    answer.service_tier = _text(data.get("service_tier")) or answer.service_tier
    # Groq's last chunk carries its usage apart.
    answer.reported(data.get("usage") or _mapping(data.get("x_groq")).get("usage"))
    for choice in _each(data.get("choices")):
        answer.written += characters(choice.get("delta") or choice.get("message")) + characters(choice.get("text"))
        if reason := _text(choice.get("finish_reason")):
            answer.finish_reason = reason
            # Its words are over; usage may still follow, and where it does not there is none.
            answer.whole = True
    if data.get("error") is not None:
        answer.failed(data["error"])


def _responses_whole(answer: Answer, data: dict[str, Any]) -> None:
    answer.told(data)
    answer.service_tier = _text(data.get("service_tier")) or answer.service_tier
    answer.reported(data.get("usage"))
    status = _text(data.get("status"))
    answer.later = status in {"queued", "in_progress"}
    answer.finish_reason = _text(_mapping(data.get("incomplete_details")).get("reason")) or status or answer.finish_reason
    if isinstance(data.get("error"), dict):
        answer.failed(data["error"])


def _responses_streamed(answer: Answer, data: dict[str, Any]) -> None:
    kind = data.get("type")
    if not isinstance(kind, str):
        return
    if kind.endswith(".delta"):
        answer.written += characters(data.get("delta"))
    elif kind == "error":
        answer.failed(data.get("error") or data)
    elif isinstance(data.get("response"), dict):
        _responses_whole(answer, data["response"])
        answer.later = False
        answer.whole = kind in {"response.completed", "response.incomplete", "response.failed", "response.cancelled"}


def _messages_whole(answer: Answer, data: dict[str, Any]) -> None:
    if data.get("type") == "error":
        answer.failed(data.get("error"))
        return
    answer.told(data)
    usage = _mapping(data.get("usage"))
    answer.reported(usage)
    answer.service_tier = _text(usage.get("service_tier")) or answer.service_tier
    answer.finish_reason = _text(data.get("stop_reason")) or answer.finish_reason
    answer.written += characters(data.get("content"))


def _messages_streamed(answer: Answer, data: dict[str, Any]) -> None:
    match data.get("type"):
        case "message_start":
            _messages_whole(answer, _mapping(data.get("message")))
        case "content_block_delta":
            answer.written += characters(data.get("delta"))
        case "message_delta":
            answer.reported(data.get("usage"))
            answer.finish_reason = _text(_mapping(data.get("delta")).get("stop_reason")) or answer.finish_reason
            # It counts the whole output: nothing is written after it.
            answer.whole = "output_tokens" in _mapping(data.get("usage"))
        case "error":
            answer.failed(data.get("error"))
        case _:
            pass


def _gemini(answer: Answer, data: dict[str, Any]) -> None:
    answer.told(data, model="modelVersion", response_id="responseId")
    answer.reported(data.get("usageMetadata"))
    for candidate in _each(data.get("candidates")):
        answer.written += characters(_mapping(candidate.get("content")).get("parts"))
        if reason := _text(candidate.get("finishReason")):
            answer.finish_reason = reason
            answer.whole = True
    if _mapping(data.get("promptFeedback")).get("blockReason"):
        answer.finish_reason = _text(data["promptFeedback"]["blockReason"])
        answer.whole = True
    if data.get("error") is not None:
        answer.failed(data["error"])


def _converse_whole(answer: Answer, data: dict[str, Any]) -> None:
    answer.reported(data.get("usage"))
    answer.finish_reason = _text(data.get("stopReason")) or answer.finish_reason
    answer.service_tier = _text(_mapping(data.get("serviceTier")).get("type")) or answer.service_tier
    answer.written += characters(_mapping(_mapping(data.get("output")).get("message")).get("content"))


def _converse_streamed(answer: Answer, data: dict[str, Any]) -> None:
    for name, said in data.items():
        inner = _mapping(said)
        if name == "contentBlockDelta":
            answer.written += characters(inner.get("delta"))
        elif name == "messageStop":
            answer.finish_reason = _text(inner.get("stopReason")) or answer.finish_reason
        elif name == "metadata":
            answer.reported(inner.get("usage"))
            answer.whole = True
        elif name.lower().endswith("exception"):
            answer.failed({"type": name})


def _invoke_whole(answer: Answer, data: dict[str, Any]) -> None:
    _messages_whole(answer, data)


def _invoke_streamed(answer: Answer, data: dict[str, Any]) -> None:
    # What Bedrock measured comes last, whatever the model's own form is.
    metrics = _mapping(data.get("amazon-bedrock-invocationMetrics"))
    if metrics and not answer.usage:
        answer.reported({"inputTokens": metrics.get("inputTokenCount"), "outputTokens": metrics.get("outputTokenCount")})
    _messages_streamed(answer, data)
    answer.whole = answer.whole or bool(metrics)


def _plain(answer: Answer, data: dict[str, Any]) -> None:
    answer.told(data)
    answer.reported(data.get("usage"))


_WHOLE: Final = {
    "chat": _chat, "completions": _chat, "responses": _responses_whole, "embeddings": _plain, "images": _plain,
    "messages": _messages_whole, "gemini": _gemini, "converse": _converse_whole, "invoke": _invoke_whole,
}  # fmt: skip
_STREAMED: Final = _WHOLE | {
    "responses": _responses_streamed, "messages": _messages_streamed, "converse": _converse_streamed, "invoke": _invoke_streamed,
}  # fmt: skip
