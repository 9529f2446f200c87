"""The providers' own SDKs against the proxy: answers, streams, and refusals they understand."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import anthropic
import openai
import pytest

from schemas.budgets import BudgetFlag
from schemas.policies import PolicyFlag
from tests.sidecar.metering.front import Front, front

ASKED: Any = [{"role": "user", "content": "Hello"}]


def of_openai(here: Front, **more: Any) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=here.openai, api_key="sk-test", **more)


def of_anthropic(here: Front, **more: Any) -> anthropic.AsyncAnthropic:
    return anthropic.AsyncAnthropic(base_url=here.anthropic, api_key="sk-ant-test", **more)


def spent(**given: Any) -> BudgetFlag:
    now = datetime.now(UTC)
    told = {
        "budget_id": "b", "tenant_id": "acme", "scope": "project", "of": "p", "limit_usd": Decimal(1), "spent_usd": Decimal("1.5"),
        "period": "day", "reason": "budget b is spent", "since": now, "until": now + timedelta(hours=1),
    }  # fmt: skip
    return BudgetFlag.model_validate(told | given)


def policy(**given: Any) -> PolicyFlag:
    told = {
        "policy_id": "no-large",
        "tenant_id": "acme",
        "scope": "tenant",
        "reason": "large models need approval",
        "since": datetime.now(UTC),
    }
    return PolicyFlag.model_validate(told | given)


async def test_answers_and_streams_arrive(tmp_path: Path) -> None:
    async with front(tmp_path) as here:
        async with of_openai(here) as client:
            answer = await client.chat.completions.create(model="gpt-4o-mini", messages=ASKED)
            assert answer.choices[0].message.content == "Hello there"
            pieces = [
                piece async for piece in await client.chat.completions.create(model="gpt-4o-mini", messages=ASKED, stream=True)
            ]
            assert "".join(piece.choices[0].delta.content or "" for piece in pieces) == "word0 word1 word2 word3 word4 "
            assert all(piece.usage is None for piece in pieces)
            asked: Any = {"include_usage": True}
            stream = await client.chat.completions.create(model="gpt-4o-mini", messages=ASKED, stream=True, stream_options=asked)
            assert [piece.usage.prompt_tokens async for piece in stream if piece.usage] == [120]
        async with of_anthropic(here) as other:
            told = await other.messages.create(model="claude-of-tests", max_tokens=10, messages=ASKED)
            assert told.usage.cache_read_input_tokens == 20
            async with other.messages.stream(model="claude-of-tests", max_tokens=10, messages=ASKED) as streamed:
                assert "".join([text async for text in streamed.text_stream]) == "word0 word1 word2 word3 word4 "
        calls = await here.told(5)
        assert {call.event_type for call in calls} == {"model_call.completed"}
        assert [call.model_call.provider for call in calls if call.model_call] == ["openai"] * 3 + ["anthropic"] * 2
        counts = [(call.resource_usage.input_tokens, call.resource_usage.output_tokens) for call in calls if call.resource_usage]
        assert counts == [(120, 30)] * 3 + [(35, 7), (35, 12)]


async def test_a_spent_budget_is_a_rate_limit_with_its_reason_and_is_not_tried_again(tmp_path: Path) -> None:
    async with front(tmp_path) as here:
        here.denials.tell("acme.b", spent())
        async with of_openai(here, max_retries=3) as client:
            with pytest.raises(openai.RateLimitError, match="budget b is spent") as refused:
                await client.chat.completions.create(model="gpt-4o-mini", messages=ASKED)
            assert refused.value.code == "budget_exhausted"
            assert 3500 < int(refused.value.response.headers["Retry-After"]) <= 3601
        async with of_anthropic(here, max_retries=3) as other:
            with pytest.raises(anthropic.RateLimitError, match="budget b is spent"):
                await other.messages.create(model="claude-of-tests", max_tokens=10, messages=ASKED)
        assert here.provider.asked == []
        here.meter.tidy(0.0, last=True)
        told = [(event.policy.policy_id, event.attributes["agentops.refused"]) for event in here.events if event.policy]
        # One try each: two refusals, the second told when the sidecar ends.
        assert told == [("b", 1), ("b", 1)]
        here.denials.tell("acme.b", None)
        assert (await here.chat())[0] == 200


async def test_a_budget_of_another_project_refuses_the_calls_made_for_it(tmp_path: Path) -> None:
    async with front(tmp_path) as here:
        here.denials.tell("acme.b", spent(of="other"))
        assert (await here.chat())[0] == 200
        assert (await here.chat(headers={"x-agentops-project": "other"}))[0] == 429
        here.denials.tell("acme.b", spent())
        assert (await here.chat(headers={"x-agentops-project": "other"}))[0] == 200


async def test_a_policy_denies_by_model_and_provider_with_its_reason(tmp_path: Path) -> None:
    async with front(tmp_path) as here:
        here.policies.tell("acme.no-large", policy(models=("gpt-5*", "claude-opus*")))
        async with of_openai(here) as client:
            await client.chat.completions.create(model="gpt-4o-mini", messages=ASKED)
            with pytest.raises(openai.PermissionDeniedError, match="large models need approval") as refused:
                await client.chat.completions.create(model="gpt-5.2", messages=ASKED)
            assert refused.value.code == "policy_denied"
        async with of_anthropic(here) as other:
            with pytest.raises(anthropic.PermissionDeniedError, match="large models need approval"):
                await other.messages.create(model="claude-opus-of-tests", max_tokens=10, messages=ASKED)
            here.policies.tell("acme.no-large", policy(providers=("google",)))
            await other.messages.create(model="claude-opus-of-tests", max_tokens=10, messages=ASKED)
        path = f"{here.url}/gemini/v1beta/models/gemini-2.5-flash:generateContent"
        async with here.http.post(path, json={"contents": []}) as response:
            told = (await response.json())["error"]
            assert (response.status, told["status"], told["details"][0]["reason"]) == (403, "PERMISSION_DENIED", "policy_denied")
        here.policies.tell("acme.no-large", policy(providers=("aws",)))
        async with here.http.post(f"{here.url}/bedrock/model/eu.anthropic.claude/converse", json={}) as response:
            assert (response.status, response.headers["x-amzn-ErrorType"]) == (403, "AccessDeniedException")
            assert (await response.json())["message"] == "large models need approval"
        decisions = [event for event in here.events if event.event_type == "policy.decision"]
        assert {(event.policy.decision, event.policy.action) for event in decisions if event.policy} == {("block", "model_call")}
        assert decisions[0].attributes["gen_ai.request.model"] == "gpt-5.2"


async def test_a_rate_limit_drill_is_waited_out_as_the_sdk_waits(tmp_path: Path) -> None:
    async with front(tmp_path) as here:
        here.inject("model_rate_limit", retry_after_s=0)
        async with of_openai(here, max_retries=1) as client:
            with pytest.raises(openai.RateLimitError, match="a fault injected on purpose"):
                await client.chat.completions.create(model="gpt-4o-mini", messages=ASKED)
        calls = await here.told(2)
        assert {(call.event_type, call.attributes["agentops.fault"]) for call in calls} == {
            ("model_call.failed", "model_rate_limit")
        }
        assert [call.resource_usage for call in calls] == [None, None]
        # The second try is of the same conversation.
        assert len({call.run.run_id for call in calls}) == 1
        assert here.provider.asked == []
        here.inject("model_error", status_code=529)
        async with of_anthropic(here, max_retries=0) as other:
            with pytest.raises(anthropic.APIStatusError) as refused:
                await other.messages.create(model="claude-of-tests", max_tokens=10, messages=ASKED)
            assert refused.value.status_code == 529
            assert refused.value.body["error"]["type"] == "overloaded_error"  # type: ignore[index]
        here.inject("model_error")
        async with of_openai(here, max_retries=0) as client:
            with pytest.raises(openai.InternalServerError):
                await client.chat.completions.create(model="gpt-4o-mini", messages=ASKED)
        here.enforcer.ask([])
        assert (await here.chat())[0] == 200
