"""The pure parts: conversations, event streams, what a path is, where a route leads."""

import base64
import json
import struct
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, get_args
from zlib import crc32

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.sections import FaultKind
from schemas.state import MeteredRoute
from sidecar.metering.answers import Answer
from sidecar.metering.apis import Api, api_of
from sidecar.metering.conversations import IDLE_S, MOST_RUNS, Conversations, said
from sidecar.metering.decoding import acceptable
from sidecar.metering.events import MOST_EVENT_BYTES, Frames, ServerSent
from sidecar.metering.providers import ROUTES, UnknownUpstreamError, provider_of, upstream
from sidecar.metering.reading import Tap
from sidecar.metering.usage import Read, fitted
from sidecar.settings import SidecarSettings

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)


def user(text: str, **more: Any) -> dict[str, Any]:
    return {"role": "user", "content": text} | more


def model(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


class Talk:
    """Conversations of one agent, with a clock of the test's own."""

    def __init__(self) -> None:
        self.conversations = Conversations("a")
        self.now = 0.0

    def ask(self, *messages: dict[str, Any], shape: Any = "chat", again: bool = False, **more: Any) -> str:
        asked = said(shape, {"messages": list(messages)} | more, again=again)
        return self.conversations.place(asked, None, now=self.now, wall=NOW).run_id


def test_a_conversation_is_one_run_and_another_is_another() -> None:
    talk = Talk()
    first = talk.ask(user("hi"))
    other = talk.ask(user("hi"))
    assert first != other
    # Of two that began alike, the later one is gone on with.
    assert talk.ask(user("hi"), model("hello"), user("more")) == other
    mine = talk.ask(user("yes?"))
    assert talk.ask(user("yes?"), model("well"), user("and?")) == mine
    assert talk.ask(user("yes?"), model("well"), user("and?"), model("so"), user("end")) == mine
    assert talk.ask(user("yes?"), model("well"), user("and?"), again=True) == mine


def test_what_clients_change_in_messages_they_send_again_makes_no_new_conversation() -> None:
    talk = Talk()
    run = talk.ask(user("hi", cache_control={"type": "ephemeral"}), shape="messages", system="be kind")
    assert talk.ask(user("hi"), model("hello"), user("x"), shape="messages", system="be kind") == run
    assert talk.ask(user("hi"), model("hello"), user("x"), shape="messages", system="be rude") != run


def test_an_id_of_the_conversation_or_of_the_answer_before_tells_it() -> None:
    talk = Talk()
    named = {talk.ask(user(text), metadata={"session_id": "s1"}) for text in ("a", "b")}
    assert len(named) == 1
    assert named == {Talk().ask(user("c"), metadata={"session_id": "s1"})}, "also after a restart"
    first = talk.conversations.place(said("responses", {"input": "x"}), None, now=0, wall=NOW).run_id
    talk.conversations.answered(first, "resp_1", now=1, wall=NOW)
    next_one = said("responses", {"input": "y", "previous_response_id": "resp_1"})
    assert talk.conversations.place(next_one, None, now=2, wall=NOW).run_id == first


def test_a_silent_conversation_is_over_once_and_state_is_bounded() -> None:
    talk = Talk()
    run = talk.ask(user("hi"))
    assert talk.conversations.over(IDLE_S - 1) == []
    [over] = talk.conversations.over(IDLE_S)
    assert (over.run_id, over.began_at, over.last_at) == (run, NOW, NOW)
    assert talk.conversations.over(IDLE_S) == []
    assert talk.ask(user("hi"), model("hello"), user("more")) != run
    for number in range(MOST_RUNS + 5):
        talk.ask(user(f"number {number}"))
    assert len(talk.conversations.over(0)) == 6
    assert len(talk.conversations.over(0, everything=True)) == MOST_RUNS


@settings(deadline=None)
@given(st.lists(st.text(max_size=20), max_size=8), st.integers(1, 30), st.sampled_from(["\n\n", "\r\n\r\n"]))
def test_events_are_found_however_a_stream_is_cut_and_no_byte_is_lost(texts: list[str], step: int, end: str) -> None:
    raw = "".join(
        f": note\nevent: x\ndata: {json.dumps({'t': text})}".replace("\n", end[: len(end) // 2]) + end for text in texts
    ).encode()
    cutter = ServerSent()
    pieces = [piece for at in range(0, len(raw), step) for piece in cutter.feed(raw[at : at + step])]
    assert b"".join(piece.raw for piece in pieces) + cutter.held == raw
    assert [piece.data["t"] for piece in pieces if piece.data] == texts


def read_in(parts: list[bytes], shape: Any) -> tuple[bytes, Answer]:
    tap = Tap(Api(shape, "chat"), content_type="text/event-stream", encoding=None, failed=False, hides=shape == "chat")
    seen = b"".join(tap.feed(part)[0] for part in parts) + tap.end()
    tap.count_words()
    return seen, tap.answer


@settings(deadline=None)
@given(
    st.sampled_from(["chat", "messages", "responses"]),
    st.lists(
        st.text(max_size=12) | st.sampled_from(['"usage":null', '"finish_reason":"stop"', "[DONE]", "event: x\n\ndata: "]),
        max_size=12,
    ),
    st.lists(st.integers(1, 600), max_size=6),
)
def test_a_part_of_words_alone_is_read_later_to_the_same_end(shape: Any, texts: list[str], cuts: list[int]) -> None:
    """Event by event (most of them put aside), byte by byte (none of them) and in odd pieces: the same answer, the same bytes seen."""
    every: dict[str, list[dict[str, Any]]] = {
        "chat": [
            *({"id": "c1", "model": "m", "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": None}], "usage": None} for text in texts),
            {"id": "c1", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "usage": None},
            {"id": "c1", "choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}},
        ],
        "messages": [
            {"type": "message_start", "message": {"id": "m1", "model": "m", "usage": {"input_tokens": 3}}},
            *({"type": "content_block_delta", "delta": {"type": "text_delta", "text": text}} for text in texts),
            {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}},
        ],
        "responses": [
            *({"type": "response.output_text.delta", "delta": text} for text in texts),
            {"type": "response.completed", "response": {"id": "r1", "model": "m", "status": "completed", "usage": {"input_tokens": 3}}},
        ],
    }  # fmt: skip
    told = every[shape]
    lines = [json.dumps(one, separators=(",", ":")) for one in told]
    named = [("" if shape == "chat" else f"event: {one['type']}\n") for one in told]
    events = [f"{name}data: {line}\n\n".encode() for name, line in zip(named, lines, strict=True)]
    raw = b"".join(events)
    places = sorted({place for place in cuts if place < len(raw)} | {0, len(raw)})
    odd = [raw[start:end] for start, end in pairwise(places)]
    found = [read_in(parts, shape) for parts in (events, [raw[at : at + 1] for at in range(len(raw))], odd)]
    assert found[0] == found[1] == found[2]
    assert found[0][1].written == sum(len(text) for text in texts)
    if shape == "chat":
        assert found[0][0] == b"".join(event.replace(b',"usage":null', b"") for event in events[:-1])


@settings(deadline=None)
@given(st.binary(max_size=300), st.integers(1, 50))
def test_no_bytes_stop_a_cutter(raw: bytes, step: int) -> None:
    for cutter in (ServerSent(), Frames()):
        pieces = [piece for at in range(0, len(raw), step) for piece in cutter.feed(raw[at : at + step])]
        assert b"".join(piece.raw for piece in pieces) + cutter.held == raw


def test_an_event_without_end_is_passed_on_unread() -> None:
    cutter = ServerSent()
    raw = b"data: " + b"x" * (MOST_EVENT_BYTES + 10)
    pieces = [*cutter.feed(raw), *cutter.feed(b"\n\ndata: {}\n\n")]
    assert b"".join(piece.raw for piece in pieces) == raw + b"\n\ndata: {}\n\n"
    assert [piece.data for piece in pieces] == [None, None, {}]


def frame(name: str, payload: Any) -> bytes:
    """One frame of Amazon's event stream."""
    headers = b""
    for key, value in ((b":event-type", name), (b":message-type", "event")):
        headers += bytes([len(key)]) + key + b"\x07" + len(value).to_bytes(2, "big") + value.encode()
    body = json.dumps(payload).encode()
    head = struct.pack(">II", 16 + len(headers) + len(body), len(headers))
    whole = head + crc32(head).to_bytes(4, "big") + headers + body
    return whole + crc32(whole).to_bytes(4, "big")


def test_frames_of_amazons_event_stream_are_read() -> None:
    wrapped = base64.b64encode(json.dumps({"type": "message_stop"}).encode()).decode()
    raw = frame("metadata", {"usage": {"inputTokens": 3}}) + frame("chunk", {"bytes": wrapped})
    cutter = Frames()
    pieces = [piece for at in range(0, len(raw), 11) for piece in cutter.feed(raw[at : at + 11])]
    assert [piece.data for piece in pieces] == [{"metadata": {"usage": {"inputTokens": 3}}}, {"type": "message_stop"}]
    assert b"".join(piece.raw for piece in pieces) == raw


@pytest.mark.parametrize(
    ("path", "shape", "named"),
    [
        ("/v1/chat/completions", "chat", None),
        ("/openai/deployments/my-gpt/chat/completions", "chat", "my-gpt"),
        ("/v1/responses", "responses", None),
        ("/v1/messages", "messages", None),
        ("/v1beta/models/gemini-2.5-flash:streamGenerateContent", "gemini", "gemini-2.5-flash"),
        ("/v1/projects/p/locations/l/publishers/anthropic/models/claude-x@1:rawPredict", "messages", "claude-x@1"),
        ("/model/us.anthropic.claude-v1%3A0/converse", "converse", "us.anthropic.claude-v1:0"),
        ("/model/m/invoke-with-response-stream", "invoke", "m"),
        ("/v1/embeddings", "embeddings", None),
        ("/v1/messages/count_tokens", None, None),
        ("/v1/models", None, None),
    ],
)
def test_a_path_is_a_call_of_an_api(path: str, shape: str | None, named: str | None) -> None:
    found = api_of("POST", path)
    assert (None, None) if found is None else (found.shape, found.model) == (shape, named)
    assert (found is None) == (shape is None)


def test_a_route_leads_where_it_is_told_else_where_the_user_pointed_else_to_the_provider() -> None:
    openai = ROUTES["openai"]
    assert upstream(openai, None, {}).origin == "https://api.openai.com"
    assert upstream(openai, None, {}).told_path == "/openai/v1"
    mine = upstream(openai, None, {"OPENAI_BASE_URL": "https://api.groq.com/openai/v1/"})
    assert (mine.provider, mine.origin, mine.told_path) == ("groq", "https://api.groq.com", "/openai/openai/v1")
    told = upstream(openai, "http://127.0.0.1:8000/v1", {"OPENAI_BASE_URL": "https://api.groq.com"})
    assert (told.provider, told.origin) == ("openai", "http://127.0.0.1:8000")
    assert (
        upstream(ROUTES["bedrock"], None, {"AWS_REGION": "eu-west-1"}).origin == "https://bedrock-runtime.eu-west-1.amazonaws.com"
    )
    vertex = upstream(ROUTES["vertex"], None, {})
    assert vertex.origin_for("/v1/projects/p/locations/europe-west4/x") == "https://europe-west4-aiplatform.googleapis.com"
    assert vertex.origin_for("/v1/projects/p/locations/global/x") == "https://aiplatform.googleapis.com"
    with pytest.raises(UnknownUpstreamError, match="AGENTOPS_SIDECAR_UPSTREAM_AZURE"):
        upstream(ROUTES["azure"], None, {})
    with pytest.raises(UnknownUpstreamError, match="no base URL") as refused:
        upstream(openai, "https://user:secret@host/v1", {})
    assert "secret" not in str(refused.value)


@pytest.mark.parametrize(
    ("host", "provider"),
    [
        ("api.openai.com", "openai"), ("x.openai.azure.com", "azure"), ("europe-west4-aiplatform.googleapis.com", "google"),
        ("bedrock-runtime.us-east-1.amazonaws.com", "aws"), ("notopenai.com", "?"), ("api.x.ai", "x-ai"), ("openrouter.ai", "openrouter"),
    ],
)  # fmt: skip
def test_a_host_tells_who_bills(host: str, provider: str) -> None:
    assert provider_of(host, "?") == provider


def test_what_a_manifest_may_name_is_what_a_sidecar_meters() -> None:
    assert get_args(MeteredRoute) == tuple(ROUTES)
    assert all(f"upstream_{name}" in SidecarSettings.model_fields for name in ROUTES)


def test_an_unknown_provider_is_refused_with_those_there_are() -> None:
    with pytest.raises(ValueError, match="'opnai' is no provider that is metered: choose from openai, anthropic"):
        SidecarSettings(agent_id="a", tenant="t", metering=("opnai",))
    assert SidecarSettings(agent_id="a", tenant="t", metering="openai, anthropic").metering == ("openai", "anthropic")


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(["input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "cache_write_1h_tokens", "output_reasoning_tokens", "input_audio_tokens", "output_citation_tokens", "web_searches"]), st.integers(0, 10**6)))  # fmt: skip
def test_whatever_a_provider_counts_becomes_usage_that_adds_up(counts: dict[str, int]) -> None:
    found = fitted(counts)
    assert isinstance(found, Read)
    assert found.usage.input_tokens == counts.get("input_tokens", 0)
    assert found.usage.output_tokens == counts.get("output_tokens", 0)


def test_only_encodings_that_can_be_read_are_asked_for() -> None:
    assert acceptable(None) is None
    assert acceptable("gzip, deflate, br, zstd") == "gzip, deflate"
    assert acceptable("br") == "identity"


def test_the_page_about_metering_names_every_route_and_fault() -> None:
    page = (Path(__file__).resolve().parents[3] / "docs" / "metering.md").read_text()
    for name, route in ROUTES.items():
        told = upstream(route, None if route.upstream else "https://x.openai.azure.com", {}).told_path
        assert f"| `{name}` | `http://…{told}` | `{route.variables[0]}` |" in page
    for kind in get_args(FaultKind):
        assert (f"| `{kind}` |" in page) == kind.startswith("model_")
