"""The metering proxy: streams at once, what it adds to the first token, what a call costs, how soon a spent budget holds; LiteLLM's beside."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import aiohttp
import psutil

from benchmarks.metering.asking import KEY, Asked, at_once, at_rate
from benchmarks.metering.denying import denied
from benchmarks.parts.part import Bench, Figures, softly
from service.ports import free_port
from streams.apply import apply
from streams.connect import connect
from streams.embedded import EmbeddedServer

STREAMS: Final = 100
HALF_OF: Final = (400.0, 1000.0)
"""Floor and stretch, in calls a second: what is added is measured at half of each, and where that is too much at half of what it can."""
LITELLM: Final = "AGENTOPS_BENCH_LITELLM"
"""Names the Python that has ``litellm[proxy]``; without it LiteLLM is not measured."""
LITELLM_PUBLISHED: Final = {"calls_per_s": 1170.0, "added_p50_ms": 2.0, "added_p99_ms": 13.0, "instances": 4, "cores": 16}
"""By its makers: docs.litellm.ai/docs/benchmarks, four instances of four cores. What is added is timed inside of the proxy."""
_TENANT: Final = "bench"
_UP_S: Final = 240.0


@asynccontextmanager
async def _process(*command: str, log: Path, **environment: str) -> AsyncIterator[asyncio.subprocess.Process]:
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            *command, stdout=asyncio.subprocess.PIPE, stderr=output, env={**os.environ, **environment}
        )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
            try:
                async with asyncio.timeout(15):
                    await process.communicate()
            except TimeoutError:
                process.kill()


@asynccontextmanager
async def _provider(directory: Path) -> AsyncIterator[str]:
    async with _process(sys.executable, "-m", "benchmarks.metering.provider", log=directory / "provider.log") as process:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{int(await process.stdout.readline())}"


@asynccontextmanager
async def _sidecar(directory: Path, provider: str, server: EmbeddedServer) -> AsyncIterator[tuple[str, psutil.Process]]:
    """A sidecar that meters ``provider``; the URL to ask, and its process."""
    port = free_port()
    settings = server.settings("sidecar")
    assert settings.password is not None
    command = ("-m", "sidecar", "--agent-id", "bench", "--tenant", _TENANT, "--data", str(directory / "data"))
    metering = ("--metering", "openai", "--metering-port", str(port), "--url", provider)
    async with _process(
        sys.executable, *command, *metering, log=directory / "sidecar.log",
        NATS_URL=settings.url, NATS_USER=settings.user or "", NATS_PASSWORD=settings.password.get_secret_value(),
        AGENTOPS_SIDECAR_UPSTREAM_OPENAI=provider, AGENTOPS_LOG_LEVEL="WARNING",
    ) as process:  # fmt: skip
        url = f"http://127.0.0.1:{port}/openai/v1/chat/completions"
        await _up(url, process)
        yield url, psutil.Process(process.pid)


@asynccontextmanager
async def _litellm(directory: Path, provider: str, python: str) -> AsyncIterator[tuple[str, psutil.Process]]:
    port = free_port()
    config = directory / "litellm.yaml"
    model = {
        "model_name": "gpt-4o-mini",
        "litellm_params": {"model": "openai/gpt-4o-mini", "api_base": f"{provider}/v1", "api_key": "sk-x"},
    }
    config.write_text(json.dumps({"model_list": [model]}))
    command = (python, "-m", "litellm.proxy.proxy_cli", "--config", str(config), "--port", str(port), "--host", "127.0.0.1")
    async with _process(
        *command, "--num_workers", "1", log=directory / "litellm.log", LITELLM_LOG="ERROR", LITELLM_LOCAL_MODEL_COST_MAP="True",
        LITELLM_MASTER_KEY=KEY, PYTHONPATH="",
    ) as process:  # fmt: skip
        drained = asyncio.create_task(_drain(process))
        url = f"http://127.0.0.1:{port}/v1/chat/completions"
        try:
            await _up(url, process)
            yield url, psutil.Process(process.pid)
        finally:
            drained.cancel()


async def _drain(process: asyncio.subprocess.Process) -> None:
    assert process.stdout is not None
    while await process.stdout.read(65536):
        pass


async def _up(url: str, process: asyncio.subprocess.Process) -> None:
    asked = {"model": "gpt-4o-mini", "stream": True, "messages": []}
    async with aiohttp.ClientSession() as session, asyncio.timeout(_UP_S):
        while True:
            try:
                async with session.post(url, json=asked, headers={"Authorization": f"Bearer {KEY}"}) as response:
                    await response.read()
                    if response.status == 200:
                        return
            except aiohttp.ClientError:
                pass
            if process.returncode is not None:
                raise RuntimeError(f"it ended with exit code {process.returncode} instead of answering")
            await asyncio.sleep(0.2)


def _cpu_s(process: psutil.Process) -> float:
    used = [each.cpu_times() for each in (process, *process.children(recursive=True))]
    return float(sum(each.user + each.system for each in used))


def _of(asked: Asked, cpu_s: float, busy: float) -> Figures:
    return {
        "calls_per_s": asked.per_s,
        "first_p50_ms": asked.at(0.5),
        "first_p99_ms": asked.at(0.99),
        "cpu_ms_per_call": 1000 * cpu_s / asked.calls if asked.calls else None,
        "load_per_core": busy,
    }


async def _measured(bench: Bench, name: str, url: str, provider: str, process: psutil.Process) -> Figures:
    """Streams at once, then what is added at half of the floor and of the stretch."""
    seconds = max(4.0, bench.form.latency_s / 2)
    busy = os.getloadavg()[0] / (os.cpu_count() or 1)
    bench.say(f"{name}: {STREAMS} streams at once")
    await at_once(url, 20, 1.0)
    before = _cpu_s(process)
    found: Figures = {"at_once": _of(await at_once(url, STREAMS, seconds), 0.0, busy)}
    calls = found["at_once"]["calls_per_s"] * seconds
    found["at_once"]["cpu_ms_per_call"] = 1000 * (_cpu_s(process) - before) / calls
    rates = {rate / 2 for rate in HALF_OF if rate / 2 < 0.9 * found["at_once"]["calls_per_s"]}
    for rate in sorted({*rates, round(found["at_once"]["calls_per_s"] / 2)}):
        bench.say(f"{name}: {rate:g} calls/s")
        straight = await at_rate(f"{provider}/v1/chat/completions", rate, seconds)
        before = _cpu_s(process)
        through = await at_rate(url, rate, seconds)
        found[f"{rate:g}"] = _of(through, _cpu_s(process) - before, busy) | {
            "added_p50_ms": through.at(0.5) - straight.at(0.5),
            "added_p99_ms": through.at(0.99) - straight.at(0.99),
            "straight_p50_ms": straight.at(0.5),
        }
    half = f"{round(found['at_once']['calls_per_s'] / 2):g}"
    found["half"] = found[half]
    found["rss_mb"] = process.memory_info().rss / 1e6
    return found


async def run(bench: Bench) -> Figures:
    """Ours, and LiteLLM's where it is there."""
    server = EmbeddedServer(bench.directory / "nats")
    await server.start()
    try:
        client = await connect(server.settings(), "bench")
        await apply(client)
        async with _provider(bench.directory) as provider:
            bench.say("the provider alone")
            alone = await at_once(f"{provider}/v1/chat/completions", STREAMS, 4.0)
            async with _sidecar(bench.directory, provider, server) as (url, process):
                ours = await _measured(bench, "sidecar", url, provider, process)
                bench.say("sidecar: a budget is spent")
                refusing = await softly(bench.say, denied(url, client, _TENANT))
            stored = (await client.jsm().stream_info("TELEMETRY")).state.messages
            figures: Figures = {"straight_per_s": alone.per_s, "sidecar": ours, "denied": refusing, "messages_stored": stored}
            figures["litellm_published"] = LITELLM_PUBLISHED
            if python := os.environ.get(LITELLM):
                try:
                    async with _litellm(bench.directory, provider, python) as (url, process):
                        figures["litellm"] = await _measured(bench, "LiteLLM", url, provider, process)
                except Exception as error:  # noqa: BLE001 - what others' software does is not ours to promise
                    figures["litellm"] = {"told": f"{type(error).__name__}: {error}"}
        await client.close()
        return {"metering": figures}
    finally:
        await server.stop()
