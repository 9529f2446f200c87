"""Agents of other makers, with their own instrumentations and nothing of ours: the same calls come to the same bill.

Each is a process that knows no more than where to send its telemetry and where its models are.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import aiohttp
import pytest

from tests.conftest import until
from tests.integrations.environment import BESIDE, interpreter
from tests.integrations.model_server import ANSWER, ANSWERING, ASKING, EMBEDDING, READING, TOOL, WRITING, Usage
from tests.integrations.watching import Told, Watched, watching
from tests.processors_validate.running import ledger
from tests.sidecar.running import Sidecar


@dataclass(frozen=True, slots=True)
class Framework:
    """One framework with one instrumentation, and what that tells."""

    name: str
    script: str
    arguments: tuple[str, ...]
    environment: tuple[tuple[str, str], ...] = ()
    scenarios: tuple[str, ...] = ("weather", "streamed", "broken", "refused")
    asks: Usage = ASKING
    answers: Usage = ANSWERING
    costs: tuple[str, str] = ("0.000149600", "0.000565800")
    model: tuple[str, str] = ("openai", "gpt-5-mini")
    cache: bool = True
    """Whether it tells how much of the input was read from the cache. One that does not makes a call dearer than it was."""
    reasoning: bool = True
    reasoning_streamed: bool = True
    response_ids: bool = True
    response_ids_streamed: bool = True
    current: bool = True
    """Whether its spans are current in the agent's process, so that what happens in them knows its trace."""
    tools: bool = True
    """Whether it has spans of agents and tools; one of a client alone has not."""
    breaks: str = "model_call.failed"
    """What it takes a stream for that breaks off."""
    fails_run: bool = True
    """Whether it says of a run that it failed, too, when a call in it did."""
    silent: bool = False
    """Whether it has no instrumentation at all."""
    wraps: bool = False
    """Whether two of its spans count the tokens of each call."""
    wrong: tuple[str, str] = field(default=("0.000380000", "0.000825000"))
    """What the two calls come to where the cache is not told of."""

    def bill(self, *, streamed: bool = False) -> list[tuple[str, str, Usage, str]]:
        """What the ledger holds of the two calls."""

        def known(usage: Usage) -> Usage:
            if not (self.reasoning_streamed if streamed else self.reasoning):
                usage = replace(usage, reasoning_tokens=0)
            return usage if self.cache else replace(usage, cache_read_tokens=0)

        costs = self.costs if self.cache else self.wrong
        return [(*self.model, known(usage), cost) for usage, cost in zip((self.asks, self.answers), costs, strict=True)]


FRAMEWORKS: Final = (
    Framework("pydantic-ai", "pydantic_ai_agent.py", ("openai-chat:gpt-5-mini",), breaks="model_call.completed"),
    Framework(
        "pydantic-ai, Responses API", "pydantic_ai_agent.py", ("openai-responses:gpt-5-mini",), breaks="model_call.completed"
    ),
    Framework(
        "pydantic-ai, Anthropic", "pydantic_ai_agent.py", ("anthropic:claude-sonnet-4-5",), scenarios=("weather", "streamed"),
        asks=WRITING, answers=READING, costs=("0.003201600", "0.004981200"), model=("anthropic", "claude-sonnet-4-5"), wraps=True,
    ),
    Framework(
        "LangGraph, OpenInference", "langgraph_agent.py", ("openinference",), current=False, response_ids_streamed=False,
    ),
    Framework(
        "OpenAI Agents SDK, OpenInference", "openai_agents_agent.py", ("openinference",), fails_run=False,
    ),
    Framework(
        "OpenAI Agents SDK on chat completions, OpenInference", "openai_agents_agent.py", ("openinference-chat",),
        scenarios=("weather",), cache=False, reasoning=False, response_ids=False,
    ),
    Framework(
        "OpenAI Agents SDK, OpenTelemetry", "openai_agents_agent.py", ("opentelemetry",), breaks="model_call.completed",
        fails_run=False,
    ),
    Framework("OpenAI SDK, OpenTelemetry", "openai_agent.py", ("genai",), current=False, tools=False),
    Framework(
        "OpenAI SDK, openai-v2", "openai_agent.py", ("v2",), (("PYTHONPATH", str(BESIDE)),), current=False, tools=False,
        cache=False, reasoning=False, reasoning_streamed=False,
    ),
    Framework(
        "OpenAI SDK, OpenLLMetry", "openai_agent.py", ("openllmetry",), (("PYTHONPATH", str(BESIDE)),), current=False, tools=False, reasoning_streamed=False,
        breaks="model_call.completed",
    ),
)  # fmt: skip


class Stage:
    """Everything is started once, and each framework plays all of its scenarios once."""

    def __init__(self, watched: Watched) -> None:
        self._watched = watched
        self._played: dict[str, asyncio.Task[dict[str, Told]]] = {}

    async def play(self, framework: Framework, scenario: str) -> Told:
        """What became of ``scenario``."""
        playing = self._played.get(framework.name)
        if playing is None:
            playing = self._played[framework.name] = asyncio.create_task(
                self._watched.told(
                    framework.script,
                    *framework.arguments,
                    scenarios=framework.scenarios,
                    silent=framework.silent,
                    **dict(framework.environment),
                )
            )
        return (await playing)[scenario]

    @property
    def watched(self) -> Watched:
        return self._watched


@pytest.fixture(scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    python = await asyncio.to_thread(interpreter)
    async with watching(python, tmp_path_factory.mktemp("frameworks"), "--otlp-grpc-port", "0") as watched:
        yield Stage(watched)


def named(framework: Framework) -> str:
    return framework.name


def playing(scenario: str, *, current: bool = False) -> pytest.MarkDecorator:
    """Every framework that plays ``scenario``; those that are ``current``."""
    found = [one for one in FRAMEWORKS if scenario in one.scenarios and (one.current or not current)]
    return pytest.mark.parametrize("framework", found, ids=named)


@playing("weather")
async def test_the_same_two_calls_come_to_the_same_bill(stage: Stage, framework: Framework) -> None:
    """Tokens and dollars to the last digit; where an instrumentation keeps the cache to itself, that is all that differs."""
    told = await stage.play(framework, "weather")
    assert (told.said, told.error) == (ANSWER, None)
    assert len(told.served) == 2
    assert told.bill == framework.bill()
    assert [entry.reason for entry in told.entries] == ["priced", "priced"]
    assert not any(entry.estimated for entry in told.entries)
    if framework.response_ids:
        assert [entry.response_id for entry in told.entries] == [one.response_id for one in told.served]


@playing("weather")
async def test_a_run_ends_once_and_last_and_everything_in_it_has_its_place(stage: Stage, framework: Framework) -> None:
    told = await stage.play(framework, "weather")
    traces = {event.trace.trace_id for event in told.events if event.trace}
    if not framework.tools:
        # A client alone has no idea of a run: each call is one.
        assert len(traces) == len(told.of("run.completed")) == len(told.entries) == 2
        return
    (trace,) = traces
    (ended,) = told.of("run.completed", "run.failed")
    assert (ended.event_type, ended.run.status, ended.run.run_id, ended.run.agent_id) == (
        "run.completed", "completed", trace, "weather-1",
    )  # fmt: skip
    assert ended.trace is not None
    assert ended.trace.parent_span_id is None
    assert ended.occurred_at == max(event.occurred_at for event in told.events)
    assert min(event.occurred_at for event in told.events) == min(event.occurred_at for event in told.of("run.started"))
    assert {event.run.run_id for event in told.events} == {entry.run_id for entry in told.entries} == {trace}
    (tool,) = told.of("tool_call.completed")
    assert tool.tool_call is not None
    assert tool.tool_call.name == TOOL
    parents = {event.trace.span_id: event.trace.parent_span_id for event in told.events if event.trace}
    for event in told.events:
        place, ways = event.trace.span_id if event.trace else None, 0
        while place != ended.trace.span_id:
            assert place in parents, f"{event.event_type} hangs in the air"
            place, ways = parents[place], ways + 1
            assert ways < 20
    for call in told.of("model_call.completed"):
        assert call.model_call is not None
        assert call.model_call.step_id in parents


@playing("weather", current=True)
async def test_the_agents_own_trace_id_is_in_every_event(stage: Stage, framework: Framework) -> None:
    told = await stage.play(framework, "weather")
    (known,) = told.traces
    assert {event.trace.trace_id for event in told.events if event.trace} == {known}


@playing("weather")
async def test_only_leaves_are_billed_and_what_counts_their_tokens_again_says_so(stage: Stage, framework: Framework) -> None:
    told = await stage.play(framework, "weather")
    assert len(told.of("model_call.completed")) == 2
    wrappers = [event for event in told.events if event.attributes.get("agentops.not_billed") == "around calls that are billed"]
    assert len(wrappers) == (2 if framework.wraps else 0)
    assert all(event.resource_usage is None for event in told.events if not event.event_type.startswith("model_call."))


@playing("streamed")
async def test_a_streamed_answer_costs_what_a_whole_one_does(stage: Stage, framework: Framework) -> None:
    told = await stage.play(framework, "streamed")
    assert (told.said, told.error) == (ANSWER, None)
    assert all(one.streamed and one.usage for one in told.served)
    assert told.bill == framework.bill(streamed=True)[-len(told.served) :]
    if framework.response_ids_streamed:
        assert [entry.response_id for entry in told.entries] == [one.response_id for one in told.served]


@playing("broken")
async def test_a_stream_that_breaks_off_is_seen_and_never_passes_for_a_call_that_cost_nothing(
    stage: Stage, framework: Framework
) -> None:
    told = await stage.play(framework, "broken")
    assert told.error is not None
    assert [one.usage for one in told.served] == [None]
    (call,) = told.of("model_call.completed", "model_call.failed")
    assert call.event_type == framework.breaks
    if call.event_type == "model_call.completed":
        assert call.resource_usage is not None
        assert call.resource_usage.estimated
        assert call.attributes["agentops.usage"] == "not reported"
        assert [entry.estimated for entry in told.entries] == [True]
    else:
        assert call.error is not None
        assert "onnection" in call.error.message
    (ended,) = told.of("run.completed", "run.failed")
    tells = framework.fails_run and not (framework.breaks == "model_call.completed" and not framework.tools)
    assert ended.event_type == ("run.failed" if tells else "run.completed")
    if framework.tools:
        assert [event for event in told.events if event.event_type.endswith(".failed")], "somebody says that it failed"


@playing("refused")
async def test_a_refused_call_fails_and_is_not_billed(stage: Stage, framework: Framework) -> None:
    told = await stage.play(framework, "refused")
    assert told.error is not None
    (call,) = told.of("model_call.completed", "model_call.failed")
    assert call.event_type == "model_call.failed"
    assert call.error is not None
    assert "had an error" in call.error.message
    assert not call.error.type.startswith("<class")
    assert told.entries == []
    (ended,) = told.of("run.completed", "run.failed")
    assert ended.event_type == ("run.failed" if framework.fails_run else "run.completed")


async def test_an_agent_inside_an_agent_is_a_step_of_one_run_and_its_sums_are_not_billed(stage: Stage) -> None:
    pydantic_ai = replace(FRAMEWORKS[0], name="pydantic-ai, nested", scenarios=("nested",))
    told = await stage.play(pydantic_ai, "nested")
    assert len(told.served) == len(told.entries) == 4
    assert sorted(told.bill, key=lambda row: row[3]) == sorted(pydantic_ai.bill() * 2, key=lambda row: row[3])
    (ended,) = told.of("run.completed")
    (inner,) = told.of("step.completed")
    assert inner.step is not None
    assert (inner.step.step_type, inner.step.name) == ("invoke_agent", "invoke_agent weather")
    assert {event.run.run_id for event in told.events} == {ended.run.run_id}
    assert len(told.of("tool_call.completed")) == 2


async def test_embeddings_are_billed(stage: Stage) -> None:
    for name in ("OpenAI SDK, OpenTelemetry", "OpenAI SDK, openai-v2", "OpenAI SDK, OpenLLMetry"):
        framework = next(one for one in FRAMEWORKS if one.name == name)
        told = await stage.play(replace(framework, name=f"{name}: embeddings", scenarios=("embedded",)), "embedded")
        assert told.bill == [("openai", "text-embedding-3-small", EMBEDDING, "0.000000180")]


async def test_an_exporter_that_speaks_grpc_tells_the_same(stage: Stage) -> None:
    there = {
        "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc",
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{stage.watched.sidecar.run['otlp_grpc_port']}",
    }
    framework = Framework("gRPC", "openai_agent.py", ("genai",), tuple(there.items()), scenarios=("weather",), tools=False)
    told = await stage.play(framework, "weather")
    assert told.bill == framework.bill()


async def test_a_stream_nobody_asked_the_usage_of_is_marked(stage: Stage) -> None:
    """Without ``include_usage`` OpenAI says nothing; only the metering proxy can know."""
    framework = replace(FRAMEWORKS[7], name="untold", scenarios=("untold",))
    told = await stage.play(framework, "untold")
    (entry,) = told.entries
    assert entry.estimated
    (call,) = told.of("model_call.completed")
    assert call.attributes["agentops.usage"] == "not reported"


async def test_two_instrumentations_of_one_stack_are_recognised_by_the_response_id(stage: Stage) -> None:
    """LangChain's spans and those of the client below it are in different traces; both know the provider's id."""
    framework = Framework("both", "langgraph_agent.py", ("openinference+genai",), scenarios=("weather",))
    told = await stage.play(framework, "weather")
    assert [entry.response_id for entry in told.standing] == [one.response_id for one in told.served]
    assert told.bill == framework.bill()
    ids = sorted(call.model_call.response_id or "" for call in told.of("model_call.completed") if call.model_call)
    assert ids == sorted([one.response_id for one in told.served] * 2)


async def test_an_agent_that_its_sidecar_starts_is_watched_without_a_single_setting(stage: Stage, tmp_path: Path) -> None:
    watched = stage.watched
    script = Path(__file__).parent / "agents" / "openai_agent.py"
    async with aiohttp.ClientSession() as http:
        sidecar = Sidecar(tmp_path, watched.server.settings("sidecar"), http, "weather-2")
        models = {"OPENAI_BASE_URL": watched.models.openai_url, "OPENAI_API_KEY": "sk-none"}
        await sidecar.start(command=[str(watched.python), str(script), "genai", "weather"], **models)
        try:

            async def billed() -> bool:
                return len([entry for entry in await ledger(watched.client) if entry.agent_id == "weather-2"]) == 2

            await until(billed, "what it did is billed", 30)
        finally:
            await sidecar.stop()
    found = [entry for entry in await ledger(watched.client) if entry.agent_id == "weather-2"]
    assert sorted(f"{entry.cost_usd:f}" for entry in found) == ["0.000149600", "0.000565800"]


def test_no_script_knows_anything_of_agentops() -> None:
    for script in (Path(__file__).parent / "agents").glob("*.py"):
        assert "import agentops" not in script.read_text()
        assert "sidecar" not in script.read_text()
