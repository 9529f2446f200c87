"""What tracing costs the agent: each traced call without I/O, and the import in a fresh process."""

import asyncio
import gc
import json
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Sequence

from benchmarks import workload
from benchmarks.parts.limits import validate_json
from benchmarks.parts.part import Bench, Figures
from sidecar.tracer import AgentTracer
from sidecar.tracing.events import Made
from sidecar.tracing.exporters.exporter import Delivered, Outcome

_CALLS = 5_000
_PASSES = 7
_IMPORTS = 7


class _Nowhere:
    """Takes everything: no I/O."""

    name = "nowhere"
    most_bytes = 900_000

    def export(self, batch: Sequence[Made]) -> Outcome:  # noqa: ARG002
        return Delivered()

    def close(self) -> None:
        """Nothing is open."""

    forked = close


Work = Callable[[AgentTracer], Awaitable[None]]


async def _tool(tracer: AgentTracer) -> None:
    for _ in range(_CALLS):
        with tracer.trace_tool_call("search"):
            pass


async def _model(tracer: AgentTracer) -> None:
    for _ in range(_CALLS):
        with tracer.trace_llm_call(provider="openai", model="gpt-4o") as call:
            call.usage(input_tokens=100, output_tokens=20)


async def _decorated(tracer: AgentTracer) -> None:
    @tracer.trace_tool_call
    def search() -> None:
        pass

    for _ in range(_CALLS):
        search()


async def _decorated_async(tracer: AgentTracer) -> None:
    @tracer.trace_tool_call
    async def search() -> None:
        pass

    for _ in range(_CALLS):
        await search()


async def _asynchronous(tracer: AgentTracer) -> None:
    for _ in range(_CALLS):
        async with tracer.trace_tool_call("search"):
            pass


async def _attributes(tracer: AgentTracer) -> None:
    for _ in range(_CALLS):
        with tracer.trace_tool_call("search"):
            tracer.add_span_attribute("matches", 3)
            tracer.add_span_attribute("index", "documents")


_WORKS: dict[str, Work] = {
    "tool call, with": _tool,
    "tool call, async with": _asynchronous,
    "tool call, decorated": _decorated,
    "tool call, decorated async": _decorated_async,
    "tool call, two attributes": _attributes,
    "model call with usage": _model,
}


async def _cost(work: Work) -> Figures:
    """CPU of the calling thread for one call, and with what the background thread does; the best of some passes."""
    callers, all_of_it = [], []
    for _ in range(_PASSES):
        tracer = AgentTracer(exporters=[_Nowhere()], tenant="acme", agent_id="a1", capacity=2 * _CALLS, environ={})
        with tracer.trace_agent_call("benchmark"):
            gc.collect()
            whole, own = time.process_time(), time.thread_time()
            await work(tracer)
            callers.append(time.thread_time() - own)
            await asyncio.to_thread(tracer.flush, 60.0)
            all_of_it.append(time.process_time() - whole)
        await asyncio.to_thread(tracer.close)
    return {"caller_us": min(callers) / _CALLS * 1e6, "cpu_us": min(all_of_it) / _CALLS * 1e6}


def _import_ms() -> Figures:
    code = (
        "import json, sys, time; n = len(sys.modules); b = time.process_time(); import sidecar.tracer; "
        "print(json.dumps({'import_ms': (time.process_time() - b) * 1e3, 'modules': len(sys.modules) - n}))"
    )
    found = [
        json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout) for _ in range(_IMPORTS)
    ]
    return {"import_ms": min(each["import_ms"] for each in found), "modules": found[0]["modules"]}


async def run(bench: Bench) -> Figures:
    """Each shape of a call."""
    calls = {}
    for name, work in _WORKS.items():
        bench.say(name)
        calls[name] = await _cost(work)
    bench.say("import")
    events = list(workload.generate(2_000, seed=71))
    machine = await asyncio.to_thread(validate_json, events)
    return {"tracer": {"calls": calls, **await asyncio.to_thread(_import_ms), "validate_json_per_s": machine}}
