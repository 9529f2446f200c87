"""The same agents with the metering proxy between them and their models: seen twice, billed once, and what was lost is known."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Final

import pytest

from tests.conftest import until
from tests.integrations.environment import interpreter
from tests.integrations.model_server import ANSWER, ANSWERING, ASKING
from tests.integrations.test_frameworks import FRAMEWORKS, Framework, Stage, named
from tests.integrations.test_pages import PAGES, page
from tests.integrations.watching import watching
from tests.processors_validate.running import ledger

RECOGNISED: Final = [one for one in FRAMEWORKS if one.response_ids]
STREAMED: Final = [one for one in RECOGNISED if one.response_ids_streamed and "streamed" in one.scenarios]
CUT: Final = [one for one in STREAMED if "broken" in one.scenarios]


@pytest.fixture(scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    python = await asyncio.to_thread(interpreter)
    metered = ("--metering", "openai", "--metering", "anthropic")
    async with watching(python, tmp_path_factory.mktemp("metered"), *metered) as watched:
        yield Stage(watched)


@pytest.mark.parametrize("framework", RECOGNISED, ids=named)
async def test_a_call_that_otel_and_the_proxy_saw_is_billed_once_and_as_the_provider_counted(
    stage: Stage, framework: Framework
) -> None:
    """Even where the instrumentation keeps the cache to itself: the proxy knows better, and its count stands."""
    told = await stage.play(framework, "weather")
    assert (told.said, told.error) == (ANSWER, None)
    observers = [str(event.attributes["agentops.observed_by"]) for event in told.of("model_call.completed")]
    assert sorted(observers) == ["otel", "otel", "proxy", "proxy"]
    billed = [entry.response_id for entry in told.standing]
    assert sorted(one or "" for one in billed) == sorted(one.response_id for one in told.served)
    assert sorted(row[3] for row in told.bill) == sorted(framework.costs)
    assert sum((entry.cost_usd for entry in told.entries), Decimal()) == sum(map(Decimal, framework.costs))
    assert sum(entry.input_tokens * (-1 if entry.kind == "reversal" else 1) for entry in told.entries) == 2500


@pytest.mark.parametrize("framework", STREAMED, ids=named)
async def test_a_stream_is_billed_once(stage: Stage, framework: Framework) -> None:
    told = await stage.play(framework, "streamed")
    assert (told.said, told.error) == (ANSWER, None)
    assert len(told.standing) == len(told.served)
    assert sorted(row[3] for row in told.bill) == sorted(framework.costs)[-len(told.served) :]


@pytest.mark.parametrize("framework", CUT, ids=named)
async def test_the_tokens_of_a_stream_that_broke_off_are_not_lost(stage: Stage, framework: Framework) -> None:
    told = await stage.play(framework, "broken")
    assert told.error is not None
    # A span that knows neither usage nor response id stays beside it, at nothing.
    (entry,) = [entry for entry in told.standing if entry.cost_usd]
    assert entry.estimated
    assert entry.input_tokens > 0
    assert entry.output_tokens > 0


async def test_a_stream_nobody_asked_the_usage_of_has_it_all_the_same(stage: Stage) -> None:
    framework = replace(next(one for one in FRAMEWORKS if one.arguments == ("genai",)), name="untold", scenarios=("untold",))
    told = await stage.play(framework, "untold")
    assert told.bill == [("openai", "gpt-5-mini", ANSWERING, "0.000565800")]


async def test_an_agent_without_any_instrumentation_is_billed_by_the_proxy_alone(stage: Stage) -> None:
    framework = Framework("nothing", "openai_agent.py", ("nothing",), scenarios=("weather",), silent=True)
    told = await stage.play(framework, "weather")
    assert told.bill == [("openai", "gpt-5-mini", ASKING, "0.000149600"), ("openai", "gpt-5-mini", ANSWERING, "0.000565800")]
    assert {event.attributes["agentops.observed_by"] for event in told.events} == {"proxy"}


async def test_the_page_of_any_sdk_says_what_happens(stage: Stage, tmp_path: Path) -> None:
    watched = stage.watched
    read = page(PAGES / "any-sdk.md")
    (tmp_path / "agent.py").write_text(read.files["agent.py"])
    before, known = len(watched.models.served), {entry.entry_id for entry in await ledger(watched.client)}
    (command,) = read.commands
    said = await watched.shell(command.replace("localhost:9100", f"127.0.0.1:{watched.sidecar.run['metering_port']}"), tmp_path)
    assert said == ANSWER
    (served,) = watched.models.served[before:]

    async def billed() -> bool:
        return served.response_id in {entry.response_id for entry in await ledger(watched.client)}

    await until(billed, "the call is billed")
    (entry,) = [entry for entry in await ledger(watched.client) if entry.entry_id not in known]
    assert (entry.response_id, f"{entry.cost_usd:f}", entry.estimated) == (served.response_id, "0.000565800", False)
