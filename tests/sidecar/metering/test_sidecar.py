"""A real sidecar meters a real agent's calls: events in NATS, the agent told where its models are, keys nowhere."""

import os
from pathlib import Path
from typing import Any

from nats.aio.client import Client

from tests.conftest import until
from tests.sidecar.metering.providing import chunks, providing
from tests.sidecar.running import Sidecar, Telemetry

KEY = "sk-proj-VERYSECRETKEY0123456789"


def body(**more: Any) -> dict[str, Any]:
    return {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello, how are you?"}]} | more


async def test_calls_pass_and_are_told_in_nats(sidecar: Sidecar, client: Client, telemetry: Telemetry) -> None:
    async with providing() as provider:
        await sidecar.start("--metering", "openai", AGENTOPS_SIDECAR_UPSTREAM_OPENAI=f"{provider.url}/v1")
        base = f"http://127.0.0.1:{sidecar.run['metering_port']}/openai/v1"
        headers = {
            "Authorization": f"Bearer {KEY}",
            "x-agentops-run": "run-7",
            "x-agentops-step": "s-1",
            "x-agentops-user": "ann",
        }
        async with sidecar.http.post(f"{base}/chat/completions", json=body(), headers=headers) as response:
            assert (response.status, (await response.json())["id"]) == (200, "chatcmpl-1")
        told = await telemetry.find("model_call.completed", model_call__response_id="chatcmpl-1")
        assert told["run"]["run_id"] == "run-7"
        assert told["run"]["agent_id"] == "a1"
        assert told["attributes"] == {"agentops.observed_by": "proxy", "user.id": "ann"}
        assert told["resource_usage"] == {
            "input_tokens": 120, "output_tokens": 30, "cache_read_tokens": 64, "cache_write_tokens": 0, "reasoning_tokens": 8,
            "estimated": False,
        }  # fmt: skip
        call = told["model_call"]
        assert (call["provider"], call["model"], call["step_id"]) == ("openai", "gpt-4o-mini-2024-07-18", "s-1")
        assert (call["streamed"], call["finish_reason"], call["service_tier"]) == (False, "stop", "default")

        async with sidecar.http.post(f"{base}/chat/completions", json=body(stream=True), headers=headers) as response:
            assert await response.read() == b"".join(chunks(usage=False))
        told = await telemetry.find("model_call.completed", model_call__response_id="chatcmpl-s")
        assert told["model_call"]["streamed"] is True
        assert 0 < told["model_call"]["time_to_first_token_ms"] <= told["model_call"]["latency_ms"]
        assert told["resource_usage"]["output_tokens"] == 30
        asked = provider.asked[-1]
        assert asked["body"]["stream_options"] == {"include_usage": True}
        assert asked["headers"]["Authorization"] == f"Bearer {KEY}"
        assert not [name for name in asked["headers"] if name.lower().startswith("x-agentops")]


async def test_the_agent_is_told_where_its_models_are_only_where_that_was_asked_for(sidecar: Sidecar) -> None:
    """A base URL of the user's own becomes the upstream."""
    async with providing() as provider:
        await sidecar.start("--metering", "openai", OPENAI_BASE_URL=f"{provider.url}/v1", ANTHROPIC_BASE_URL="http://elsewhere")
        await until(sidecar.answers, "the agent answers")
        _, told = await sidecar.get("/environment")
        port = sidecar.run["metering_port"]
        assert told["OPENAI_BASE_URL"] == f"http://127.0.0.1:{port}/openai/v1"
        assert told["ANTHROPIC_BASE_URL"] == "http://elsewhere"
        async with sidecar.http.post(f"{told['OPENAI_BASE_URL']}/chat/completions", json=body()) as response:
            assert response.status == 200
        assert provider.asked[0]["path"] == "/v1/chat/completions"


async def test_a_key_is_nowhere_but_in_the_request(
    sidecar: Sidecar, client: Client, telemetry: Telemetry, tmp_path: Path
) -> None:
    """Not in a file, not in the log, not in NATS: for calls that succeed, fail, break off, and find nobody."""
    async with providing() as provider:
        await sidecar.start(
            "--metering", "openai", "--metering", "gemini", AGENTOPS_SIDECAR_UPSTREAM_OPENAI=provider.url,
            AGENTOPS_SIDECAR_UPSTREAM_GEMINI="http://127.0.0.1:9", AGENTOPS_LOG_LEVEL="DEBUG",
        )  # fmt: skip
        base = f"http://127.0.0.1:{sidecar.run['metering_port']}"
        keys = {"Authorization": f"Bearer {KEY}", "x-api-key": KEY, "api-key": KEY, "x-goog-api-key": KEY}
        async with sidecar.http.post(f"{base}/openai/v1/chat/completions", json=body(), headers=keys) as response:
            assert response.status == 200
        path = f"/gemini/v1beta/models/gemini-2.5-flash:generateContent?key={KEY}"
        async with sidecar.http.post(f"{base}{path}", json={"contents": []}, headers=keys) as response:
            assert response.status == 502
            assert KEY not in await response.text()
        async with sidecar.http.post(f"{base}/unknown?key={KEY}", json=body(), headers=keys) as response:
            assert KEY not in await response.text()
        await telemetry.find("model_call.failed", model_call__provider="google")
        assert KEY not in str(await telemetry.read())
    await sidecar.stop()
    searched = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert any(path.suffix == ".log" for path in searched)
    found = [str(path) for path in searched if KEY.encode() in path.read_bytes()]
    assert found == []
    assert KEY not in str(os.environ)
