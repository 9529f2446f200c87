"""The local model server: honest counts, answers out of the given text, OpenAI's shapes."""

import json
import random
from collections.abc import AsyncIterator
from itertools import combinations
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer
from hypothesis import given
from hypothesis import strategies as st

from examples.model_server.answers import NOTHING_FOUND, answer, sentences, summary
from examples.model_server.app import ModelServer
from examples.model_server.pace import Pace
from examples.model_server.prefixes import BLOCK, LEAST, PrefixCache
from examples.model_server.tokens import pieces, prompt_tokens

Api = TestClient[Any, Any]

TEXT = (
    "The warehouse keeps one row for each event. Dead letters carry the original bytes and a reason. "
    "A budget is checked before the ledger grows. The dashboard shows spend by team."
)
QUESTION = f"{TEXT}\n\nQuestion: What do dead letters carry?"


@pytest.fixture
async def api() -> AsyncIterator[Api]:
    async with TestClient(TestServer(ModelServer(Pace(random.Random(1), speed=10_000)).application())) as api:
        yield api


def asking(content: str = QUESTION, **more: Any) -> dict[str, Any]:
    return {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": content}], **more}


async def complete(api: Api, **more: Any) -> dict[str, Any]:
    async with api.post("/v1/chat/completions", json=asking(**more)) as response:
        assert response.status == 200, await response.text()
        body: dict[str, Any] = await response.json()
        return body


async def test_the_counts_are_of_what_was_received_and_produced(api: Api) -> None:
    body = await complete(api)
    text = body["choices"][0]["message"]["content"]
    assert text == "Dead letters carry the original bytes and a reason."
    assert body["usage"]["prompt_tokens"] == len(list(prompt_tokens([("user", QUESTION)])))
    assert body["usage"]["completion_tokens"] == len(pieces(text))
    assert body["usage"]["total_tokens"] == body["usage"]["prompt_tokens"] + body["usage"]["completion_tokens"]
    assert body["choices"][0]["finish_reason"] == "stop"
    assert (await complete(api))["id"] != body["id"]


async def test_a_limit_on_tokens_is_kept_and_said(api: Api) -> None:
    body = await complete(api, max_tokens=3)
    assert body["choices"][0]["finish_reason"] == "length"
    assert body["usage"]["completion_tokens"] == 3
    assert len(pieces(body["choices"][0]["message"]["content"])) == 3


async def test_a_stream_says_the_same_as_a_whole_answer(api: Api) -> None:
    """Pieces, then the reason for the end, then the usage if asked for, then the end mark; one id throughout."""
    whole = await complete(api)
    async with api.post("/v1/chat/completions", json=asking(stream=True, stream_options={"include_usage": True})) as response:
        assert response.content_type == "text/event-stream"
        sent = [line.removeprefix("data: ") for line in (await response.text()).split("\n\n") if line]
    assert sent.pop() == "[DONE]"
    chunks = [json.loads(line) for line in sent]
    assert len({chunk["id"] for chunk in chunks}) == 1
    *told, last = chunks
    assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in told) == whole["choices"][0]["message"]["content"]
    assert told[-1]["choices"][0]["finish_reason"] == "stop"
    assert last["choices"] == []
    assert last["usage"]["completion_tokens"] == whole["usage"]["completion_tokens"]
    assert all(chunk["usage"] is None for chunk in told)

    async with api.post("/v1/chat/completions", json=asking(stream=True)) as response:
        assert "usage" not in await response.text()


async def test_only_a_beginning_that_was_really_shared_counts_as_cached(api: Api) -> None:
    """Another key or another model shares nothing; a short prompt is not worth a cache."""
    shared = "word " * 100
    first = await complete(api, content=f"{shared}\nWhat is a word?")
    second = await complete(api, content=f"{shared}\nWhat else is a word?")
    assert first["usage"]["prompt_tokens_details"]["cached_tokens"] == 0
    cached = second["usage"]["prompt_tokens_details"]["cached_tokens"]
    assert 100 - BLOCK <= cached <= 103
    other = await complete(api, content=f"{shared}\nWhat is a word?", model="gpt-4o")
    assert other["usage"]["prompt_tokens_details"]["cached_tokens"] == 0
    short = [await complete(api, content="What is a word?") for _ in range(2)]
    assert short[1]["usage"]["prompt_tokens_details"]["cached_tokens"] == 0


@pytest.mark.parametrize(
    ("body", "status", "param", "code"),
    [
        (b"{", 400, None, None),
        (b"[]", 400, None, None),
        (b"{}", 400, "model", None),
        (b'{"model": "gpt-4o-mini"}', 400, "messages", "invalid_type"),
        (b'{"model": "gpt-4o-mini", "messages": [{"role": "boss", "content": "x"}]}', 400, "messages[0].role", "invalid_value"),
        (
            b'{"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "x"}], "max_tokens": 0}',
            400,
            "max_tokens",
            "invalid_type",
        ),
        (b'{"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "x"}], "n": [1]}', 400, "n", "unsupported_value"),
        (b'{"model": "gpt-0", "messages": []}', 404, "model", "model_not_found"),
    ],
)
async def test_a_wrong_request_is_refused_in_openais_shape(
    api: Api, body: bytes, status: int, param: str | None, code: str | None
) -> None:
    async with api.post("/v1/chat/completions", data=body) as response:
        error = (await response.json())["error"]
        assert response.status == status
    assert (error["type"], error["param"], error["code"]) == ("invalid_request_error", param, code)
    assert error["message"]


async def test_other_paths_are_404_and_models_are_listed(api: Api) -> None:
    async with api.get("/v1/embeddings") as response:
        assert response.status == 404
        assert (await response.json())["error"]["type"] == "invalid_request_error"
    async with api.get("/v1/models") as response:
        assert "gpt-4o-mini" in [model["id"] for model in (await response.json())["data"]]
    async with api.get("/health") as response:
        assert await response.json() == {"status": "ok"}


@given(st.text())
def test_the_pieces_of_a_text_are_the_text(text: str) -> None:
    assert "".join(pieces(text)) == text


@given(st.lists(st.lists(st.sampled_from("ab"), max_size=200), max_size=6), st.integers(min_value=1, max_value=20))
def test_a_cache_never_claims_more_than_some_earlier_prompt_shared(prompts: list[list[str]], capacity: int) -> None:
    cache = PrefixCache(capacity)
    for place, prompt in enumerate(prompts):
        cached = cache.cached("key", prompt)
        assert cached == 0 or (cached >= LEAST and any(earlier[:cached] == prompt[:cached] for earlier in prompts[:place]))
        cache.remember("key", prompt)


WORDS = st.lists(
    st.sampled_from(["ship", "sail", "Harbour", "tide.", "Wind!", "- rope", "\n\n", "# Deck\n", "over?"]), max_size=40
).map(" ".join)


@given(WORDS, WORDS)
def test_an_answer_says_only_what_the_text_says(source: str, question: str) -> None:
    """Whatever is asked, the answer is sentences of the text in their order, or that there is none."""
    said = answer([("system", "You answer."), ("user", f"{source}\n\nQuestion: {question}")])
    found = sentences(source)
    possible = {" ".join(chosen) for count in (1, 2, 3) for chosen in combinations(found, count)}
    assert said in possible | {NOTHING_FOUND}


def test_a_summary_is_shorter_and_made_of_sentences_of_the_text() -> None:
    text = " ".join(f"Sensor {number} watches the bridge and its load." if number % 3 else "It rained." for number in range(30))
    short = summary(text)
    assert len(short) < len(text) / 4
    assert all(sentence in text for sentence in sentences(short))
    assert answer([("system", "Summarise the text the user sends."), ("user", text)]) == short


def test_a_question_without_an_answer_in_the_text_is_not_answered() -> None:
    assert answer([("user", f"{TEXT}\n\nQuestion: Where do penguins nest?")]) == NOTHING_FOUND


def test_latencies_repeat_with_the_seed_spread_and_fall_with_cache_and_speed() -> None:
    def draws(speed: float, uncached: int) -> list[float]:
        pace = Pace(random.Random(5), speed)
        return [pace.first_token_s(uncached) for _ in range(300)]

    usual = draws(1, 1_000)
    assert usual == draws(1, 1_000)
    assert max(usual) > 2 * min(usual)
    assert sum(draws(1, 0)) < sum(usual)
    assert sum(draws(2, 1_000)) == pytest.approx(sum(usual) / 2)
