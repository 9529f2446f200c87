"""A client of an OpenAI-compatible chat completions API that records every call."""

import json
import re
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any, Final, TypeGuard

import aiohttp

from _shared.runs import ModelCall, ReportableError, Step
from _shared.settings import Settings

Message = dict[str, str]

_WORD: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_MOST_LINE_BYTES: Final = 1 << 20


class ModelError(ReportableError):
    """The model did not answer. ``retryable`` says whether trying again helps."""


class ModelClient:
    """Calls one model. The caller owns ``session``, and with it the deadline of a call."""

    def __init__(self, settings: Settings, session: aiohttp.ClientSession) -> None:
        self._url = f"{settings.model_url}/chat/completions"
        self._headers = {"Authorization": f"Bearer {settings.model_key}"} if settings.model_key else {}
        self._model = settings.model
        self._provider = settings.provider
        self._session = session

    async def complete(self, step: Step, messages: Sequence[Message], *, max_tokens: int, stream: bool = False) -> str:
        """The model's answer to ``messages``; raises ModelError when there is none."""
        body: dict[str, Any] = {"model": self._model, "messages": list(messages), "max_tokens": max_tokens}
        if stream:
            body |= {"stream": True, "stream_options": {"include_usage": True}}
        with step.model_call(self._provider, self._model) as call:
            headers = {**self._headers, "traceparent": f"00-{step.run.trace_id}-{call.span_id}-01"}
            began = time.perf_counter()
            try:
                async with self._session.post(self._url, json=body, headers=headers) as response:
                    if response.status != 200:
                        raise await _refusal(response)
                    if response.content_type == "text/event-stream":
                        answer = await _read_stream(response, call, began)
                    else:
                        answer = _read_whole(await response.json(content_type=None), call)
            except TimeoutError as error:
                raise ModelError("timeout", "the model server did not answer in time", retryable=True) from error
            except aiohttp.ClientPayloadError as error:
                raise ModelError("response_truncated", "the model server's answer broke off", retryable=True) from error
            except (aiohttp.ClientError, OSError) as error:
                message = f"no connection to the model server ({type(error).__name__})"
                raise ModelError("connection_error", message, retryable=True) from error
            except (ValueError, LookupError, TypeError) as error:
                raise ModelError(
                    "invalid_response", "the model server's answer is not a chat completion", retryable=False
                ) from error
            if call.usage is None:
                call.usage = _estimate(messages, answer)
            return answer


async def _refusal(response: aiohttp.ClientResponse) -> ModelError:
    """What a status other than 200 means. The provider's free text is left out: it may quote the prompt."""
    try:
        error = (await response.json(content_type=None))["error"]
        kind, code = _word(error.get("type")), _word(error.get("code"))
    except (ValueError, LookupError, TypeError, AttributeError):
        kind = code = None
    status = response.status
    message = f"the model server answered HTTP {status}" + (f" ({code})" if code else "")
    return ModelError(
        kind or "http_error", message, code=code or str(status), retryable=status in {408, 409, 429} or status >= 500
    )


def _word(value: Any) -> str | None:
    return value if isinstance(value, str) and _WORD.fullmatch(value) else None


def _note(answer: dict[str, Any], call: ModelCall) -> None:
    """Keeps what an answer or a piece of it says about the call."""
    for theirs, ours in (("id", "response_id"), ("model", "model"), ("service_tier", "service_tier")):
        value = answer.get(theirs)
        if isinstance(value, str) and 0 < len(value) <= 128:
            call.section[ours] = value
    if (usage := _usage(answer.get("usage"))) is not None:
        call.usage = usage


def _usage(reported: Any) -> dict[str, Any] | None:
    """The ``resource_usage`` section of an API ``usage`` object; None where it reports none that adds up."""
    if not isinstance(reported, dict):
        return None
    of_input, of_output = reported.get("prompt_tokens_details") or {}, reported.get("completion_tokens_details") or {}
    sent, made = reported.get("prompt_tokens"), reported.get("completion_tokens")
    cached, reasoned = of_input.get("cached_tokens") or 0, of_output.get("reasoning_tokens") or 0
    if (
        not (_is_count(sent) and _is_count(made) and _is_count(cached) and _is_count(reasoned))
        or cached > sent
        or reasoned > made
    ):
        return None
    return {
        "input_tokens": sent,
        "output_tokens": made,
        "cache_read_tokens": cached,
        "reasoning_tokens": reasoned,
        "total_tokens": sent + made,
    }


def _is_count(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _estimate(messages: Sequence[Message], answer: str) -> dict[str, Any]:
    """Four characters a token, marked as an estimate, for an API that reports no usage."""
    return {
        "input_tokens": sum(len(message["content"]) for message in messages) // 4 + 1,
        "output_tokens": len(answer) // 4 + 1,
        "estimated": True,
    }


def _read_whole(answer: dict[str, Any], call: ModelCall) -> str:
    _note(answer, call)
    choice = answer["choices"][0]
    call.section |= {"streamed": False, "finish_reason": choice.get("finish_reason") or "stop"}
    return str(choice["message"]["content"] or "")


async def _read_stream(response: aiohttp.ClientResponse, call: ModelCall, began: float) -> str:
    call.section["streamed"] = True
    parts: list[str] = []
    async for data in _server_sent(response):
        if data == b"[DONE]":
            return "".join(parts)
        piece = json.loads(data)
        if _word((piece.get("error") or {}).get("type")):
            raise ModelError(piece["error"]["type"], "the model server ended the stream with an error", retryable=True)
        _note(piece, call)
        for choice in piece.get("choices", ()):
            if text := choice.get("delta", {}).get("content"):
                call.section.setdefault("time_to_first_token_ms", round((time.perf_counter() - began) * 1000, 3))
                parts.append(text)
            if choice.get("finish_reason"):
                call.section["finish_reason"] = choice["finish_reason"]
    raise ModelError("response_truncated", "the model server's stream ended without its end mark", retryable=True)


async def _server_sent(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """The ``data:`` lines of a stream of server-sent events; a line above 1 MB is an error."""
    rest = b""
    async for chunk in response.content.iter_any():
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            if line.startswith(b"data:"):
                yield line[5:].strip()
        if len(rest) > _MOST_LINE_BYTES:
            raise ValueError("a line of the stream has no end")
