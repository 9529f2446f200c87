"""The HTTP side: OpenAI's chat completions over aiohttp."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import uuid4

from aiohttp import web

from examples.model_server.answers import answer
from examples.model_server.pace import Pace
from examples.model_server.prefixes import PrefixCache
from examples.model_server.requests import Completion, RefusedError, read_completion
from examples.model_server.tokens import pieces, prompt_tokens

MODELS: Final = (
    "gpt-4o-mini", "gpt-4o", "gpt-4.1", "gpt-4.1-mini", "gpt-4.1-nano", "gpt-5", "gpt-5-mini", "gpt-5-nano", "o3", "o4-mini",
)  # fmt: skip
MOST_BODY_BYTES: Final = 4_000_000
CONTEXT_TOKENS: Final = 128_000
_SHORTEST_SLEEP_S: Final = 0.002

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Reply:
    """What one request gets."""

    response_id: str
    created: int
    model: str
    tokens: Sequence[str]
    finish_reason: str
    usage: dict[str, Any]

    def envelope(self, kind: str) -> dict[str, Any]:
        return {
            "id": self.response_id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": "fp_extractive_1",
        }


class ModelServer:
    """Answers chat completions for ``models``; any API key is good."""

    def __init__(self, pace: Pace, models: Sequence[str] = MODELS) -> None:
        self._pace = pace
        self._models = tuple(models)
        self._prefixes = PrefixCache()
        self._began = int(time.time())

    def application(self) -> web.Application:
        """The application to serve."""
        application = web.Application(client_max_size=MOST_BODY_BYTES, middlewares=[_openai_errors])
        application.router.add_get("/health", self._health)
        application.router.add_get("/v1/models", self._list_models)
        application.router.add_get("/v1/models/{model}", self._show_model)
        application.router.add_post("/v1/chat/completions", self._complete)
        return application

    async def _health(self, _request: web.Request) -> web.Response:
        return web.json_response({"status": "ok"})

    async def _list_models(self, _request: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [self._model(name) for name in self._models]})

    async def _show_model(self, request: web.Request) -> web.Response:
        name = request.match_info["model"]
        if name not in self._models:
            raise RefusedError(404, f"The model '{name}' does not exist", param="model", code="model_not_found")
        return web.json_response(self._model(name))

    def _model(self, name: str) -> dict[str, Any]:
        return {"id": name, "object": "model", "created": self._began, "owned_by": "model-server"}

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        asked = read_completion(await request.read(), self._models)
        prompt = list(prompt_tokens(asked.messages))
        if len(prompt) > CONTEXT_TOKENS:
            excuse = f"This model's maximum context length is {CONTEXT_TOKENS} tokens. However, your messages resulted in {len(prompt)} tokens."
            raise RefusedError(400, excuse, param="messages", code="context_length_exceeded")
        owner = f"{asked.model}\0{request.headers.get('Authorization', '')}"
        cached = self._prefixes.cached(owner, prompt)
        reply = _reply(asked, len(prompt), cached)
        await asyncio.sleep(self._pace.first_token_s(len(prompt) - cached))
        # Only a prompt that was read helps a later one, hence after the wait.
        self._prefixes.remember(owner, prompt)
        if asked.stream:
            return await self._stream(request, reply, include_usage=asked.include_usage)
        await asyncio.sleep(sum(self._pace.token_waits_s(len(reply.tokens))))
        message = {"role": "assistant", "content": "".join(reply.tokens), "refusal": None}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": reply.finish_reason}
        return web.json_response({**reply.envelope("chat.completion"), "choices": [choice], "usage": reply.usage})

    async def _stream(self, request: web.Request, reply: Reply, *, include_usage: bool) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-cache"})
        usage = {"usage": None} if include_usage else {}

        async def send(delta: dict[str, Any], finish_reason: str | None = None) -> None:
            choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
            await response.write(_sent({**reply.envelope("chat.completion.chunk"), "choices": [choice], **usage}))

        try:
            await response.prepare(request)
            await send({"role": "assistant", "content": ""})
            owed_s = 0.0
            for token, wait_s in zip(reply.tokens, [0.0, *self._pace.token_waits_s(len(reply.tokens))], strict=False):
                owed_s += wait_s
                if owed_s >= _SHORTEST_SLEEP_S:
                    await asyncio.sleep(owed_s)
                    owed_s = 0.0
                await send({"content": token})
            await send({}, reply.finish_reason)
            if include_usage:
                await response.write(_sent({**reply.envelope("chat.completion.chunk"), "choices": [], "usage": reply.usage}))
            await response.write(b"data: [DONE]\n\n")
            await response.write_eof()
        except ConnectionError:
            # The client left; there is nobody to tell.
            return response
        return response


def _reply(asked: Completion, input_tokens: int, cached: int) -> Reply:
    tokens = pieces(answer(asked.messages))
    cut = asked.max_tokens is not None and len(tokens) > asked.max_tokens
    tokens = tokens[: asked.max_tokens]
    usage = {
        "prompt_tokens": input_tokens,
        "completion_tokens": len(tokens),
        "total_tokens": input_tokens + len(tokens),
        "prompt_tokens_details": {"cached_tokens": cached, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0, "audio_tokens": 0},
    }
    return Reply(f"chatcmpl-{uuid4().hex}", int(time.time()), asked.model, tokens, "length" if cut else "stop", usage)


def _sent(value: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(value, separators=(",", ":")).encode() + b"\n\n"


@web.middleware
async def _openai_errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Every error in OpenAI's shape."""
    try:
        return await handler(request)
    except RefusedError as error:
        return _error(error.status, str(error), param=error.param, code=error.code)
    except web.HTTPNotFound:
        return _error(404, f"Invalid URL ({request.method} {request.path})")
    except web.HTTPException as error:
        return _error(error.status, error.reason)


def _error(status: int, message: str, *, param: str | None = None, code: str | None = None) -> web.Response:
    error = {"message": message, "type": "invalid_request_error", "param": param, "code": code}
    return web.json_response({"error": error}, status=status)
