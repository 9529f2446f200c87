"""Calls pass as they were sent and as they are answered; what breaks off is billed for what is known of it."""

import asyncio
import gzip
import json
from collections import deque
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from tests.conftest import until
from tests.sidecar.metering.front import Front, front
from tests.sidecar.metering.providing import USAGE, chunks, completion, message, message_events, stream

ASKED = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "x" * 400}]}


async def test_a_request_and_its_answer_pass_byte_for_byte(tmp_path: Path) -> None:
    raw = b'{ "model" : "gpt-4o-mini",\n "messages":[{"role":"user","content":"\\u00e9 1.0000000000000000001"}] }'
    answer = json.dumps(completion(), indent=3).encode()

    async def odd(request: web.Request) -> web.Response:
        return web.Response(body=answer, status=201, headers={"X-Request-Id": "r1", "Content-Type": "application/json"})

    async with front(tmp_path, odd) as here:
        url = f"{here.openai}/chat/completions?a=%2Fb&empty"
        async with here.http.post(url, data=raw, headers={"X-Own": "1", "Content-Type": "application/json"}) as response:
            assert (response.status, await response.read()) == (201, answer)
            assert response.headers["X-Request-Id"] == "r1"
        asked = here.provider.asked[0]
        assert (asked["raw"], asked["path"]) == (raw, "/v1/chat/completions?a=/b&empty")
        assert asked["headers"]["X-Own"] == "1"
        assert asked["headers"]["Host"] == here.provider.url.removeprefix("http://")


async def test_usage_is_asked_for_and_hidden_from_a_client_that_did_not_ask(tmp_path: Path) -> None:
    """What it reads is what it would have read without the proxy, to the byte."""
    async with front(tmp_path) as here:
        assert (await here.chat(stream=True))[1] == b"".join(chunks(usage=False))
        assert here.provider.asked[0]["raw"].startswith(b'{"stream_options":{"include_usage":true},')
        assert (await here.chat(stream=True, stream_options={"include_usage": True}))[1] == b"".join(chunks(usage=True))
        assert (await here.chat(stream=True, stream_options={"include_usage": False}))[1] == b"".join(chunks(usage=False))
        for call in await here.told(3):
            assert call.resource_usage is not None
            assert (call.resource_usage.input_tokens, call.resource_usage.estimated) == (120, False)


async def test_hidden_usage_stays_hidden_however_the_stream_is_cut(tmp_path: Path) -> None:
    whole = b"".join(chunks(usage=True))

    async def cut(request: web.Request) -> web.StreamResponse:
        step = int(request.headers["X-Step"])
        return await stream(request, [whole[at : at + step] for at in range(0, len(whole), step)])

    async with front(tmp_path, cut) as here:
        for step in (1, 7, 100, 1000):
            assert (await here.chat(stream=True, headers={"X-Step": str(step)}))[1] == b"".join(chunks(usage=False))
        assert [call.resource_usage.output_tokens for call in await here.told(4) if call.resource_usage] == [30] * 4


async def test_a_provider_that_refuses_to_say_its_usage_is_asked_as_the_client_asked(tmp_path: Path) -> None:
    async def strict(request: web.Request) -> web.StreamResponse:
        if "stream_options" in json.loads(await request.read()):
            return web.json_response(
                {"error": {"message": "unknown field stream_options", "type": "invalid_request_error"}}, status=400
            )
        return await stream(request, chunks(usage=False))

    async with front(tmp_path, strict) as here:
        for _ in range(2):
            assert await here.chat(stream=True) == (200, b"".join(chunks(usage=False)))
        first, second = await here.told(2)
        assert first.resource_usage is not None
        assert first.resource_usage.estimated
        assert second.event_type == "model_call.completed"
        # Asked twice the first time, and once from then on.
        assert len(here.provider.asked) == 3


async def test_a_compressed_answer_is_read_and_stays_compressed(tmp_path: Path) -> None:
    packed = gzip.compress(json.dumps(completion()).encode())

    async def zipped(request: web.Request) -> web.Response:
        return web.Response(body=packed, headers={"Content-Encoding": "gzip", "Content-Type": "application/json"})

    async with front(tmp_path, zipped) as here:
        assert (await here.chat(headers={"Accept-Encoding": "br, gzip;q=0.5, zstd"}))[1] == packed
        assert here.provider.asked[0]["headers"]["Accept-Encoding"] == "gzip;q=0.5"
        [call] = await here.told()
        assert call.resource_usage is not None
        assert call.resource_usage.input_tokens == USAGE["prompt_tokens"]


async def test_words_reach_the_client_while_the_model_still_writes(tmp_path: Path) -> None:
    async def slow(request: web.Request) -> web.StreamResponse:
        return await stream(request, chunks(usage=True), gate=here.provider.gate, after=2)

    async with front(tmp_path, slow) as here:
        async with here.http.post(f"{here.openai}/chat/completions", json={**ASKED, "stream": True}) as response:
            seen = b""
            while b"word1" not in seen:
                seen += await response.content.readany()
            assert here.calls() == []
            here.provider.gate.set()
            seen += await response.content.read()
        assert seen == b"".join(chunks(usage=False))


async def test_a_client_that_leaves_ends_the_call_and_is_billed_by_estimate(tmp_path: Path) -> None:
    async def slow(request: web.Request) -> web.StreamResponse:
        return await stream(request, chunks(usage=True), gate=here.provider.gate, after=3)

    async with front(tmp_path, slow) as here:
        response = await here.http.post(f"{here.openai}/chat/completions", json={**ASKED, "stream": True})
        seen = b""
        while b"word2" not in seen:
            seen += await response.content.readany()
        response.close()
        await until(here.provider.left.is_set, "the provider sees it leave")
        [call] = await here.told()
        assert (call.event_type, call.error and call.error.type) == ("model_call.failed", "cancelled")
        assert call.resource_usage is not None
        assert call.resource_usage.estimated
        assert 100 <= call.resource_usage.input_tokens <= 110
        assert call.resource_usage.output_tokens == 5
        assert call.attributes["agentops.estimated_because"] == "the answer reports no usage"
        assert here.door.in_flight == 0


async def test_a_client_that_leaves_before_the_first_word_is_billed_for_its_question(tmp_path: Path) -> None:
    async def never(request: web.Request) -> web.StreamResponse:
        await here.provider.gate.wait()
        return web.Response()

    async with front(tmp_path, never) as here:
        asking = asyncio.create_task(here.http.post(f"{here.openai}/chat/completions", json=ASKED))
        await until(lambda: bool(here.provider.asked), "the provider is asked")
        asking.cancel()
        await until(here.provider.left.is_set, "the provider sees it leave")
        [call] = await here.told()
        assert call.resource_usage is not None
        assert (call.resource_usage.estimated, call.resource_usage.output_tokens) == (True, 0)


async def test_a_client_that_hangs_up_at_the_end_mark_has_not_failed(tmp_path: Path) -> None:
    async def lingering(request: web.Request) -> web.StreamResponse:
        return await stream(request, [*message_events(), b": more\n\n"], gate=here.provider.gate, after=len(message_events()))

    async with front(tmp_path, lingering) as here:
        response = await here.http.post(f"{here.anthropic}/v1/messages", json={**ASKED, "stream": True})
        seen = b""
        while b"message_stop" not in seen:
            seen += await response.content.readany()
        response.close()
        [call] = await here.told()
        assert call.event_type == "model_call.completed"
        assert call.resource_usage is not None
        assert (call.resource_usage.output_tokens, call.resource_usage.estimated) == (12, False)


@pytest.mark.parametrize(
    ("shape", "estimated", "input_tokens", "output_tokens"),
    [("chat", True, 103, 6), ("messages", True, 35, 6), ("gemini", False, 9, 4)],
)
async def test_a_broken_stream_is_billed_for_what_was_reported_or_by_estimate(
    tmp_path: Path, shape: str, estimated: bool, input_tokens: int, output_tokens: int
) -> None:
    """Chat reports at the end alone, messages their input at the beginning, Gemini with every event."""
    told = {
        "chat": chunks(usage=True)[:4],
        "messages": message_events()[:6],
        "gemini": [
            b"data: " + json.dumps({
                "candidates": [{"content": {"parts": [{"text": "word"}]}}], "modelVersion": "gemini-2.5-flash", "responseId": "g1",
                "usageMetadata": {"promptTokenCount": 9, "candidatesTokenCount": count},
            }).encode() + b"\r\n\r\n" for count in (2, 4)
        ],
    }[shape]  # fmt: skip

    async def broken(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for part in told:
            await response.write(part)
        await here.provider.gate.wait()
        assert request.transport is not None
        request.transport.abort()
        return response

    async with front(tmp_path, broken) as here:
        path = {
            "chat": f"{here.openai}/chat/completions", "messages": f"{here.anthropic}/v1/messages",
            "gemini": f"{here.url}/gemini/v1beta/models/gemini-2.5-flash:streamGenerateContent?alt=sse",
        }[shape]  # fmt: skip
        with pytest.raises((aiohttp.ClientError, ConnectionError)):
            async with here.http.post(path, json={**ASKED, "stream": True}) as response:
                await response.content.readany()
                here.provider.gate.set()
                await response.content.read()
        [call] = await here.told()
        assert (call.event_type, call.error and call.error.type) == ("model_call.failed", "response_truncated")
        usage = call.resource_usage
        assert usage is not None
        assert (usage.estimated, usage.input_tokens, usage.output_tokens) == (estimated, input_tokens, output_tokens)


async def test_a_client_that_reads_slowly_slows_the_provider_down(tmp_path: Path) -> None:
    """Memory stays bounded: the provider cannot write what nobody reads."""
    written = 0

    async def endless(request: web.Request) -> web.StreamResponse:
        nonlocal written
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        part = b"data: " + json.dumps({"choices": [{"index": 0, "delta": {"content": "x" * 60_000}}]}).encode() + b"\n\n"
        for _ in range(2000):
            await response.write(part)
            written += len(part)
        return response

    async with front(tmp_path, endless) as here:
        response = await here.http.post(f"{here.openai}/chat/completions", json={**ASKED, "stream": True})
        await response.content.readany()
        seen: deque[int] = deque(maxlen=25)

        def stands() -> bool:
            seen.append(written)
            return len(seen) == 25 and len(set(seen)) == 1

        await until(stands, "the provider is not let go on")
        assert 0 < written < 40_000_000
        response.close()
        await here.told()


@pytest.mark.parametrize(
    ("path", "body", "status", "kind", "retryable"),
    [
        ("openai/v1/chat/completions", {"error": {"type": "insufficient_quota", "code": "insufficient_quota", "message": "x secret x"}}, 429, "insufficient_quota", True),
        ("anthropic/v1/messages", {"type": "error", "error": {"type": "overloaded_error", "message": "x secret x"}}, 529, "overloaded_error", True),
        ("gemini/v1beta/models/g:generateContent", {"error": {"code": 400, "status": "INVALID_ARGUMENT", "message": "x secret x"}}, 400, "INVALID_ARGUMENT", False),
        ("openai/v1/responses", "not json, secret", 500, "http_error", True),
    ],
)  # fmt: skip
async def test_an_error_of_the_provider_passes_costs_nothing_and_is_not_quoted(
    tmp_path: Path, path: str, body: Any, status: int, kind: str, retryable: bool
) -> None:
    async def failing(request: web.Request) -> web.Response:
        return web.json_response(body, status=status)

    async with front(tmp_path, failing) as here:
        async with here.http.post(f"{here.url}/{path}", json=ASKED) as response:
            assert (response.status, await response.json()) == (status, body)
        [call] = await here.told()
        assert call.error is not None
        assert (call.event_type, call.error.type, call.error.retryable) == ("model_call.failed", kind, retryable)
        assert call.resource_usage is None
        assert "secret" not in call.model_dump_json()


async def test_a_provider_that_is_away_is_told_in_its_own_words(tmp_path: Path) -> None:
    async with front(tmp_path, to="http://127.0.0.1:9") as here:
        async with here.http.post(f"{here.anthropic}/v1/messages", json=ASKED) as response:
            told = await response.json()
            assert (response.status, told["type"], told["error"]["code"]) == (502, "error", "upstream_unreachable")
            assert "Connection refused" in told["error"]["message"]
        [call] = await here.told()
        assert (call.event_type, call.resource_usage) == ("model_call.failed", None)


async def test_what_calls_no_model_passes_unmetered(tmp_path: Path) -> None:
    async def models(request: web.Request) -> web.Response:
        return web.json_response({"data": [], "usage": USAGE})

    async with front(tmp_path, models) as here:
        async with here.http.get(f"{here.openai}/models") as response:
            assert response.status == 200
        async with here.http.post(f"{here.anthropic}/v1/messages/count_tokens", json=ASKED) as response:
            assert response.status == 200
        async with here.http.get(f"{here.url}/nobody/v1") as response:
            assert response.status == 404
            assert "/openai" in (await response.json())["error"]["message"]
        assert here.events == []


async def test_an_answer_asked_for_again_is_one_call(tmp_path: Path) -> None:
    """In the background a call has no usage before it is over; whoever polls it is billed once."""
    statuses = ["queued", "in_progress", "completed", "completed"]

    async def later(request: web.Request) -> web.Response:
        status = statuses.pop(0)
        usage = {"input_tokens": 5, "output_tokens": 3} if status == "completed" else None
        return web.json_response({"id": "resp_1", "model": "gpt-5", "status": status, "usage": usage})

    async with front(tmp_path, later) as here:
        async with here.http.post(f"{here.openai}/responses", json={"model": "gpt-5", "input": "x", "background": True}):
            pass
        while statuses:
            async with here.http.get(f"{here.openai}/responses/resp_1") as response:
                await response.read()
        [call] = await here.told()
        await until(lambda: here.door.in_flight == 0, "all are over")
        assert len(here.calls()) == 1
        assert call.model_call is not None
        assert call.model_call.response_id == "resp_1"


async def test_a_request_too_large_to_be_read_streams_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sidecar.metering.door.MOST_REQUEST_BYTES", 1000)
    body = json.dumps({**ASKED, "user": "y" * 3000}).encode()

    async def parts() -> Any:
        yield body[:1500]
        yield body[1500:]

    async with front(tmp_path) as here:
        for data in (body, parts()):
            async with here.http.post(f"{here.openai}/chat/completions", data=data) as response:
                assert response.status == 200
            assert here.provider.asked[-1]["raw"] == body
        for call in await here.told(2):
            assert call.resource_usage is not None
            assert call.resource_usage.input_tokens == 120


async def _dribbling(body: bytes) -> Any:
    for byte in body:
        yield bytes([byte])
        await asyncio.sleep(0.1)


@pytest.mark.parametrize("path", ["chat/completions", "files"])
async def test_a_request_that_dribbles_in_is_given_up(tmp_path: Path, path: str) -> None:
    """One that calls a model is read first, one that calls none streams through: neither holds the door."""
    async with front(tmp_path, idle_s=1.0) as here:
        data = _dribbling(json.dumps(ASKED).encode())
        with suppress(aiohttp.ClientConnectionError):
            async with here.http.post(f"{here.openai}/{path}", data=data) as response:
                assert response.status == 408
                assert (await response.json())["error"]["code"] == "slow_request"
        await until(lambda: here.door.in_flight == 0, "it is over")
        assert here.calls() == []
        assert (await here.chat())[0] == 200


async def test_an_upload_that_goes_on_may_last(tmp_path: Path) -> None:
    """Longer than the door waits for one that stalls."""
    body = json.dumps({**ASKED, "user": "y" * 40_000}).encode()

    async def steadily() -> Any:
        for begin in range(0, len(body), 2_000):
            yield body[begin : begin + 2_000]
            await asyncio.sleep(0.15)

    async with (
        front(tmp_path, idle_s=1.5) as here,
        here.http.post(f"{here.openai}/chat/completions", data=steadily()) as response,
    ):
        assert response.status == 200
        assert here.provider.asked[-1]["raw"] == body


async def test_bodies_held_together_have_a_bound_and_what_is_beyond_streams_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sidecar.metering.door.MOST_HELD_BYTES", 6_000)
    body = json.dumps({**ASKED, "user": "y" * 4_000}).encode()
    held, go_on = asyncio.Event(), asyncio.Event()

    async def half() -> Any:
        yield body[:-1]
        held.set()
        await go_on.wait()
        yield body[-1:]

    async with front(tmp_path) as here:
        url = f"{here.openai}/chat/completions"
        first = asyncio.create_task(here.http.post(url, data=half()))
        await until(held.is_set, "most of it is sent")
        async with here.http.post(url, data=body) as response:
            assert response.status == 200
        go_on.set()
        assert (await first).status == 200
        assert [asked["raw"] for asked in here.provider.asked] == [body, body]
        assert all(call.resource_usage is not None for call in await here.told(2))


async def test_attribution_is_followed_or_refused_and_never_guessed(tmp_path: Path) -> None:
    async def headed(here: Front, **headers: str) -> tuple[int, Any]:
        told = {f"x-agentops-{name}": value for name, value in headers.items()}
        status, raw = await here.chat(headers=told)
        return status, json.loads(raw)

    async with front(tmp_path) as here:
        assert (await headed(here, tenant="acme", project="other", run="r1", user="ann"))[0] == 200
        [call] = await here.told()
        assert (call.tenant.project_id, call.run.run_id, call.attributes["user.id"]) == ("other", "r1", "ann")
        for headers, named in (
            ({"tenant": "rival"}, "rival"),
            ({"project": "a b"}, "a b"),
            ({"run": "x" * 129}, "x-agentops-run"),
        ):
            status, told = await headed(here, **headers)
            assert (status, told["error"]["code"]) == (400, "invalid_attribution")
            assert named in told["error"]["message"]
        assert len(here.calls()) == 1


async def test_a_trace_context_names_run_and_parent(tmp_path: Path) -> None:
    trace, span = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
    async with front(tmp_path) as here:
        await here.chat(headers={"traceparent": f"00-{trace}-{span}-01"})
        await here.chat(headers={"traceparent": "nonsense"})
        first, second = await here.told(2)
        assert first.trace is not None
        assert (first.trace.trace_id, first.trace.parent_span_id, first.run.run_id) == (trace, span, trace)
        assert first.trace.span_id not in {None, span}
        assert second.trace is None
        assert here.provider.asked[0]["headers"]["traceparent"] == f"00-{trace}-{span}-01"


async def test_an_answer_without_usage_is_estimated_and_says_why(tmp_path: Path) -> None:
    async def silent(request: web.Request) -> web.Response:
        return web.json_response(completion(usage=None))

    async with front(tmp_path, silent) as here:
        await here.chat()
        [call] = await here.told()
        assert call.event_type == "model_call.completed"
        assert call.resource_usage is not None
        assert call.resource_usage.estimated
        assert call.resource_usage.output_tokens == 3
        assert "agentops.estimated_because" in call.attributes


async def test_a_cache_written_for_an_hour_is_told_apart(tmp_path: Path) -> None:
    usage = {
        "input_tokens": 10, "cache_creation_input_tokens": 50, "cache_read_input_tokens": 20, "output_tokens": 7,
        "cache_creation": {"ephemeral_5m_input_tokens": 20, "ephemeral_1h_input_tokens": 30},
    }  # fmt: skip

    async def cached(request: web.Request) -> web.Response:
        return web.json_response(message(usage=usage))

    async with front(tmp_path, cached) as here:
        async with here.http.post(f"{here.anthropic}/v1/messages", json=ASKED) as response:
            assert response.status == 200
        [call] = await here.told()
        assert call.resource_usage is not None
        told = call.resource_usage.model_dump(exclude_none=True)
        assert told["input_tokens"] == 80
        assert (told["cache_write_tokens"], told["cache_write_1h_tokens"], told["cache_read_tokens"]) == (50, 30, 20)
