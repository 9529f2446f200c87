"""Every recorded exchange of real providers passes through the proxy byte for byte, and its usage is what the extractors read."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import genai_prices
import pytest
from aiohttp import web

from schemas.events import Event
from tests.conftest import until
from tests.sidecar.metering.front import Front, front

ROOT: Final = Path(__file__).resolve().parents[3]


def _found() -> Path | None:
    """The recorded exchanges: beside the project, or where AGENTOPS_SHARED says, or further up."""
    told = os.environ.get("AGENTOPS_SHARED")
    places = [Path(told)] if told else []
    places += [above / "shared" for above in ROOT.parents]
    return next((file for place in places if (file := place / "data" / "provider-exchanges.jsonl").is_file()), None)


FILE: Final = _found()
EXCHANGES: Final = [] if FILE is None else [json.loads(line) for line in FILE.read_text().splitlines()]

ASKED_AGAIN: Final = "the answer of an earlier exchange is asked for again: the call was told then, and is billed once"

pytestmark = pytest.mark.skipif(FILE is None, reason="the recorded exchanges of ../shared/data are not here")

NO_USAGE: Final = "a guard stood before the model: the provider reports no tokens, so the call failed and costs nothing"
TOO_MUCH_REASONING: Final = "the stream ended with an error, and the provider reports more reasoning than output: reasoning is cut to the output, which is billed"


_ROUTES: Final = (
    ("api.openai.com", "openai"), ("api.anthropic.com", "anthropic"), ("generativelanguage.", "gemini"), ("aiplatform.", "vertex"),
    ("openrouter.ai", "openrouter"), ("azure.com", "azure"), ("amazonaws.com", "bedrock"), ("api.groq.com", "groq"),
    ("api.mistral.ai", "mistral"), ("api.deepseek.com", "deepseek"), ("api.cerebras.ai", "cerebras"),
)  # fmt: skip


def route_of(host: str) -> str:
    return next(route for part, route in _ROUTES if part in host)


def answered(exchange: Mapping[str, Any]) -> bytes:
    body = exchange["response_body"]
    return body.encode() if isinstance(body, str) else json.dumps(body).encode()


def sse(text: str) -> list[dict[str, Any]]:
    """The JSON of every event, read as plainly as can be."""
    lines = [line[5:].strip() for line in text.splitlines() if line.startswith("data:")]
    return [json.loads(line) for line in lines if line != "[DONE]"]


def document(exchange: Mapping[str, Any]) -> dict[str, Any]:
    """The answer as one document, as an SDK that collects the stream would have it."""
    body = exchange["response_body"]
    if isinstance(body, dict):
        return body
    events = sse(body)
    if events[0].get("type") == "message_start":
        whole: dict[str, Any] = events[0]["message"]
        for event in events:
            if event["type"] == "message_delta":
                whole["usage"] |= event["usage"]
        return whole
    if "type" in events[0]:
        return dict(events[-1]["response"])
    return next(event for event in reversed(events) if event.get("usage") or event.get("usageMetadata"))


def expected(exchange: Mapping[str, Any]) -> dict[str, int] | str:
    """What ``genai-prices`` reads; why it reads nothing."""
    path = exchange["path"].partition("#")[0]
    url = f"https://{exchange['provider_host']}{path}"
    flavour = "responses" if "/responses" in path else "chat" if path.endswith("/chat/completions") else "default"
    provider = genai_prices.data_snapshot.get_snapshot().find_provider(None, None, url)
    known = {extractor.api_flavor for extractor in provider.extractors or ()}
    try:
        _, usage = provider.extract_usage(document(exchange), api_flavor=flavour if flavour in known else "default")
    except ValueError as error:
        return str(error)
    return {name: int(count) for name, count in vars(usage).items()}


OURS: Final = {
    "input_tokens": "input_tokens", "output_tokens": "output_tokens", "cache_read_tokens": "cache_read_tokens",
    "cache_write_tokens": "cache_write_tokens", "cache_write_1h_tokens": "cache_write_1h_tokens",
    "output_reasoning_tokens": "reasoning_tokens", "input_audio_tokens": "input_audio_tokens",
    "output_audio_tokens": "output_audio_tokens", "input_image_tokens": "input_image_tokens",
    "output_image_tokens": "output_image_tokens", "input_video_tokens": "input_video_tokens",
    "cache_audio_read_tokens": "cache_read_audio_tokens", "web_searches": "web_searches",
}  # fmt: skip
ELSEWHERE: Final = {
    "cache_write_5m_tokens": "the cache writes that are not for an hour",
    "cache_text_read_tokens": "the cache reads that are neither audio nor image",
    "cache_video_read_tokens": "counted among the cache reads",
    "input_text_tokens": "the input that is nothing else",
    "output_text_tokens": "the output that is nothing else",
    "input_tool_tokens": "counted in the input",
    "input_text_tool_tokens": "counted in the input",
}
"""Counts of the extractors that the contract has no field for, and where they are."""


def assert_equal(found: Event, wanted: Mapping[str, int]) -> None:
    assert found.resource_usage is not None
    got = found.resource_usage.model_dump()
    unknown = set(wanted) - set(OURS) - set(ELSEWHERE)
    assert not unknown
    assert {ours: got[ours] or 0 for theirs, ours in OURS.items() if theirs in wanted} == {
        ours: wanted[theirs] for theirs, ours in OURS.items() if theirs in wanted
    }
    assert not found.resource_usage.estimated


def call_id(event: Event) -> str | None:
    return None if event.model_call is None else event.model_call.response_id


async def replay(here: Front, place: int, exchange: Mapping[str, Any]) -> None:
    """Sends the request of one exchange; it must come back as it was recorded."""
    path = exchange["path"].partition("#")[0]
    url = f"{here.url}/{route_of(exchange['provider_host'])}{path}"
    asked = exchange["request_body"]
    data = None if exchange["method"] == "GET" else (asked if isinstance(asked, str) else json.dumps(asked or {})).encode()
    headers = {"Content-Type": "application/json", "X-Exchange": str(place), "x-agentops-run": f"exchange-{place}"}
    async with here.http.request(exchange["method"], url, data=data, headers=headers) as response:
        assert response.status == exchange["status"]
        assert response.headers["Content-Type"] == exchange["content_type"]
        assert await response.read() == answered(exchange)


async def recorded(request: web.Request) -> web.StreamResponse:
    """Serves what was recorded: streams in pieces of any length."""
    exchange = EXCHANGES[int(request.headers["X-Exchange"])]
    raw = answered(exchange)
    headers = {"Content-Type": exchange["content_type"]}
    if isinstance(exchange["response_body"], dict):
        return web.Response(body=raw, headers=headers)
    response = web.StreamResponse(headers=headers)
    await response.prepare(request)
    step = 1 + int(request.headers["X-Exchange"]) % 700 + len(raw) // 200
    for start in range(0, len(raw), step):
        await response.write(raw[start : start + step])
    await response.write_eof()
    return response


async def test_all_226_exchanges_pass_and_their_usage_is_the_extractors(tmp_path: Path) -> None:
    assert len(EXCHANGES) == 226
    reasons: list[str] = []
    async with front(tmp_path, recorded) as here:
        for upstream in here.door._upstreams.values():
            # The provider is known by its name here, because its host is the test's own.
            assert upstream.provider == upstream.route.provider
        for place, exchange in enumerate(EXCHANGES):
            before, known = len(here.calls()), {call_id(told) for told in here.calls()}
            await replay(here, place, exchange)
            if exchange["method"] == "GET" and exchange["path"].rpartition("/")[2] in known:
                await until(lambda: here.door.in_flight == 0, "the exchange is over")
                assert len(here.calls()) == before
                reasons.append(ASKED_AGAIN)
                continue
            found = (await here.told(before + 1))[-1]
            assert found.run.run_id == f"exchange-{place}"
            wanted = expected(exchange)
            if isinstance(wanted, str):
                assert "No usage information found" in wanted
                assert (found.event_type, found.resource_usage) == ("model_call.failed", None)
                assert found.error is not None
                assert found.error.type == "MODEL_ARMOR"
                reasons.append(NO_USAGE)
                continue
            broke = '"error":{"code":400' in str(exchange["response_body"])
            assert found.event_type == ("model_call.failed" if broke else "model_call.completed"), (place, found.error)
            assert found.model_call is not None
            assert found.model_call.streamed == isinstance(exchange["response_body"], str)
            assert found.model_call.model != "unknown"
            if wanted.get("output_reasoning_tokens", 0) > wanted["output_tokens"]:
                assert "reasoning_tokens must not exceed output_tokens" in str(found.attributes["agentops.usage_doubt"])
                wanted["output_reasoning_tokens"] = wanted["output_tokens"]
                reasons.append(TOO_MUCH_REASONING)
            assert_equal(found, wanted)
            spoken = exchange["provider_host"].endswith("amazonaws.com")
            assert (found.model_call.response_id is not None) != spoken, place
    assert sorted(reasons) == sorted([NO_USAGE, TOO_MUCH_REASONING, ASKED_AGAIN])
