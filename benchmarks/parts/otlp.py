"""Spans through the OTLP door of a real sidecar, as an SDK's exporter sends them, until the warehouse has committed them."""

import asyncio
import json
import os
import random
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Self

import psutil
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from benchmarks import measurements
from benchmarks.parts.part import Bench, Figures, Running
from benchmarks.system import System
from benchmarks.workload import MODELS
from service.signals import die_with_parent

SPANS_A_REQUEST: Final = 512
"""What SDKs send at once, at most."""
CALLS: Final = 12
TOOLS: Final = 4
STEPS: Final = 3
SPANS_A_TRACE: Final = 1 + CALLS + TOOLS + STEPS
EXPORTERS: Final = 4
_AGENT: Final = "otlp-bench"
_COLLECTOR: Final = 15_000
"""Spans a second and core, published by the OpenTelemetry project for its collector: receive and export, nothing stored."""


@dataclass(frozen=True, slots=True)
class Sent:
    """What was made beforehand."""

    bodies: list[bytes]
    spans: int
    events: int
    entries: int


@dataclass(frozen=True, slots=True)
class Through:
    """Offered at the door → committed in the warehouse, ledger included."""

    spans: int
    accepted_s: float
    total_s: float
    spans_per_s: float
    accepted_spans_per_s: float
    door_cpu_us_per_span: float
    """Of the sidecar's process: door, spool and shipping."""
    refused: int
    """Requests that were told to come back, and did."""
    of_collector: float


def _fill(span: Span, trace: bytes, own: bytes, parent: bytes, name: str, at: int, **attributes: Any) -> None:
    span.trace_id, span.span_id, span.parent_span_id, span.name = trace, own, parent, name
    span.start_time_unix_nano, span.end_time_unix_nano = at, at + 250_000_000
    for key, value in attributes.items():
        found = span.attributes.add(key=key.replace("__", "."))
        if isinstance(value, int):
            found.value.int_value = value
        else:
            found.value.string_value = value


def _trace(spans: Any, chance: random.Random, at: int) -> None:
    """An agent's run: steps, model calls and tool calls, children before parents."""
    trace, root = chance.randbytes(16), chance.randbytes(8)
    steps = [chance.randbytes(8) for _ in range(STEPS)]
    for number in range(CALLS):
        provider, model = chance.choice(MODELS)
        _fill(
            spans.add(), trace, chance.randbytes(8), steps[number % STEPS], f"chat {model}", at + number,
            gen_ai__operation__name="chat", gen_ai__provider__name=provider, gen_ai__request__model=model,
            gen_ai__response__model=model, gen_ai__response__id=f"resp_{chance.getrandbits(96):024x}", server__address="api.example.com",
            gen_ai__usage__input_tokens=chance.randint(200, 8000), gen_ai__usage__output_tokens=chance.randint(10, 900),
            gen_ai__usage__cache_read__input_tokens=chance.randint(0, 200), gen_ai__request__max_tokens=1024,
        )  # fmt: skip
    for _ in range(TOOLS):
        _fill(
            spans.add(), trace, chance.randbytes(8), root, "execute_tool search", at,
            gen_ai__operation__name="execute_tool", gen_ai__tool__name="search", gen_ai__tool__call__id=f"call_{chance.getrandbits(48):012x}",
        )  # fmt: skip
    for step in steps:
        _fill(spans.add(), trace, step, root, "plan", at, gen_ai__operation__name="plan")
    _fill(
        spans.add(),
        trace,
        root,
        b"",
        "invoke_agent shopper",
        at,
        gen_ai__operation__name="invoke_agent",
        gen_ai__agent__name="shopper",
    )


def made(spans: int, seed: int) -> Sent:
    """Requests of whole traces, about 512 spans each."""
    chance, bodies = random.Random(seed), []
    traces = max(1, spans // SPANS_A_TRACE)
    a_request = SPANS_A_REQUEST // SPANS_A_TRACE
    at = time.time_ns()
    for first in range(0, traces, a_request):
        request = ExportTraceServiceRequest()
        several = request.resource_spans.add()
        several.resource.attributes.add(key="service.name").value.string_value = "benchmark"
        scope = several.scope_spans.add()
        scope.scope.name = "opentelemetry.instrumentation.openai_v2"
        for _ in range(first, min(first + a_request, traces)):
            _trace(scope.spans, chance, at)
        bodies.append(request.SerializeToString())
    # The root is a run's end and not a step; that the run is under way is told by its first span and by its root.
    return Sent(bodies, traces * SPANS_A_TRACE, traces * (SPANS_A_TRACE + 2), traces * CALLS)


class Beside:
    """A sidecar beside nothing: its door is what is measured."""

    def __init__(self, system: System) -> None:
        self._system = system
        self._run_file = system.directory / "agents" / _AGENT / "sidecar.json"
        self.process: asyncio.subprocess.Process | None = None

    async def __aenter__(self) -> Self:
        environment = self._system.environment() | {"AGENTOPS_SIDECAR_SPOOL_MAX_BYTES": str(512 * 1024 * 1024)}
        with (self._system.directory / "sidecar.log").open("ab") as log:
            self.process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "sidecar", "--agent-id", _AGENT, "--tenant", "acme", "--data", str(self._system.directory),
                "--url", "http://127.0.0.1:9", "--pid", str(os.getpid()), env=environment, stdout=log, stderr=log,
                start_new_session=True, preexec_fn=die_with_parent,
            )  # fmt: skip
        deadline = time.monotonic() + 30
        while not self._run_file.exists():
            if self.process.returncode is not None or time.monotonic() > deadline:
                raise TimeoutError(f"the sidecar did not start; see the logs in {self._system.directory}")
            await asyncio.sleep(0.05)
        return self

    @property
    def port(self) -> int:
        """Of its door."""
        return int(json.loads(self._run_file.read_bytes())["door_port"])

    async def __aexit__(self, *_: object) -> None:
        assert self.process is not None
        if self.process.returncode is None:
            self.process.terminate()
        await self.process.wait()


async def _export(bodies: list[bytes], port: int) -> int:
    """Sends ``bodies`` over one connection, each until it is taken; returns how often it was told to come back."""
    reading, writing = await asyncio.open_connection("127.0.0.1", port)
    refused = 0
    for body in bodies:
        while True:
            head = f"POST /v1/traces HTTP/1.1\r\nHost: door\r\nContent-Type: application/x-protobuf\r\nContent-Length: {len(body)}\r\n\r\n"
            writing.write(head.encode() + body)
            await writing.drain()
            answer = await reading.readuntil(b"\r\n\r\n")
            status = int(answer.split(b" ", 2)[1])
            length = int(
                next(line for line in answer.lower().split(b"\r\n") if line.startswith(b"content-length")).split(b":")[1]
            )
            if length:
                await reading.readexactly(length)
            if status == 200:
                break
            if status != 503:
                raise RuntimeError(f"the door answered {status}: {answer[:200]!r}")
            refused += 1
            await asyncio.sleep(0.2)
    writing.close()
    return refused


async def through(system: System, beside: Beside, sent: Sent, within_s: float = 240) -> Through:
    """How fast ``sent`` is taken, and committed with its ledger entries."""
    assert beside.process is not None
    process = psutil.Process(beside.process.pid)
    before, used = await measurements.now_applied(system), measurements.cpu_s(process)
    began = time.perf_counter()
    refused = sum(await asyncio.gather(*(_export(sent.bodies[n::EXPORTERS], beside.port) for n in range(EXPORTERS))))
    accepted = time.perf_counter() - began
    await measurements.until_applied(system, before.events + sent.events, before.ledger_entries + sent.entries, within_s)
    total = time.perf_counter() - began
    cpu = measurements.cpu_s(process) - used
    rate = sent.spans / total
    return Through(sent.spans, accepted, total, rate, sent.spans / accepted, cpu / sent.spans * 1e6, refused, rate / _COLLECTOR)


async def run(bench: Bench) -> Figures:
    """The whole pipeline running, four exporters."""
    directory: Path = bench.directory / "system"
    async with Running(System(directory)) as system, Beside(system) as beside:
        bench.say("warming up")
        await through(system, beside, made(bench.form.warm_up, 60))
        bench.say(f"{bench.form.otlp_spans:,} spans")
        found = await through(system, beside, made(bench.form.otlp_spans, 61))
    return {"otlp": asdict(found) | {"exporters": EXPORTERS, "collector_published_per_s_and_core": _COLLECTOR}}
