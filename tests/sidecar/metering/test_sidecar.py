"""A real sidecar meters a real agent's calls: events in NATS, the agent told where its models are, keys nowhere."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from nats.aio.client import Client

from agent_manager.cli.fleet.injecting import fault_params
from agent_manager.healing.faults import requested
from schemas.budgets import BudgetFlag
from schemas.commands import FaultParams
from schemas.policies import PolicyFlag
from schemas.state import FaultSet
from streams.kv import TypedBucket
from streams.topology import BUDGET_FLAGS, FAULTS, POLICY_FLAGS
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


async def test_no_call_passes_once_a_flag_is_known(sidecar: Sidecar, client: Client, telemetry: Telemetry) -> None:
    """Twenty callers without a pause; whoever asks after the first refusal is refused, until the flag is taken back."""
    async with providing() as provider:
        await sidecar.start("--metering", "openai", AGENTOPS_SIDECAR_UPSTREAM_OPENAI=provider.url)
        url = f"http://127.0.0.1:{sidecar.run['metering_port']}/openai/v1/chat/completions"
        now = datetime.now(UTC)
        budget = BudgetFlag(
            budget_id="b", tenant_id="acme", scope="tenant", limit_usd=Decimal(1), spent_usd=Decimal(2), period="day", reason="spent",
            since=now, until=now + timedelta(hours=1),
        )  # fmt: skip
        policy = PolicyFlag(
            policy_id="none", tenant_id="acme", scope="agent", of="a1", models=("gpt-4*",), reason="not now", since=now
        )
        cases: tuple[tuple[TypedBucket[Any], str, Any, int], ...] = (
            (await TypedBucket.open(client, BUDGET_FLAGS, BudgetFlag), "acme.b", budget, 429),
            (await TypedBucket.open(client, POLICY_FLAGS, PolicyFlag), "acme.none", policy, 403),
        )
        for bucket, key, flag, status in cases:
            refused, done = asyncio.Event(), asyncio.Event()
            passed_after: list[int] = []

            async def caller(
                status: int = status,
                refused: asyncio.Event = refused,
                done: asyncio.Event = done,
                passed_after: list[int] = passed_after,
            ) -> None:
                after = 0
                while not done.is_set():
                    known = refused.is_set()
                    async with sidecar.http.post(url, json=body()) as response:
                        await response.read()
                    if known and response.status == 200:
                        passed_after.append(response.status)
                    if response.status == status:
                        refused.set()
                        after += 1
                        if after >= 5:
                            return

            callers = [asyncio.create_task(caller()) for _ in range(20)]
            await until(lambda: len(provider.asked) > 40, "calls pass")
            await bucket.put(key, flag)
            await until(refused.is_set, "the flag is known")
            await asyncio.wait(callers, timeout=60)
            done.set()
            await asyncio.gather(*callers)
            assert passed_after == []
            before = len(provider.asked)
            async with sidecar.http.post(url, json=body()) as response:
                assert response.status == status
            assert len(provider.asked) == before
            await bucket.delete(key)
            provider.asked.clear()

            async def passes() -> bool:
                async with sidecar.http.post(url, json=body()) as response:
                    return response.status == 200

            await until(passes, "the flag is taken back")
            provider.asked.clear()
        told = await telemetry.find("policy.decision", policy__policy_id="none")
        assert (told["policy"]["decision"], told["policy"]["reason"]) == ("block", "not now")


async def test_a_flag_set_while_the_client_still_writes_its_request_refuses_it(sidecar: Sidecar, client: Client) -> None:
    half_sent, go_on = asyncio.Event(), asyncio.Event()
    raw = json.dumps(body()).encode()

    async def slowly() -> AsyncIterator[bytes]:
        yield raw[:20]
        half_sent.set()
        await go_on.wait()
        yield raw[20:]

    async with providing() as provider:
        await sidecar.start("--metering", "openai", AGENTOPS_SIDECAR_UPSTREAM_OPENAI=provider.url)
        url = f"http://127.0.0.1:{sidecar.run['metering_port']}/openai/v1/chat/completions"
        writing = asyncio.create_task(sidecar.http.post(url, data=slowly()))
        await until(half_sent.is_set, "half of it is sent")
        bucket = await TypedBucket.open(client, POLICY_FLAGS, PolicyFlag)
        await bucket.put(
            "acme.all", PolicyFlag(policy_id="all", tenant_id="acme", scope="tenant", reason="stop", since=datetime.now(UTC))
        )

        async def refuses() -> bool:
            async with sidecar.http.post(url, json=body()) as response:
                return response.status == 403

        await until(refuses, "the flag is known")
        before = len(provider.asked)
        go_on.set()
        response = await writing
        assert response.status == 403
        assert len(provider.asked) == before
        await sidecar.stop()
        await sidecar.start("--metering", "openai", AGENTOPS_SIDECAR_UPSTREAM_OPENAI=provider.url, NATS_URL="nats://127.0.0.1:9")
        url = f"http://127.0.0.1:{sidecar.run['metering_port']}/openai/v1/chat/completions"
        async with sidecar.http.post(url, json=body()) as response:
            assert response.status == 403, "remembered while NATS is away"


async def test_a_conversation_is_a_run_that_ends_with_the_sidecar(sidecar: Sidecar, client: Client, telemetry: Telemetry) -> None:
    async with providing() as provider:
        await sidecar.start("--metering", "anthropic", AGENTOPS_SIDECAR_UPSTREAM_ANTHROPIC=provider.url)
        url = f"http://127.0.0.1:{sidecar.run['metering_port']}/anthropic/v1/messages"
        turns = [{"role": "user", "content": "Hello"}]
        for text in ("Hi", "Well"):
            async with sidecar.http.post(url, json={"model": "claude-sonnet-4-5", "messages": turns}) as response:
                assert response.status == 200
            turns = [*turns, {"role": "assistant", "content": text}, {"role": "user", "content": "go on"}]
        begun = await telemetry.find("run.started")
        run = begun["run"]["run_id"]

        async def both() -> bool:
            events = await telemetry.read()
            return (
                len(
                    [event for event in events if event["event_type"] == "model_call.completed" and event["run"]["run_id"] == run]
                )
                == 2
            )

        await until(both, "both calls are of that run")
        await sidecar.stop()
        over = await telemetry.find("run.completed", run__run_id=run)
        assert over["run"]["status"] == "completed"
        assert len([event for event in await telemetry.read() if event["event_type"] == "run.started"]) == 1


async def test_what_cannot_be_is_said_at_the_start(sidecar: Sidecar) -> None:
    with pytest.raises(AssertionError, match="AGENTOPS_SIDECAR_UPSTREAM_AZURE"):
        await sidecar.start("--metering", "azure", AZURE_OPENAI_ENDPOINT="")
    with pytest.raises(AssertionError, match="'opnai' is no provider that is metered"):
        await sidecar.start("--metering", "opnai")


async def test_a_drill_comes_over_nats_and_is_told(sidecar: Sidecar, client: Client, telemetry: Telemetry) -> None:
    """From the parameters of the command to the answer a client gets."""
    async with providing() as provider:
        await sidecar.start("--metering", "openai", AGENTOPS_SIDECAR_UPSTREAM_OPENAI=provider.url)
        url = f"http://127.0.0.1:{sidecar.run['metering_port']}/openai/v1/chat/completions"
        params = FaultParams.model_validate(fault_params(kind="model_rate_limit", duration="1m", retry_after_s=20))
        now = datetime.now(UTC)
        fault = requested(params, fault_id="f1", by="operator", now=now)
        bucket = await TypedBucket.open(client, FAULTS, FaultSet)
        await bucket.put("acme.a1", FaultSet(agent_id="a1", tenant_id="acme", faults=(fault,), updated_at=now))
        await telemetry.find("fault.injected", fault__kind="model_rate_limit")
        async with sidecar.http.post(url, json=body()) as response:
            assert (response.status, response.headers["Retry-After"]) == (429, "20")
            assert response.headers["X-Agentops-Fault"] == "model_rate_limit; id=f1"
        told = await telemetry.find("model_call.failed")
        assert told["attributes"]["agentops.fault"] == "model_rate_limit"
        assert provider.asked == []
