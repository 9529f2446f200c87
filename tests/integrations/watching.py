"""Agents of other makers at work beside a real sidecar, and what the pipeline makes of them."""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
from nats.aio.client import Client

from processors.cost.app import attach as attach_cost
from processors.validate.app import attach as attach_validate
from schemas.events import AcceptedEvent
from schemas.ledger import LedgerEntry
from streams.apply import apply
from streams.connect import connect
from streams.embedded import EmbeddedServer
from tests.conftest import until
from tests.integrations.model_server import ModelServer, Served, Usage, serving
from tests.processors_cost.test_cost import priced
from tests.processors_validate.running import accepted, dead, drained, ledger, running
from tests.sidecar.running import Sidecar

AGENTS = Path(__file__).resolve().parent / "agents"
_STEERED = ("NATS_", "AGENTOPS_", "OTEL_", "OPENAI_", "ANTHROPIC_", "PYTHONPATH")


@dataclass(slots=True)
class Told:
    """One scenario of one agent: what it did, what the provider served, what was recorded and what was billed."""

    said: Any
    error: str | None
    traces: list[str]
    """Of each tool call the trace it was made in, as the agent's own process knew it."""
    served: list[Served]
    events: list[AcceptedEvent] = field(default_factory=list)
    entries: list[LedgerEntry] = field(default_factory=list)

    def of(self, *event_types: str) -> list[AcceptedEvent]:
        """The events of these types."""
        return [event for event in self.events if event.event_type in event_types]

    @property
    def standing(self) -> list[LedgerEntry]:
        """What is charged in the end: without what was taken back, and without what is there to say that a call was seen again."""
        taken = {entry.corrects for entry in self.entries if entry.kind == "reversal"}
        return [e for e in self.entries if e.kind == "charge" and e.entry_id not in taken and e.reason != "duplicate_call"]

    @property
    def bill(self) -> list[tuple[str, str, Usage, str]]:
        """What a reader of the ledger sees of each call: provider, model, tokens, dollars."""
        return [
            (
                one.provider,
                one.model,
                Usage(one.input_tokens, one.output_tokens, one.cache_read_tokens, one.cache_write_tokens, one.reasoning_tokens),
                f"{one.cost_usd:f}",
            )
            for one in self.standing
        ]


def clean_environment(**more: str) -> dict[str, str]:
    """This process's environment without anything that would steer the agent, and ``more``."""
    return {name: value for name, value in os.environ.items() if not name.startswith(_STEERED)} | more


class Watched:
    """A sidecar, NATS, validate and cost; runs agents of others against it, one after the other."""

    def __init__(self, python: Path, server: EmbeddedServer, sidecar: Sidecar, client: Client, models: ModelServer) -> None:
        self.python = python
        self.server = server
        self.sidecar = sidecar
        self.client = client
        self.models = models
        self._one = asyncio.Lock()

    def environment(self, **more: str) -> dict[str, str]:
        """All that an agent is told: where to send, and where its models are."""
        told = {
            "OTEL_EXPORTER_OTLP_ENDPOINT": self.sidecar.door,
            "OPENAI_BASE_URL": self._metered("openai/v1") or self.models.openai_url,
            "OPENAI_API_KEY": "sk-none",
            "ANTHROPIC_BASE_URL": self._metered("anthropic") or self.models.anthropic_url,
            "ANTHROPIC_API_KEY": "sk-none",
        }
        return clean_environment(**(told | more))

    def _metered(self, route: str) -> str | None:
        port = self.sidecar.run.get("metering_port")
        return f"http://127.0.0.1:{port}/{route}" if port else None

    async def script(self, script: Path, *arguments: str, **more: str) -> list[str]:
        """Runs a script to its end; returns the lines it printed."""
        process = await asyncio.create_subprocess_exec(
            str(self.python), str(script), *arguments, env=self.environment(**more), cwd=script.parent,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        async with asyncio.timeout(300):
            out, err = await process.communicate()
        assert process.returncode == 0, err.decode()[-3000:]
        return out.decode().splitlines()

    async def shell(self, commands: str, directory: Path) -> str:
        """Runs a page's commands as a reader would, with the frameworks' Python first on the path; returns what was said."""
        path = f"{self.python.parent}:{os.environ['PATH']}"
        environment = self.environment(PATH=path)
        del environment["OTEL_EXPORTER_OTLP_ENDPOINT"]
        process = await asyncio.create_subprocess_exec(
            "bash", "-euc", commands, env=environment, cwd=directory,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        async with asyncio.timeout(300):
            said, _ = await process.communicate()
        assert process.returncode == 0, said.decode()[-3000:]
        return said.decode()

    async def told(
        self, script: str, *arguments: str, scenarios: Sequence[str], silent: bool = False, **more: str
    ) -> dict[str, Told]:
        """Lets ``script`` play ``scenarios``; returns what became of each, when everything has been billed.

        One that is ``silent`` sends no telemetry: only the metering proxy knows of it.
        """
        async with self._one:
            before = len(self.models.served)
            lines = await self.script(AGENTS / script, *arguments, *scenarios, **more)
            served = self.models.served[before:]
        reports = [json.loads(line) for line in lines if line.startswith('{"scenario"')]
        assert [report["scenario"] for report in reports] == list(scenarios)
        windows = [(report["began"], report["ended"]) for report in reports]
        told = {
            report["scenario"]: Told(
                report["said"],
                report["error"],
                report["traces"],
                [one for one in served if began <= one.at <= ended],
            )
            for report, (began, ended) in zip(reports, windows, strict=True)
        }

        async def over() -> bool:
            for one, (began, ended) in zip(told.values(), windows, strict=True):
                one.events = await self._within(began, ended)
                spans = [event for event in one.events if event.attributes["agentops.observed_by"] == "otel"]
                started = {event.run.run_id for event in spans if event.event_type == "run.started"}
                if not (started or silent):
                    return False
                if started != {event.run.run_id for event in spans if event.event_type in {"run.completed", "run.failed"}}:
                    return False
                passed = [event for event in one.events if event.kind == "model_call" and event not in spans]
                if self.sidecar.run.get("metering_port") and len(passed) < len(one.served):
                    return False
            return True

        await until(over, f"the runs of {script} {' '.join(arguments)} are over", 30)
        await drained(self.client)
        if any(one.of("model_call.completed", "model_call.failed") for one in told.values()):
            await priced(self.client)
        entries = await ledger(self.client)
        for one, (began, ended) in zip(told.values(), windows, strict=True):
            one.events = await self._within(began, ended)
            known = {str(event.event_id) for event in one.events}
            one.entries = sorted((entry for entry in entries if entry.event_id in known), key=lambda entry: entry.occurred_at)
        letters = await dead(self.client)
        assert letters == [], [letter.errors for letter in letters]
        return told

    async def _within(self, began: int, ended: int) -> list[AcceptedEvent]:
        """What happened in a window of nanoseconds."""
        events = [event for event in await accepted(self.client) if event.attributes.get("agentops.observed_by")]
        return [event for event in events if began <= _moment(event) + 999 and _moment(event) <= ended]


def _moment(event: AcceptedEvent) -> int:
    """When, in nanoseconds: of a span its end, of a call that passed the proxy its beginning, as it is over later there than here."""
    at = event.occurred_at
    if event.model_call is not None and event.attributes.get("agentops.observed_by") == "proxy":
        at -= timedelta(milliseconds=event.model_call.latency_ms or 0)
    return int(at.timestamp()) * 1_000_000_000 + at.microsecond * 1000


@asynccontextmanager
async def watching(python: Path, directory: Path, *options: str) -> AsyncIterator[Watched]:
    """Everything that stands between an agent and its bill. What the sidecar meters goes on to the model server."""
    server = EmbeddedServer(directory / "nats")
    await server.start()
    client = await connect(server.settings(), "test")
    try:
        await apply(client)
        async with aiohttp.ClientSession() as http, serving() as models:
            sidecar = Sidecar(directory, server.settings("sidecar"), http, "weather-1")
            await sidecar.start(
                *options,
                AGENTOPS_SIDECAR_UPSTREAM_OPENAI=models.openai_url,
                AGENTOPS_SIDECAR_UPSTREAM_ANTHROPIC=models.anthropic_url,
            )
            try:
                async with running(attach_validate, server, directory), running(attach_cost, server, directory):
                    yield Watched(python, server, sidecar, client, models)
            finally:
                await sidecar.stop()
    finally:
        await client.close()
        await server.stop()
