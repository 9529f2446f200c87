"""A model provider whose every usage is known beforehand: OpenAI's chat, responses and embeddings, and Anthropic's messages.

What it answers depends on the request alone. A question about the weather is answered by a call of the tool ``get_weather``
where that tool is offered and has not answered yet, else in words; the words in ``Saying`` ask for trouble. Every call it
served is in ``served``, with its usage as the ledger must have it: input includes cache, output includes reasoning.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import uuid4

from aiohttp import web

ANSWER: Final = "It is 21 degrees and sunny in Paris."
CITY: Final = "Paris"
TOOL: Final = "get_weather"
OVERLOADED: Final = "be overloaded"
"""Asks for a 500."""
BREAKING: Final = "break off"
"""Asks for a stream that ends in the middle of the answer: the connection is closed."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens as the ledger counts them."""

    input_tokens: int
    output_tokens: int
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    reasoning_tokens: int = 0


ASKING: Final = Usage(1200, 40, cache_read_tokens=1024)
"""The call that is answered by a tool call."""
ANSWERING: Final = Usage(1300, 250, cache_read_tokens=1152, reasoning_tokens=192)
"""The call that is answered in words."""
WRITING: Final = Usage(1200, 40, cache_read_tokens=512, cache_write_tokens=512)
"""``ASKING``, where the provider tells of cache writes (Anthropic)."""
READING: Final = Usage(1300, 250, cache_read_tokens=1024, cache_write_tokens=128)
EMBEDDING: Final = Usage(9, 0)


@dataclass(frozen=True, slots=True)
class Served:
    """One call as the provider knows it."""

    response_id: str
    api: str
    model: str
    usage: Usage | None
    """None where the caller was never told."""
    streamed: bool
    traceparent: str | None
    at: int = 0
    """When it was asked, in nanoseconds since 1970."""


@dataclass(slots=True)
class ModelServer:
    """Serves ``/v1/…``; any API key is good."""

    served: list[Served] = field(default_factory=list)
    port: int = 0

    @property
    def openai_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    @property
    def anthropic_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def application(self) -> web.Application:
        application = web.Application(client_max_size=10_000_000)
        application.router.add_post("/v1/chat/completions", self._chat)
        application.router.add_post("/v1/responses", self._responses)
        application.router.add_post("/v1/embeddings", self._embeddings)
        application.router.add_post("/v1/messages", self._messages)
        return application

    def _serve(self, request: web.Request, asked: Mapping[str, Any], prefix: str, usage: Usage | None) -> Served:
        """Writes the call down."""
        served = Served(
            response_id=f"{prefix}{uuid4().hex}",
            api=request.path,
            model=asked["model"],
            usage=usage,
            streamed=bool(asked.get("stream")),
            traceparent=request.headers.get("traceparent"),
            at=time.time_ns(),
        )
        self.served.append(served)
        return served

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        asked = await request.json()
        text = json.dumps(asked["messages"])
        if OVERLOADED in text:
            return _refused(self._serve(request, asked, "none", None))
        calls_tool = _offers(asked) and not any(message["role"] == "tool" for message in asked["messages"])
        usage = ASKING if calls_tool else ANSWERING
        told = asked.get("stream_options", {}).get("include_usage", False) if asked.get("stream") else True
        served = self._serve(request, asked, "chatcmpl-", usage if told and BREAKING not in text else None)
        body = _chat_body(served, usage, calls_tool=calls_tool)
        if not asked.get("stream"):
            return web.json_response(body)
        return await _stream(request, _chat_chunks(body, told=told), breaks=BREAKING in text)

    async def _responses(self, request: web.Request) -> web.StreamResponse:
        asked = await request.json()
        text = json.dumps(asked["input"])
        if OVERLOADED in text:
            return _refused(self._serve(request, asked, "none", None))
        calls_tool = _offers(asked) and "function_call_output" not in text
        usage = ASKING if calls_tool else ANSWERING
        served = self._serve(request, asked, "resp_", None if BREAKING in text else usage)
        body = _response_body(served, asked, usage, calls_tool=calls_tool)
        if not asked.get("stream"):
            return web.json_response(body)
        return await _stream(request, _response_events(body), breaks=BREAKING in text, done=False)

    async def _embeddings(self, request: web.Request) -> web.Response:
        asked = await request.json()
        self._serve(request, asked, "none", EMBEDDING)
        inputs = (
            asked["input"] if isinstance(asked["input"], list) and not isinstance(asked["input"][0], int) else [asked["input"]]
        )
        data = [{"object": "embedding", "index": place, "embedding": [0.25, -0.5, 0.125]} for place, _ in enumerate(inputs)]
        usage = {"prompt_tokens": EMBEDDING.input_tokens, "total_tokens": EMBEDDING.input_tokens}
        return web.json_response({"object": "list", "data": data, "model": asked["model"], "usage": usage})

    async def _messages(self, request: web.Request) -> web.StreamResponse:
        asked = await request.json()
        text = json.dumps(asked["messages"])
        if OVERLOADED in text:
            return _refused(self._serve(request, asked, "none", None))
        calls_tool = _offers(asked) and "tool_result" not in text
        usage = WRITING if calls_tool else READING
        served = self._serve(request, asked, "msg_", None if BREAKING in text else usage)
        body = _message_body(served, usage, calls_tool=calls_tool)
        if not asked.get("stream"):
            return web.json_response(body)
        return await _stream(request, _message_events(body), breaks=BREAKING in text, done=False)


def _offers(asked: Mapping[str, Any]) -> bool:
    return TOOL in json.dumps(asked.get("tools") or [])


def _refused(_served: Served) -> web.Response:
    error = {
        "message": "The server had an error while processing your request",
        "type": "server_error",
        "param": None,
        "code": None,
    }
    # `x-should-retry` keeps clients from trying again: one call is one call.
    return web.json_response({"error": error}, status=500, headers={"x-should-retry": "false"})


def _chat_body(served: Served, usage: Usage, *, calls_tool: bool) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": None if calls_tool else ANSWER, "refusal": None}
    if calls_tool:
        function = {"name": TOOL, "arguments": json.dumps({"city": CITY})}
        message["tool_calls"] = [{"id": f"call_{served.response_id}", "type": "function", "function": function}]
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "tool_calls" if calls_tool else "stop"}
    return {
        "id": served.response_id,
        "object": "chat.completion",
        "created": 1_790_000_000,
        "model": served.model,
        "choices": [choice],
        "service_tier": "default",
        "system_fingerprint": "fp_scripted",
        "usage": {
            "prompt_tokens": usage.input_tokens,
            "completion_tokens": usage.output_tokens,
            "total_tokens": usage.input_tokens + usage.output_tokens,
            "prompt_tokens_details": {"cached_tokens": usage.cache_read_tokens, "audio_tokens": 0},
            "completion_tokens_details": {
                "reasoning_tokens": usage.reasoning_tokens,
                "audio_tokens": 0,
                "accepted_prediction_tokens": 0,
                "rejected_prediction_tokens": 0,
            },
        },
    }


def _chat_chunks(body: Mapping[str, Any], *, told: bool) -> list[tuple[str | None, dict[str, Any]]]:
    """The events of the stream that tells the same as ``body``."""
    choice = body["choices"][0]
    envelope = {name: body[name] for name in ("id", "created", "model", "service_tier", "system_fingerprint")}
    envelope["object"] = "chat.completion.chunk"
    if told:
        envelope["usage"] = None

    def chunk(delta: Mapping[str, Any], finish_reason: str | None = None) -> tuple[None, dict[str, Any]]:
        return None, {**envelope, "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}]}

    chunks: list[tuple[str | None, dict[str, Any]]] = [chunk({"role": "assistant", "content": ""})]
    for place, call in enumerate(choice["message"].get("tool_calls", ())):
        name = {"name": call["function"]["name"], "arguments": ""}
        chunks.append(chunk({"tool_calls": [{"index": place, "id": call["id"], "type": "function", "function": name}]}))
        arguments = {"arguments": call["function"]["arguments"]}
        chunks.append(chunk({"tool_calls": [{"index": place, "function": arguments}]}))
    chunks += [chunk({"content": word}) for word in _words(choice["message"]["content"])]
    chunks.append(chunk({}, choice["finish_reason"]))
    if told:
        chunks.append((None, {**envelope, "choices": [], "usage": body["usage"]}))
    return chunks


def _words(text: str | None) -> list[str]:
    return [] if text is None else [f"{word} " for word in text.split(" ")[:-1]] + text.split(" ")[-1:]


def _response_body(served: Served, asked: Mapping[str, Any], usage: Usage, *, calls_tool: bool) -> dict[str, Any]:
    if calls_tool:
        item: dict[str, Any] = {
            "type": "function_call",
            "id": f"fc_{served.response_id}",
            "call_id": f"call_{served.response_id}",
            "name": TOOL,
            "arguments": json.dumps({"city": CITY}),
            "status": "completed",
        }
    else:
        text = {"type": "output_text", "text": ANSWER, "annotations": [], "logprobs": []}
        item = {
            "type": "message",
            "id": f"msg_{served.response_id}",
            "role": "assistant",
            "status": "completed",
            "content": [text],
        }
    return {
        "id": served.response_id,
        "object": "response",
        "created_at": 1_790_000_000,
        "status": "completed",
        "error": None,
        "incomplete_details": None,
        "instructions": asked.get("instructions"),
        "metadata": {},
        "model": served.model,
        "output": [item],
        "parallel_tool_calls": True,
        "temperature": 1.0,
        "tool_choice": "auto",
        "tools": asked.get("tools", []),
        "top_p": 1.0,
        "service_tier": "default",
        "usage": {
            "input_tokens": usage.input_tokens,
            "input_tokens_details": {"cached_tokens": usage.cache_read_tokens, "cache_write_tokens": 0},
            "output_tokens": usage.output_tokens,
            "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
            "total_tokens": usage.input_tokens + usage.output_tokens,
        },
    }


def _response_events(body: Mapping[str, Any]) -> list[tuple[str | None, dict[str, Any]]]:
    item = body["output"][0]
    begun = {**body, "status": "in_progress", "output": [], "usage": None}
    told: list[tuple[str, dict[str, Any]]] = [
        ("response.created", {"response": begun}),
        ("response.in_progress", {"response": begun}),
    ]
    place: dict[str, Any] = {"item_id": item["id"], "output_index": 0}
    if item["type"] == "function_call":
        told += [
            ("response.output_item.added", {"output_index": 0, "item": {**item, "arguments": "", "status": "in_progress"}}),
            ("response.function_call_arguments.delta", {**place, "delta": item["arguments"]}),
            ("response.function_call_arguments.done", {**place, "arguments": item["arguments"], "name": item["name"]}),
        ]
    else:
        part = item["content"][0]
        place["content_index"] = 0
        told += [
            ("response.output_item.added", {"output_index": 0, "item": {**item, "content": [], "status": "in_progress"}}),
            ("response.content_part.added", {**place, "part": {**part, "text": ""}}),
            *(("response.output_text.delta", {**place, "delta": word, "logprobs": []}) for word in _words(part["text"])),
            ("response.output_text.done", {**place, "text": part["text"], "logprobs": []}),
            ("response.content_part.done", {**place, "part": part}),
        ]
    told += [("response.output_item.done", {"output_index": 0, "item": item}), ("response.completed", {"response": body})]
    return [(kind, {"type": kind, "sequence_number": number, **event}) for number, (kind, event) in enumerate(told)]


def _message_body(served: Served, usage: Usage, *, calls_tool: bool) -> dict[str, Any]:
    content: dict[str, Any] = {"type": "text", "text": ANSWER, "citations": None}
    if calls_tool:
        content = {"type": "tool_use", "id": f"toolu_{served.response_id}", "name": TOOL, "input": {"city": CITY}}
    return {
        "id": served.response_id,
        "type": "message",
        "role": "assistant",
        "model": served.model,
        "content": [content],
        "stop_reason": "tool_use" if calls_tool else "end_turn",
        "stop_sequence": None,
        # Anthropic's input leaves out what was read from and written to the cache.
        "usage": {
            "input_tokens": usage.input_tokens - usage.cache_read_tokens - usage.cache_write_tokens,
            "cache_creation_input_tokens": usage.cache_write_tokens,
            "cache_read_input_tokens": usage.cache_read_tokens,
            "cache_creation": {"ephemeral_5m_input_tokens": usage.cache_write_tokens, "ephemeral_1h_input_tokens": 0},
            "output_tokens": usage.output_tokens,
            "service_tier": "standard",
        },
    }


def _message_events(body: Mapping[str, Any]) -> list[tuple[str | None, dict[str, Any]]]:
    content = body["content"][0]
    begun = {**body, "content": [], "stop_reason": None, "usage": {**body["usage"], "output_tokens": 1}}
    told: list[tuple[str, dict[str, Any]]] = [("message_start", {"message": begun})]
    if content["type"] == "tool_use":
        told.append(("content_block_start", {"index": 0, "content_block": {**content, "input": {}}}))
        delta = {"type": "input_json_delta", "partial_json": json.dumps(content["input"])}
        told.append(("content_block_delta", {"index": 0, "delta": delta}))
    else:
        told.append(("content_block_start", {"index": 0, "content_block": {**content, "text": ""}}))
        for word in _words(content["text"]):
            told.append(("content_block_delta", {"index": 0, "delta": {"type": "text_delta", "text": word}}))
    told += [
        ("content_block_stop", {"index": 0}),
        (
            "message_delta",
            {
                "delta": {"stop_reason": body["stop_reason"], "stop_sequence": None},
                "usage": {"output_tokens": body["usage"]["output_tokens"]},
            },
        ),
        ("message_stop", {}),
    ]
    return [(kind, {"type": kind, **event}) for kind, event in told]


async def _stream(
    request: web.Request, events: list[tuple[str | None, dict[str, Any]]], *, breaks: bool, done: bool = True
) -> web.StreamResponse:
    """Sends ``events``; two thirds of them where it ``breaks``, and then the connection is gone."""
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    for kind, event in events[: len(events) * 2 // 3] if breaks else events:
        named = b"" if kind is None else f"event: {kind}\n".encode()
        await response.write(named + b"data: " + json.dumps(event).encode() + b"\n\n")
        await asyncio.sleep(0)
    if breaks:
        assert request.transport is not None
        request.transport.close()
        return response
    if done:
        await response.write(b"data: [DONE]\n\n")
    await response.write_eof()
    return response


@asynccontextmanager
async def serving() -> AsyncIterator[ModelServer]:
    """A model server on a port of its own."""
    server = ModelServer()
    runner = web.AppRunner(server.application(), access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    server.port = runner.addresses[0][1]
    try:
        yield server
    finally:
        await runner.cleanup()
