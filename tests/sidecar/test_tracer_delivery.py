"""What is traced reaches the sidecar's door and NATS, and an agent never waits, fails or grows for it."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from schemas.events import Event
from schemas.reading import read_event
from sidecar.tracer import AgentTracer
from tests.conftest import until
from tests.sidecar.running import Sidecar, Telemetry
from tests.sidecar.tracing import told, traced

ROOT = Path(__file__).resolve().parents[2]

MANAGED = """
from sidecar.tracer import AgentTracer

tracer = AgentTracer()

@tracer.trace_tool_call
def search(query):
    return [query]

with tracer.trace_agent_call("answer"):
    search("x")
    with tracer.trace_llm_call(provider="openai", model="gpt-4o-mini") as call:
        call.response({"id": "r-1", "model": "gpt-4o-mini", "usage": {"prompt_tokens": 9, "completion_tokens": 3}})
"""


async def test_an_agent_a_sidecar_runs_traces_without_being_told_anything(
    sidecar: Sidecar, telemetry: Telemetry, tmp_path: Path
) -> None:
    """And what it traced last is not lost with its end."""
    script = tmp_path / "managed.py"
    script.write_text(MANAGED)
    await sidecar.start("--workspace", "w1", command=[sys.executable, str(script)], PYTHONPATH=str(ROOT))
    ended = await telemetry.find("run.completed", run__workflow_id="answer", within_s=30)
    assert ended["tenant"] == {"tenant_id": "acme", "workspace_id": "w1"}
    assert ended["run"]["agent_id"] == "a1"
    call = await telemetry.find("model_call.completed")
    assert call["resource_usage"] == {"input_tokens": 9, "output_tokens": 3}
    assert call["model_call"]["response_id"] == "r-1"
    assert (await telemetry.find("tool_call.completed"))["tool_call"]["name"] == "search"
    traced_events = [event for event in await telemetry.read() if event.get("trace")]
    assert len(traced_events) == 4
    for event in traced_events:
        assert isinstance(read_event(json.dumps(event).encode()), Event)


async def test_events_wait_while_the_door_is_away_and_the_oldest_steps_give_way_first(
    sidecar: Sidecar, telemetry: Telemetry, caplog: pytest.LogCaptureFixture
) -> None:
    await sidecar.start()
    door = sidecar.door
    port = int(door.rsplit(":")[-1])
    await sidecar.stop()
    tracer = AgentTracer(url=door, tenant="acme", agent_id="a1", environ={}, capacity=20, every_s=0.01)
    with tracer.trace_agent_call("answer"):
        for number in range(30):
            with tracer.trace_tool_call(f"tool {number}"):
                pass
            if number < 10:
                with tracer.trace_llm_call(provider="openai", model="gpt-4o") as call:
                    call.usage(input_tokens=1, output_tokens=1)
    await until(lambda: any("takes no events, they wait" in message for message in caplog.messages), "the wait is told")
    counts = tracer.counts()
    assert counts.waiting <= 20 + 500
    await sidecar.start("--door-port", str(port))
    assert await asyncio.to_thread(tracer.flush, 60)
    with tracer.trace_agent_call("later"):
        pass
    assert await asyncio.to_thread(tracer.flush, 60)
    await telemetry.find("run.completed", run__workflow_id="later", within_s=30)
    events = await telemetry.read()
    assert sum(event["event_type"] == "model_call.completed" for event in events) == 10, "money gives way last"
    counts = tracer.counts()
    assert counts.dropped_billable == 0
    tools = sum(event["event_type"] == "tool_call.completed" for event in events)
    assert tools + counts.dropped == 30
    later = await telemetry.find("run.completed", run__workflow_id="later")
    if counts.dropped:
        assert later["attributes"]["telemetry_dropped"] == counts.dropped
    tracer.close()


async def test_what_the_door_refuses_is_said_with_field_and_value(
    sidecar: Sidecar, telemetry: Telemetry, caplog: pytest.LogCaptureFixture
) -> None:
    await sidecar.start()
    tracer = AgentTracer(url=sidecar.door, tenant="rival", agent_id="a1", environ={}, every_s=0.01)
    with tracer.trace_agent_call("x"):
        pass
    assert await asyncio.to_thread(tracer.flush, 30)
    assert tracer.counts().refused == 2
    assert any("tenant_id" in message and "'acme'" in message and "rival" in message for message in caplog.messages)
    tracer.close()


def test_importing_it_loads_nothing_that_an_agent_would_have_to_pay_for() -> None:
    code = "import sys; before = set(sys.modules); import sidecar.tracer; print(*sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    roots = {name.partition(".")[0] for name in done.stdout.split()}
    foreign = {name for name in roots if name not in sys.stdlib_module_names and name != "sidecar"}
    assert foreign == set(), "the standard library only"
    assert roots.isdisjoint({"asyncio", "inspect", "http", "urllib", "ssl", "socket", "json", "dataclasses"})


def test_using_it_loads_no_warehouse_no_page_and_no_contract() -> None:
    code = """
import sys
from sidecar.tracer import AgentTracer
tracer = AgentTracer(url="http://127.0.0.1:9", tenant="acme", close_s=0.2)
with tracer.trace_agent_call("x"), tracer.trace_llm_call(provider="openai", model="gpt-4o") as call:
    call.usage(input_tokens=1, output_tokens=1)
tracer.flush(0.2)
print(*sorted({name.partition(".")[0] for name in sys.modules}))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    heavy = {
        "duckdb",
        "polars",
        "panel",
        "pyarrow",
        "google",
        "nats",
        "pydantic",
        "aiohttp",
        "schemas",
        "streams",
        "genai_prices",
        "asyncio",
    }
    assert heavy.isdisjoint(done.stdout.split())


def test_the_process_ends_in_time_and_says_what_was_lost() -> None:
    """Nobody listens there."""
    code = """
from sidecar.tracer import AgentTracer
tracer = AgentTracer(url="http://127.0.0.1:9", tenant="acme", close_s=0.3)
with tracer.trace_agent_call("x"):
    pass
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT, timeout=60)
    assert "2 event(s) lost" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.parametrize("way", ["fork", "multiprocessing"])
async def test_a_forked_child_tells_its_own_and_only_its_own(way: str, sidecar: Sidecar, telemetry: Telemetry) -> None:
    code = f"""
import os, sys, multiprocessing
from sidecar.tracer import AgentTracer
tracer = AgentTracer(every_s=5)

def child():
    with tracer.trace_tool_call("child"):
        pass

with tracer.trace_agent_call("parent"):
    with tracer.trace_tool_call("before"):
        pass
    if {way!r} == "fork":
        pid = os.fork()
        if pid == 0:
            child()
            sys.exit(0)
        os.waitpid(pid, 0)
    else:
        process = multiprocessing.get_context("fork").Process(target=child)
        process.start()
        process.join()
"""
    await sidecar.start()
    environment = {**os.environ, "AGENTOPS_SIDECAR_URL": sidecar.door, "AGENTOPS_TENANT": "acme", "AGENT_ID": "a1"}
    process = await asyncio.create_subprocess_exec(sys.executable, "-W", "ignore", "-c", code, env=environment, cwd=ROOT)
    assert await process.wait() == 0

    async def names() -> list[str]:
        return [event["tool_call"]["name"] for event in await telemetry.read() if event["event_type"] == "tool_call.completed"]

    async def all_there() -> bool:
        return sorted(await names()) == ["before", "child"]

    await until(all_there, "one event of the parent's and one of the child's")
    await telemetry.find("run.completed")
    events = [event for event in await telemetry.read() if event.get("trace")]
    assert len({event["event_id"] for event in events}) == len(events) == 4
    assert len({event["trace"]["trace_id"] for event in events}) == 1


def test_sampling_never_leaves_out_what_is_billed_nor_what_failed() -> None:
    from sidecar.tracer import Sampling

    for sampling in (Sampling(head=0), Sampling(tail=0)):
        tracer, kept = traced(sampling=sampling)
        for fails in (False, True):
            with tracer.trace_agent_call("answer"):
                with tracer.trace_tool_call("quiet"):
                    pass
                with tracer.trace_llm_call(provider="openai", model="gpt-4o") as call:
                    call.usage(input_tokens=1, output_tokens=1)
                if fails:
                    with pytest.raises(KeyError), tracer.trace_tool_call("loud"):
                        raise KeyError("x")
        told(tracer)
        assert len(kept.of("model_call.completed")) == 2
        assert len(kept.of("run.started")) == len(kept.of("run.completed")) == 2
        kept.only("tool_call.failed")
        # At the tail it is known that the second trace had trouble: then all of it is told.
        assert len(kept.of("tool_call.completed")) == (1 if sampling.tail == 0 else 0)
        assert tracer.counts().sampled_out == (1 if sampling.tail == 0 else 2)


def test_slow_traces_are_kept_whole_and_services_of_one_trace_decide_alike() -> None:
    from sidecar.tracer import Sampling

    tracer, kept = traced(sampling=Sampling(tail=0, slow_ms=0.0))
    with tracer.trace_agent_call("slow"), tracer.trace_tool_call("kept"):
        pass
    told(tracer)
    kept.only("tool_call.completed")

    half = Sampling(head=0.5)
    ids = [f"{number * 2654435761 % 2**128:016x}{number * 0x9E3779B97F4A7C15 % 2**64:016x}" for number in range(2_000)]
    first = [half.at_head(each) for each in ids]
    assert first == [half.at_head(each) for each in ids]
    assert 800 < sum(first) < 1200
    for sampled, flag in ((True, "01"), (False, "00")):
        tracer, kept = traced(sampling=Sampling(head=0.5))
        with tracer.trace_agent_call("x", traceparent=f"00-{'ab' * 16}-{'cd' * 8}-{flag}"), tracer.trace_tool_call("t"):
            assert (tracer.traceparent() or "").endswith(flag)
        told(tracer)
        assert bool(kept.of("tool_call.completed")) is sampled


def test_a_paused_collector_leaves_the_ledger_whole() -> None:
    tracer, kept = traced()
    tracer.collector.pause()
    with tracer.trace_agent_call("x"), tracer.trace_tool_call("t"), tracer.trace_llm_call(provider="o", model="m") as call:
        call.usage(input_tokens=1, output_tokens=1)
    tracer.collector.start()
    with tracer.trace_tool_call("again"):
        pass
    told(tracer)
    assert [event.event_type for event in kept.events].count("tool_call.completed") == 1
    kept.only("model_call.completed")
    tracer.collector.stop()
    with tracer.trace_tool_call("unheard"):
        pass
    tracer.collector.start()
    with tracer.trace_tool_call("heard"):
        pass
    told(tracer)
    assert [event.tool_call.name for event in kept.of("tool_call.completed") if event.tool_call] == ["again", "heard"]
