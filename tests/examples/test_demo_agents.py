"""The sample agents as real processes: a real model server behind them, a receiver in place of the sidecar before them."""

import asyncio
import json
import os
import signal
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import aiohttp
import psutil
import pytest
import yaml
from aiohttp import web

from examples.agents._shared.telemetry import Outbox
from schemas.events import Event
from schemas.reading import read_event
from schemas.state import HealingConfig, ProbeConfig
from tests.conftest import until

ROOT: Final = Path(__file__).resolve().parents[2]
AGENTS: Final = ROOT / "examples" / "agents"
SECRET_WORD: Final = "zanzibar"
"""Stands in questions and documents; must never stand in an event or a log."""


@asynccontextmanager
async def process(command: Sequence[str], folder: Path = ROOT, **environment: str) -> AsyncIterator[tuple[Process, str]]:
    """A child process and the URL it says it listens on; it must end by itself or with SIGTERM, with exit code 0."""
    inherited = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    child = await asyncio.create_subprocess_exec(
        sys.executable, *command, cwd=folder, env=inherited | environment, stdout=PIPE, stderr=PIPE, limit=1 << 20
    )
    assert child.stdout is not None
    assert child.stderr is not None
    try:
        first = await asyncio.wait_for(child.stdout.readline(), 10)
        assert first, (await child.stderr.read()).decode()
        yield child, first.decode().split()[-1]
    finally:
        if child.returncode is None:
            child.send_signal(signal.SIGTERM)
        out, err = await asyncio.wait_for(child.communicate(), 5)
    assert child.returncode == 0, err.decode()
    assert SECRET_WORD.encode() not in out + err
    assert b"Traceback" not in err


@asynccontextmanager
async def serving(*routes: web.RouteDef) -> AsyncIterator[str]:
    """Handlers of this test on a real port."""
    application = web.Application()
    application.add_routes(routes)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


class Sidecar:
    """Takes events as a sidecar does and reads each by the contract."""

    def __init__(self) -> None:
        self.status = 202
        self.asked = 0
        self.raw: list[bytes] = []
        self.events: list[Event] = []

    async def take(self, request: web.Request) -> web.Response:
        self.asked += 1
        if self.status == 202:
            assert request.content_type == "application/x-ndjson"
            lines = (await request.read()).splitlines()
            self.raw += lines
            for line in lines:
                event = read_event(line)
                assert isinstance(event, Event), event
                self.events.append(event)
        return web.Response(status=self.status)

    def types(self) -> list[str]:
        return [event.event_type for event in self.events]

    def of(self, event_type: str) -> list[Event]:
        return [event for event in self.events if event.event_type == event_type]

    def quotes(self, word: str) -> bool:
        return any(word.encode() in line for line in self.raw)


class Recorder:
    """Passes requests on to the model server and keeps what the API answered."""

    def __init__(self, model_url: str) -> None:
        self._model_url = model_url
        self.requests: list[dict[str, Any]] = []
        self.traceparents: list[str] = []
        self.usages: list[dict[str, Any]] = []

    async def pass_on(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.requests.append(json.loads(body))
        self.traceparents.append(request.headers["traceparent"])
        async with aiohttp.ClientSession() as session, session.post(f"{self._model_url}/chat/completions", data=body) as response:
            answer = await response.read()
        for line in answer.removeprefix(b"data: ").split(b"\n\ndata: "):
            if line.startswith(b"{") and (usage := json.loads(line).get("usage")):
                self.usages.append(usage)
        return web.Response(body=answer, status=response.status, content_type=response.content_type)


class World:
    """A model server, a recorder before it, a sidecar, and as many agents as a test starts."""

    def __init__(self, stack: AsyncExitStack, sidecar: Sidecar, recorder: Recorder, urls: tuple[str, str], corpus: Path) -> None:
        self._stack = stack
        self._sidecar_url, self._model_url = urls
        self._corpus = corpus
        self.sidecar = sidecar
        self.recorder = recorder

    async def start(self, agent: str, **environment: str) -> tuple[Process, str]:
        given = {
            "PORT": "0",
            "AGENTOPS_SIDECAR_URL": self._sidecar_url,
            "AGENTOPS_PROJECT": "assistants",
            "AGENTOPS_CORPUS": str(self._corpus),
            "OPENAI_BASE_URL": f"{self._model_url}/v1",
            "OPENAI_API_KEY": "any",
        }
        return await self._stack.enter_async_context(process(["service.py"], AGENTS / agent, **(given | environment)))


@pytest.fixture(scope="session")
async def model_url() -> AsyncIterator[str]:
    async with process(["-m", "examples.model_server", "--port", "0", "--seed", "7", "--speed", "1000"]) as (_, url):
        yield url


@pytest.fixture
async def world(model_url: str, tmp_path: Path) -> AsyncIterator[World]:
    (tmp_path / "islands.md").write_text(
        f"# Islands\n\nThe {SECRET_WORD} archipelago lies off the coast of Africa. Cloves grow there.\n\n"
        "# Rivers\n\nThe Danube flows through ten countries. It ends in the Black Sea.\n",
        encoding="utf-8",
    )
    sidecar, recorder = Sidecar(), Recorder(model_url)
    async with AsyncExitStack() as stack:
        sidecar_url = await stack.enter_async_context(serving(web.post("/v1/events", sidecar.take)))
        recorder_url = await stack.enter_async_context(serving(web.post("/v1/chat/completions", recorder.pass_on)))
        yield World(stack, sidecar, recorder, (sidecar_url, recorder_url), tmp_path)


async def post(url: str, body: Any, **headers: str) -> tuple[int, dict[str, Any]]:
    async with aiohttp.ClientSession() as session, session.post(url, json=body, headers=headers) as response:
        return response.status, await response.json()


def spans(event: Event) -> tuple[str | None, str | None]:
    assert event.trace is not None
    return event.trace.span_id, event.trace.parent_span_id


async def test_a_question_is_answered_from_the_documents_and_told_as_a_nested_run(world: World) -> None:
    """One chat request: retrieval by a tool, an answer by the model, six events, spans nested under the caller's."""
    _, url = await world.start("chat-service")
    status, answer = await post(
        f"{url}/chat", {"message": f"What grows in {SECRET_WORD}?"}, traceparent=f"00-{'a' * 32}-{'b' * 16}-01"
    )
    assert status == 200
    assert "Cloves grow there." in answer["answer"]
    assert answer["sources"] == ["islands.md"]

    sidecar = world.sidecar
    await until(lambda: "run.completed" in sidecar.types(), "the end of the run at the sidecar")
    assert sidecar.types() == [
        "run.started", "tool_call.completed", "step.completed", "model_call.completed", "step.completed", "run.completed",
    ]  # fmt: skip
    started, tool, retrieve, model, answered, ended = sidecar.events
    assert {event.run.run_id for event in sidecar.events} == {answer["run_id"]}
    assert {event.trace.trace_id for event in sidecar.events if event.trace} == {"a" * 32}
    assert spans(started) == spans(ended)
    assert spans(started)[1] == "b" * 16
    assert spans(retrieve)[1] == spans(answered)[1] == spans(started)[0]
    assert spans(tool)[1] == spans(retrieve)[0]
    assert spans(model)[1] == spans(answered)[0]
    assert world.recorder.traceparents == [f"00-{'a' * 32}-{spans(model)[0]}-01"]
    assert len({event.event_id for event in sidecar.events}) == 6
    assert {event.event_id.version for event in sidecar.events} == {7}
    assert not sidecar.quotes(SECRET_WORD)


async def test_the_usage_in_events_is_the_usage_the_api_reported(world: World) -> None:
    """Cache reads included: the second turn of a conversation repeats the beginning of the first."""
    _, url = await world.start("chat-service")
    for _ in range(2):
        assert (await post(f"{url}/chat", {"message": "Where does the Danube end?", "conversation_id": "c1"}))[0] == 200
    await until(lambda: world.sidecar.types().count("run.completed") == 2, "both runs at the sidecar")
    calls = world.sidecar.of("model_call.completed")
    for event, usage in zip(calls, world.recorder.usages, strict=True):
        assert event.resource_usage is not None
        assert event.model_call is not None
        assert event.resource_usage.input_tokens == usage["prompt_tokens"]
        assert event.resource_usage.output_tokens == usage["completion_tokens"]
        assert event.resource_usage.cache_read_tokens == usage["prompt_tokens_details"]["cached_tokens"]
        assert not event.resource_usage.estimated
        assert event.model_call.streamed
        assert event.model_call.time_to_first_token_ms is not None
        assert event.model_call.response_id is not None
    assert world.recorder.usages[1]["prompt_tokens_details"]["cached_tokens"] >= 64


async def test_a_long_text_is_summarised_in_chunks_and_combined(world: World) -> None:
    """Each chunk is a model call of its own in one step; one more call combines them."""
    _, url = await world.start("summary-service")
    text = "\n\n".join(
        f"Station {number} measures the {SECRET_WORD} tide every {number + 2} hours. It reports to the harbour."
        for number in range(150)
    )
    status, answer = await post(f"{url}/summarize", {"text": text})
    assert status == 200
    assert answer["chunks"] == 3
    assert "tide" in answer["summary"]
    assert len(answer["summary"]) < len(text) / 4
    await until(lambda: "run.completed" in world.sidecar.types(), "the end of the run at the sidecar")
    steps = {event.step.name: event for event in world.sidecar.of("step.completed") if event.step}
    assert list(steps) == ["chunk", "summarize", "combine"]
    parents = [spans(event)[1] for event in world.sidecar.of("model_call.completed")]
    assert parents == [spans(steps["summarize"])[0]] * 3 + [spans(steps["combine"])[0]]
    billed = [event.resource_usage.total_tokens for event in world.sidecar.of("model_call.completed") if event.resource_usage]
    assert sorted(filter(None, billed)) == sorted(usage["total_tokens"] for usage in world.recorder.usages)
    assert not world.sidecar.quotes(SECRET_WORD)


async def test_a_document_is_summarised_by_name_and_no_other_file_can_be_named(world: World) -> None:
    _, url = await world.start("summary-service")
    status, answer = await post(f"{url}/summarize", {"document": "islands.md"})
    assert (status, answer["chunks"]) == (200, 1)
    wrong: list[Any] = [{"document": "../islands.md"}, {"document": "/etc/hostname"}, {"text": ""}, {}, [], {"text": 5}]
    for body in wrong:
        status, answer = await post(f"{url}/summarize", body)
        assert (status, answer["error"]["type"]) == (400, "bad_request")
    await until(lambda: "run.completed" in world.sidecar.types(), "the end of the run at the sidecar")
    assert world.sidecar.types().count("run.started") == 1


@pytest.mark.parametrize(
    ("agent", "path", "field"), [("chat-service", "chat", "message"), ("summary-service", "summarize", "text")]
)
async def test_without_a_model_server_the_client_gets_502_and_the_run_is_told_as_failed(
    world: World, agent: str, path: str, field: str
) -> None:
    _, url = await world.start(agent, OPENAI_BASE_URL="http://127.0.0.1:9/v1")
    status, answer = await post(f"{url}/{path}", {field: f"Where is {SECRET_WORD}?"})
    assert status == 502
    assert answer["error"]["type"] == "connection_error"
    await until(lambda: "run.failed" in world.sidecar.types(), "the failed run at the sidecar")
    assert [kind for kind in world.sidecar.types() if kind.endswith("failed")] == [
        "model_call.failed",
        "step.failed",
        "run.failed",
    ]
    for event in (event for event in world.sidecar.events if event.event_type.endswith("failed")):
        assert event.error is not None
        assert event.error.type == "connection_error"
        assert event.error.retryable
        assert event.error.message
    assert not world.sidecar.quotes(SECRET_WORD)


async def test_a_refusal_of_the_api_keeps_its_code(world: World) -> None:
    _, url = await world.start("chat-service", OPENAI_MODEL="gpt-unheard-of")
    status, _ = await post(f"{url}/chat", {"message": "Where does the Danube end?"})
    assert status == 502
    await until(lambda: "run.failed" in world.sidecar.types(), "the failed run at the sidecar")
    error = world.sidecar.of("model_call.failed")[0].error
    assert error is not None
    assert (error.type, error.code, error.retryable) == ("invalid_request_error", "model_not_found", False)


async def test_a_stream_that_breaks_off_is_a_failed_call(world: World) -> None:
    """Half an answer is not an answer, and must not look like one."""

    async def half(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b'data: {"choices":[{"index":0,"delta":{"content":"Half"}}]}\n\n')
        return response

    async with serving(web.post("/v1/chat/completions", half)) as model_url:
        _, url = await world.start("chat-service", OPENAI_BASE_URL=f"{model_url}/v1")
        status, answer = await post(f"{url}/chat", {"message": "Where does the Danube end?"})
    assert (status, answer["error"]["type"]) == (502, "response_truncated")


async def test_a_missing_corpus_fails_the_tool_and_not_the_run(world: World, tmp_path: Path) -> None:
    _, url = await world.start("chat-service", AGENTOPS_CORPUS=str(tmp_path / "absent"))
    status, answer = await post(f"{url}/chat", {"message": "Where does the Danube end?"})
    assert (status, answer["sources"]) == (200, [])
    await until(lambda: "run.completed" in world.sidecar.types(), "the end of the run at the sidecar")
    error = world.sidecar.of("tool_call.failed")[0].error
    assert error is not None
    assert error.type == "NoCorpusError"


async def test_what_is_queued_at_sigterm_is_sent_before_the_end(world: World) -> None:
    """The sidecar refuses for a while; requests are served all the same, and nothing is lost when it takes events again."""
    world.sidecar.status = 503
    child, url = await world.start("chat-service")
    assert (await post(f"{url}/chat", {"message": "Where does the Danube end?"}))[0] == 200
    await until(lambda: world.sidecar.asked >= 2, "a second attempt to deliver")
    began = time.monotonic()
    child.send_signal(signal.SIGTERM)
    world.sidecar.status = 202
    assert await asyncio.wait_for(child.wait(), 5) == 0
    assert time.monotonic() - began < 2
    assert sorted(world.sidecar.types()) == sorted(
        ["run.started", "tool_call.completed", "step.completed", "model_call.completed", "step.completed", "run.completed"]
    )


async def test_a_run_cut_off_by_sigterm_is_told_as_cancelled(world: World) -> None:
    """The client of a run that cannot finish gets an answer, and the run an end."""
    asked = asyncio.Event()

    async def never(_request: web.Request) -> web.Response:
        asked.set()
        await asyncio.Event().wait()
        raise AssertionError

    async with serving(web.post("/v1/chat/completions", never)) as model_url:
        child, url = await world.start("chat-service", OPENAI_BASE_URL=f"{model_url}/v1")
        request = asyncio.create_task(post(f"{url}/chat", {"message": "Where does the Danube end?"}))
        await asyncio.wait_for(asked.wait(), 5)
        began = time.monotonic()
        child.send_signal(signal.SIGTERM)
        assert (await request)[0] == 503
        assert await asyncio.wait_for(child.wait(), 5) == 0
        assert time.monotonic() - began < 2
    ended = world.sidecar.of("run.failed")[0]
    assert ended.error is not None
    assert (ended.run.status, ended.error.type) == ("cancelled", "cancelled")


async def test_a_sidecar_that_is_away_costs_a_request_nothing(world: World) -> None:
    child, url = await world.start("chat-service", AGENTOPS_SIDECAR_URL="http://127.0.0.1:9")
    assert (await post(f"{url}/chat", {"message": "Where does the Danube end?"}))[0] == 200
    began = time.monotonic()
    child.send_signal(signal.SIGTERM)
    assert await asyncio.wait_for(child.wait(), 5) == 0
    assert time.monotonic() - began < 2


async def test_an_agent_is_light(world: World) -> None:
    """Below 60 MB after real work, so that a fleet of them fits beside everything else."""
    child, url = await world.start("chat-service")
    assert (await post(f"{url}/chat", {"message": "Where does the Danube end?"}))[0] == 200
    assert psutil.Process(child.pid).memory_info().rss < 60_000_000


async def test_a_full_outbox_drops_the_oldest_and_counts_it() -> None:
    got: list[int] = []

    async def take(request: web.Request) -> web.Response:
        got.extend(json.loads(line)["number"] for line in (await request.read()).splitlines())
        return web.Response(status=202)

    async with serving(web.post("/v1/events", take)) as url:
        outbox = Outbox(url, capacity=3)
        for number in range(5):
            outbox.add({"number": number})
        outbox.start()
        await outbox.close(within_s=2)
    assert outbox.dropped == 2
    assert got == [2, 3, 4]


@pytest.mark.parametrize("agent", ["chat-service", "summary-service"])
def test_a_manifest_says_what_the_manager_needs(agent: str) -> None:
    manifest = yaml.safe_load((AGENTS / agent / "agent.yaml").read_text(encoding="utf-8"))
    assert manifest["agent_id"] == agent
    assert manifest["command"] == ["python", "service.py"]
    assert (AGENTS / agent / "service.py").is_file()
    assert [
        ProbeConfig.model_validate(probe | {"interval_s": float(probe["interval_s"])}).kind for probe in manifest["probes"]
    ] == ["http", "process"]
    assert HealingConfig.model_validate(manifest["healing"]).enabled
    assert manifest["environment"]["OPENAI_API_KEY"] == "${OPENAI_API_KEY}"


async def test_the_driver_keeps_going_while_agents_come_and_go(tmp_path: Path) -> None:
    """Targets may be missing at first and move later; the last line says what became of the requests."""
    bodies: list[dict[str, Any]] = []

    async def take(request: web.Request) -> web.Response:
        bodies.append(await request.json())
        return web.json_response({}, status=200 if request.path == "/chat" else 502)

    targets = tmp_path / "targets.json"
    command = ["-m", "examples.driver", "--targets", str(targets), "--rate", "50", "--seed", "3"]
    async with serving(web.post("/chat", take), web.post("/summarize", take)) as url, process(command) as (child, _):
        targets.write_text(json.dumps({"chat-service": "http://127.0.0.1:9", "summary-service": url}), encoding="utf-8")
        await until(lambda: any("text" in body for body in bodies), "a summary asked for")
        targets.write_text(json.dumps({"chat-service": url, "summary-service": url}), encoding="utf-8")
        await until(lambda: any("message" in body for body in bodies), "a question asked")
        child.send_signal(signal.SIGTERM)
        assert child.stdout is not None
        last = (await asyncio.wait_for(child.stdout.readline(), 5)).decode()
        await asyncio.wait_for(child.wait(), 5)
    chat, summary = last.split("; ")
    assert chat.startswith("chat-service: ")
    assert "x 502" in summary
    assert ", 0 answered" not in chat
    assert all(body.get("text", body.get("message", "")).strip() for body in bodies)
