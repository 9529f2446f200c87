"""A real dashboard process on a real nats-server, with stand-ins for those it talks to."""

import asyncio
import json
import math
import os
import re
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final, Self

import httpx
import nats.errors
import nats.micro
import orjson
from nats.aio.client import Client
from nats.js.api import ConsumerConfig
from pydantic import BaseModel

from schemas.alerts import AlertChange
from schemas.budgets import BudgetDefinition, BudgetFlag, BudgetsPage, BudgetStanding, budget_key
from schemas.commands import Command, CommandError, CommandResponse
from schemas.queries import Page
from streams import subjects, topology
from streams.kv import TypedBucket, agent_key
from streams.publish import publish
from streams.settings import NatsSettings

STOPS_S: Final = 10.0
"""A dashboard gives its tabs two seconds to go; a slow machine may take some more."""
_LISTENING = re.compile(r"http://127\.0\.0\.1:(\d+)/")


class DashboardProcess:
    """``python -m dashboard`` on a free port."""

    def __init__(self, log: Path) -> None:
        self.log = log
        self.url = ""
        self._process: asyncio.subprocess.Process | None = None

    @classmethod
    async def start(cls, nats_settings: NatsSettings, log: Path, *arguments: str, **environment: str) -> Self:
        made = cls(log)
        user, password = nats_settings.user, nats_settings.password
        given = {
            **os.environ,
            "NATS_URL": nats_settings.url,
            **({"NATS_USER": user} if user else {}),
            **({"NATS_PASSWORD": password.get_secret_value()} if password else {}),
            "AGENTOPS_LOG_FORMAT": "json",
            **environment,
        }
        with log.open("ab") as out:
            made._process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "dashboard", *(arguments or ("--port", "0")), stdout=out, stderr=out, env=given
            )
        return made

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    async def listening(self) -> str:
        """Its address, once it answers; ends it where it never does."""
        try:
            return await self._listening()
        except BaseException:
            await self.stop()
            raise

    async def _listening(self) -> str:
        deadline = time.monotonic() + 120
        while time.monotonic() < deadline:
            assert self._process is not None
            found = _LISTENING.search(self.log.read_text())
            if found is not None:
                self.url = f"http://127.0.0.1:{found[1]}"
                with suppress(httpx.HTTPError):
                    async with httpx.AsyncClient(timeout=30) as http:
                        if (await http.get(f"{self.url}/healthz")).status_code == 200:
                            return self.url
            assert self._process.returncode is None, self.log.read_text()
            await asyncio.sleep(0.05)
        raise AssertionError("the dashboard did not come up: " + self.log.read_text())

    async def _metric(self, name: str) -> float:
        async with httpx.AsyncClient(timeout=30) as http:
            text = (await http.get(f"{self.url}/metrics")).text
        found = re.search(rf"^{name} ([0-9.]+)$", text, re.MULTILINE)
        assert found is not None, text
        return float(found[1])

    async def sessions(self) -> float:
        """Open tabs, as it counts them."""
        return await self._metric("agentops_dashboard_sessions")

    async def documents(self) -> float:
        """Tabs' documents in its memory."""
        return await self._metric("agentops_dashboard_documents")

    async def ended(self) -> int:
        assert self._process is not None
        async with asyncio.timeout(60):
            return await self._process.wait()

    async def stop(self) -> float:
        """Seconds it took to stop."""
        assert self._process is not None
        began = time.monotonic()
        if self._process.returncode is None:
            self._process.terminate()
            await self.ended()
        return time.monotonic() - began


class Stage:
    """Plays health, manager, alerts and warehouse: writes what they write, answers what they answer."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.commands: list[tuple[str, Command, Mapping[str, str]]] = []
        self.refuse: str | None = None
        self.answering = asyncio.Event()
        self.answering.set()
        self.problems: list[dict[str, Any]] = []
        """What the warehouse's own check of EVENTS finds wrong."""
        self.standings: dict[str, BudgetStanding] = {}
        """What the budget processor tells."""
        self._services: list[Any] = []
        self._budgets: Any = None
        self._tasks: list[asyncio.Task[None]] = []
        self._buckets: dict[str, TypedBucket[Any]] = {}

    async def put(self, bucket: str, value: BaseModel, tenant: str = "demo") -> None:
        if bucket not in self._buckets:
            self._buckets[bucket] = await TypedBucket.open(self.client, bucket, type(value))
        await self._buckets[bucket].put(agent_key(tenant, value.agent_id), value)  # type: ignore[attr-defined]

    async def budget(self, standing: BudgetStanding) -> None:
        """Sets a budget, and how it stands."""
        definition = standing.definition
        key = budget_key(definition.tenant_id, definition.budget_id)
        self.standings[key] = standing
        await (await TypedBucket.open(self.client, topology.BUDGETS, BudgetDefinition)).put(key, definition)

    async def refuse_by(self, flag: BudgetFlag) -> None:
        """Doors refuse from now on."""
        bucket = await TypedBucket.open(self.client, topology.BUDGET_FLAGS, BudgetFlag)
        await bucket.put(budget_key(flag.tenant_id, flag.budget_id), flag)

    async def forget_budgets(self) -> None:
        """As if none had ever been set."""
        self.standings.clear()
        for name, part in ((topology.BUDGETS, BudgetDefinition), (topology.BUDGET_FLAGS, BudgetFlag)):
            bucket: TypedBucket[Any] = await TypedBucket.open(self.client, name, part)
            for key in await bucket.all():
                await bucket.delete(key)

    async def open_budgets(self) -> None:
        self._budgets = await nats.micro.add_service(self.client, name="agentops-budget", version="1.0.0")

        async def handle(request: Any) -> None:
            page = BudgetsPage(budgets=tuple(self.standings.values()), as_of=datetime.now(UTC), ledger_sequence=7)
            await request.respond(page.model_dump_json(exclude_none=True).encode())

        await self._budgets.add_endpoint(name="budgets", subject=subjects.query("budgets"), handler=handle)

    async def close_budgets(self) -> None:
        service, self._budgets = self._budgets, None
        if service is not None:
            await service.stop()

    async def alert(self, change: AlertChange) -> None:
        subject = subjects.alerts(change.tenant_id, change.severity, change.rule)
        data = change.model_dump_json(exclude_none=True).encode()
        await publish(self.client, subject, data, message_id=change.change_id)

    async def begin(self) -> None:
        """Answers commands and queries."""
        self._tasks.append(asyncio.create_task(self._answer_commands(), name="stage-commands"))
        await self.open_warehouse()

    async def _answer_commands(self) -> None:
        js = self.client.jetstream()
        pulled = await js.pull_subscribe(
            subjects.ALL_COMMANDS, durable="stage", stream=topology.COMMANDS, config=ConsumerConfig(durable_name="stage")
        )
        while True:
            try:
                messages = await pulled.fetch(10, timeout=1)
            except (nats.errors.Error, TimeoutError):
                await asyncio.sleep(0.05)
                continue
            for message in messages:
                command = Command.model_validate_json(message.data)
                self.commands.append((message.subject, command, dict(message.headers or {})))
                await message.ack()
                await self.answering.wait()
                refused = self.refuse
                response = CommandResponse(
                    status="error" if refused else "success",
                    command=command.command,
                    agent_id=command.agent_id,
                    command_id=command.command_id,
                    result=None if refused else {},
                    error=CommandError(code="failed", message=refused) if refused else None,
                    timestamp=datetime.now(UTC),
                )
                answer = response.model_dump_json(exclude_none=True).encode()
                await self.client.publish(subjects.command_response(command.command_id), answer)

    async def open_warehouse(self) -> None:
        service = await nats.micro.add_service(self.client, name="query", version="0.1.0")
        self._services.append(service)
        for query in ("throughput", "timeseries", "fleet", "failures", "spend", "latency", "status", "audit"):

            async def handle(request: Any, query: str = query) -> None:
                given = orjson.loads(request.data or b"{}")
                rows = tuple(self._audited(given) if query == "audit" else ROWS[query](given, datetime.now(UTC)))
                columns = tuple(rows[0]) if rows else ()
                page = Page(query=query, columns=columns, rows=rows, as_of=datetime.now(UTC), elapsed_ms=1.0)
                await request.respond(page.model_dump_json().encode())

            await service.add_endpoint(name=query, subject=subjects.query(query), handler=handle)

    def _audited(self, given: Any) -> list[dict[str, Any]]:
        check, stream = given.get("check"), given.get("stream")
        if check == "problems" and stream == "EVENTS":
            return self.problems
        if check == "tenants" and stream == "EVENTS":
            return [{"tenant_id": "demo", "events": 1284, "unreadable": 0, "dead": 0, "rows": 1284}]
        if check == "tenants" and stream == "LEDGER":
            told = {"events": 311, "unreadable": 0, "dead": 0, "rows": 311, "charges": 311, "corrections": 0, "unpriced": 0}
            return [{"tenant_id": "demo", "cost_usd": "1.5", **told}]
        return []

    async def close_warehouse(self) -> None:
        while self._services:
            await self._services.pop().stop()

    async def end(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        with suppress(nats.errors.Error):
            await self.close_warehouse()
            await self.close_budgets()


def _throughput(_: Any, __: datetime) -> list[dict[str, Any]]:
    return [
        {"kind": "model_call", "events_per_s": 11.2, "events": 672},
        {"kind": "total", "events_per_s": 18.6, "events": 1116},
    ]


def _timeseries(given: Any, now: datetime) -> list[dict[str, Any]]:
    base = now.replace(microsecond=0)
    rows = []
    for ago in range(300):
        at = base - timedelta(seconds=ago)
        second = at.timestamp()
        wave = 18 + 5 * math.sin(second / 17) + 2.5 * math.sin(second / 3.1)
        value = round(wave) if given["metric"] == "events" else (2 if int(second) % 41 < 3 else 0)
        rows.append({"at": at.isoformat(), "value": value, "count": value})
    return rows


def _fleet(_: Any, now: datetime) -> list[dict[str, Any]]:
    return [
        {
            "tenant_id": "demo",
            "agent_id": agent,
            "name": agent,
            "version": "1.4.0",
            "last_seen": now.isoformat(),
            "runs_24h": runs,
            "failures_24h": 4,
            "cost_usd_24h": cost,
            "tokens_24h": tokens,
            "latency_p50_ms": 210.0,
            "latency_p95_ms": 390.0,
        }
        for agent, runs, cost, tokens in (
            ("chat-service", 3120, "4.182300000", 8_412_000),
            ("summary-service", 1284, "1.903120000", 5_220_400),
        )
    ]


def _failures(_: Any, now: datetime) -> list[dict[str, Any]]:
    errors = (
        ("RateLimitError", "429: quota of the provider exhausted, retry after 2 s"),
        ("TimeoutError", "no answer from the model within 30 s"),
        ("ToolError", "search returned nothing for <script>alert(1)</script>"),
        ("UpstreamError", "503 Service Unavailable"),
    )
    return [
        {
            "occurred_at": (now - timedelta(seconds=37 * k)).isoformat(),
            "tenant_id": "demo",
            "agent_id": ("chat-service", "summary-service")[k % 2],
            "run_id": f"run-0198{k:04x}-7c1a",
            "kind": ("model_call", "tool_call", "step", "run")[k % 4],
            "name": ("gpt-4o-mini", "search", "draft", None)[k % 4],
            "error_type": errors[k % 4][0],
            "error_message": errors[k % 4][1],
            "event_id": f"e{k}",
        }
        for k in range(12)
    ]


def _spend(given: Any, now: datetime) -> list[dict[str, Any]]:
    by = given["by"][0]
    labels: list[tuple[str, str]]
    if by == "model":
        labels = [("gpt-4o-mini", "3.91"), ("claude-sonnet-4", "1.72"), ("gemini-2.5-flash", "0.4554"), ("local-llama", "0")]
    elif by == "agent":
        labels = [("chat-service", "4.1823"), ("summary-service", "1.90312")]
    else:
        labels = [
            ((now - timedelta(days=13 - k)).date().isoformat(), f"{3 + 2.4 * math.sin(k / 2.2) + k / 9:.4f}") for k in range(14)
        ]
    column = {"model": "model", "agent": "agent_id", "day": "day"}[by]
    return [
        {
            column: label,
            "cost_usd": cost,
            "entries": 900 - 70 * k,
            "unpriced": 12 if label == "local-llama" else 0,
            "input_tokens": 2_400_000 // (k + 1),
            "output_tokens": 310_000 // (k + 1),
            "cache_read_tokens": 0,
            "cache_write_tokens": 0,
        }
        for k, (label, cost) in enumerate(labels)
    ]


def _latency(_: Any, __: datetime) -> list[dict[str, Any]]:
    return [
        {"model": model, "count": 100, "p50_ms": p95 / 2, "p95_ms": p95, "p99_ms": p95 * 1.4, "max_ms": p95 * 2}
        for model, p95 in (("gpt-4o-mini", 812.0), ("claude-sonnet-4", 2210.0), ("gemini-2.5-flash", 640.0))
    ]


def _status(_: Any, __: datetime) -> list[dict[str, Any]]:
    return [{"stream": name, "applied_sequence": 10**9} for name in (topology.EVENTS, topology.LEDGER, topology.ALERTS)]


ROWS = {
    "status": _status,
    "throughput": _throughput,
    "timeseries": _timeseries,
    "fleet": _fleet,
    "failures": _failures,
    "spend": _spend,
    "latency": _latency,
}


def log_lines(path: Path) -> list[dict[str, Any]]:
    """The structured lines of a log."""
    return [json.loads(line) for line in path.read_text().splitlines() if line.startswith("{")]
