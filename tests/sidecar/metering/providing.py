"""A model provider of the test's own, on a real socket, and answers as real ones give them."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from tests.sidecar.test_proxy import listening

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

USAGE = {
    "prompt_tokens": 120,
    "completion_tokens": 30,
    "total_tokens": 150,
    "prompt_tokens_details": {"cached_tokens": 64},
    "completion_tokens_details": {"reasoning_tokens": 8},
}


def completion(response_id: str = "chatcmpl-1", **more: Any) -> dict[str, Any]:
    return {
        "id": response_id, "object": "chat.completion", "created": 1, "model": "gpt-4o-mini-2024-07-18", "service_tier": "default",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "Hello there"}, "finish_reason": "stop"}],
        "usage": USAGE,
    } | more  # fmt: skip


def chunks(words: int = 5, *, usage: bool, response_id: str = "chatcmpl-s") -> list[bytes]:
    """The events of a chat stream, as OpenAI sends them with or without ``include_usage``."""
    base: dict[str, Any] = {
        "id": response_id, "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o-mini-2024-07-18",
    }  # fmt: skip
    null = {"usage": None} if usage else {}
    found = [
        base | {"choices": [{"index": 0, "delta": {"content": f"word{n} "}, "finish_reason": None}]} | null for n in range(words)
    ]
    found.append(base | {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]} | null)
    if usage:
        found.append(base | {"choices": [], "usage": USAGE})
    return [*(b"data: " + json.dumps(one, separators=(",", ":")).encode() + b"\n\n" for one in found), b"data: [DONE]\n\n"]


def message(**more: Any) -> dict[str, Any]:
    return {
        "id": "msg_1", "type": "message", "role": "assistant", "model": "claude-sonnet-4-5",
        "content": [{"type": "text", "text": "Hello"}], "stop_reason": "end_turn", "stop_sequence": None,
        "usage": {"input_tokens": 10, "cache_creation_input_tokens": 5, "cache_read_input_tokens": 20, "output_tokens": 7},
    } | more  # fmt: skip


def message_events() -> list[bytes]:
    start = message(content=[], stop_reason=None)
    start["usage"] |= {"output_tokens": 1}
    told: list[dict[str, Any]] = [
        {"type": "message_start", "message": start},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        *({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": f"word{n} "}} for n in range(5)),
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": {"output_tokens": 12}},
        {"type": "message_stop"},
    ]
    return [f"event: {one['type']}\ndata: {json.dumps(one)}\n\n".encode() for one in told]


@dataclass
class Provider:
    """What it was asked, and how it answers."""

    url: str = ""
    asked: list[dict[str, Any]] = field(default_factory=list)
    handler: Handler | None = None
    gate: asyncio.Event = field(default_factory=asyncio.Event)
    left: asyncio.Event = field(default_factory=asyncio.Event)
    """A caller left before its answer was whole."""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        body = json.loads(raw) if raw else None
        self.asked.append(
            {"path": request.path_qs, "method": request.method, "headers": dict(request.headers), "raw": raw, "body": body}
        )
        try:
            if self.handler is not None:
                return await self.handler(request)
            return await _usual(request, body or {})
        except (asyncio.CancelledError, ConnectionResetError):
            self.left.set()
            raise


async def _usual(request: web.Request, body: dict[str, Any]) -> web.StreamResponse:
    if request.path.endswith("/messages"):
        return await stream(request, message_events()) if body.get("stream") else web.json_response(message())
    if body.get("stream"):
        asks = (body.get("stream_options") or {}).get("include_usage") is True
        return await stream(request, chunks(usage=asks))
    return web.json_response(completion())


async def stream(
    request: web.Request,
    parts: list[bytes],
    *,
    gate: asyncio.Event | None = None,
    after: int = 0,
    content_type: str = "text/event-stream",
) -> web.StreamResponse:
    """Sends ``parts`` one by one; those ``after`` so many wait for ``gate``."""
    response = web.StreamResponse(headers={"Content-Type": content_type, "X-Request-Id": "req-1"})
    await response.prepare(request)
    for place, part in enumerate(parts):
        if gate is not None and place == after:
            await gate.wait()
        await response.write(part)
    await response.write_eof()
    return response


@asynccontextmanager
async def providing(handler: Handler | None = None) -> AsyncIterator[Provider]:
    provider = Provider(handler=handler)
    application = web.Application(client_max_size=10**9)
    application.router.add_route("*", "/{path:.*}", provider.answer)
    async with listening(application, handler_cancellation=True) as url:
        provider.url = url
        yield provider
