"""Faults of model providers: each does what it says, shows that it did, and ends."""

import asyncio
import json
import time
from pathlib import Path

import aiohttp
import pytest

from sidecar.metering.faults import FAULT_HEADER
from tests.conftest import until
from tests.sidecar.metering.front import front
from tests.sidecar.metering.providing import chunks, completion

ASKED = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hello"}]}


async def test_a_slow_first_token_comes_late_and_the_call_says_how_late(tmp_path: Path) -> None:
    async with front(tmp_path) as here:
        here.inject("model_slow", latency_ms=400)
        began = time.monotonic()
        assert await here.chat(stream=True) == (200, b"".join(chunks(usage=False)))
        assert time.monotonic() - began >= 0.4
        [call] = await here.told()
        assert call.model_call is not None
        assert (call.model_call.latency_ms or 0) >= 400
        assert call.attributes["agentops.fault"] == "model_slow"


async def test_a_stream_stalls_until_the_fault_ends(tmp_path: Path) -> None:
    async with front(tmp_path) as here:
        here.inject("model_stall")
        async with here.http.post(f"{here.openai}/chat/completions", json={**ASKED, "stream": True}) as response:
            assert response.headers[FAULT_HEADER] == "model_stall; id=f-model_stall"
            seen = b""
            while b"word2" not in seen:
                seen += await response.content.readany()
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.3):
                    await response.content.readany()
            here.enforcer.ask([])
            seen += await response.content.read()
        assert seen == b"".join(chunks(usage=False))
        [call] = await here.told()
        assert call.event_type == "model_call.completed"


async def test_a_client_that_gives_up_on_a_stalled_stream_is_told_of(tmp_path: Path) -> None:
    async with front(tmp_path) as here:
        here.inject("model_stall")
        with pytest.raises(TimeoutError):
            async with (
                asyncio.timeout(0.5),
                here.http.post(f"{here.openai}/chat/completions", json={**ASKED, "stream": True}) as response,
            ):
                await response.content.read()
        [call] = await here.told()
        assert (call.event_type, call.error and call.error.type) == ("model_call.failed", "cancelled")


@pytest.mark.parametrize("streams", [True, False])
async def test_an_answer_breaks_off(tmp_path: Path, streams: bool) -> None:
    async with front(tmp_path) as here:
        here.inject("model_truncate")
        with pytest.raises((aiohttp.ClientError, ConnectionError)):
            await here.chat(stream=streams)
        [call] = await here.told()
        assert (call.event_type, call.error and call.error.type) == ("model_call.failed", "response_truncated")
        assert call.attributes["agentops.fault"] == "model_truncate"


async def test_an_answer_is_no_json(tmp_path: Path) -> None:
    async with front(tmp_path) as here:
        here.inject("model_malformed")
        status, raw = await here.chat()
        assert (status, len(raw)) == (200, len(json.dumps(completion())))
        with pytest.raises(json.JSONDecodeError):
            json.loads(raw)
        _, raw = await here.chat(stream=True)
        data = [line[6:] for line in raw.split(b"\n") if line.startswith(b"data: ") and line != b"data: [DONE]"]
        with pytest.raises(json.JSONDecodeError):
            for line in data:
                json.loads(line)
        calls = await here.told(2)
        # The provider answered well, and is paid.
        assert [call.resource_usage.input_tokens for call in calls if call.resource_usage] == [120, 120]


async def test_a_fault_strikes_its_share_and_ends_by_itself(tmp_path: Path) -> None:
    async with front(tmp_path) as here:
        draws = iter([0.1, 0.9] * 3)
        here.door._draw = lambda: next(draws)
        here.inject("model_error", rate=0.5)
        assert [(await here.chat())[0] for _ in range(6)] == [500, 200] * 3
        here.door._draw = lambda: 0.0
        here.inject("model_rate_limit", 0.5)
        assert (await here.chat())[0] == 429
        await until(lambda: not here.enforcer.active, "the fault ends")
        assert (await here.chat())[0] == 200


async def test_faults_of_the_agent_do_not_touch_its_models(tmp_path: Path) -> None:
    async with front(tmp_path) as here:
        here.inject("error")
        assert (await here.chat())[0] == 200
        assert "agentops.fault" not in (await here.told())[0].attributes
