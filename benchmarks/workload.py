"""The fixed workload: 3 tenants, 200 agents; 60 % model calls, 20 % steps, 10 % tool calls, 5 % runs, 5 % heartbeats."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import orjson

from schemas.events import KIND_OF
from schemas.ids import uuid7
from streams.messages import CONTENT_TYPE, JSON, MESSAGE_ID, NDJSON

TENANTS: Final = ("acme", "globex", "initech")
AGENTS: Final = 200
MIX: Final = (
    ("model_call.completed", 60),
    ("step.completed", 20),
    ("tool_call.completed", 10),
    ("run.started", 2.5),
    ("run.completed", 2.5),
    ("agent.heartbeat", 5),
)
MODELS: Final = (
    ("openai", "gpt-4o-mini"),
    ("openai", "gpt-4o"),
    ("anthropic", "claude-sonnet-4-5"),
    ("anthropic", "claude-haiku-4-5"),
    ("google", "gemini-2.5-flash"),
)


@dataclass(frozen=True, slots=True)
class Made:
    """One generated event."""

    tenant: str
    agent: str
    event_type: str
    event_id: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Message:
    """One message to publish."""

    subject: str
    data: bytes
    headers: dict[str, str]
    events: int
    entries: int = 0
    """Ledger entries these events must lead to."""


def _sections(event_type: str, chance: random.Random) -> dict[str, Any]:
    def hex_id(digits: int) -> str:
        return f"{chance.getrandbits(digits * 4):0{digits}x}"

    made: dict[str, Any] = {"trace": {"trace_id": hex_id(32), "span_id": hex_id(16), "parent_span_id": hex_id(16)}}
    latency = round(chance.lognormvariate(6, 0.7), 1)
    if event_type == "model_call.completed":
        provider, model = chance.choice(MODELS)
        sent, cached = chance.randint(200, 8000), 0
        if chance.random() < 0.4:
            cached = chance.randint(0, sent)
        answered = chance.randint(10, 900)
        made["model_call"] = {
            "model_call_id": f"call-{hex_id(16)}", "provider": provider, "model": model, "step_id": f"step-{hex_id(8)}",
            "response_id": f"resp_{hex_id(24)}", "operation": "chat", "latency_ms": latency, "finish_reason": "stop", "streamed": True,
        }  # fmt: skip
        made["resource_usage"] = {
            "input_tokens": sent,
            "output_tokens": answered,
            "cache_read_tokens": cached,
            "total_tokens": sent + answered,
        }
    elif event_type == "step.completed":
        made["step"] = {
            "step_id": f"step-{hex_id(8)}",
            "step_type": chance.choice(("plan", "retrieve", "act", "review")),
            "status": "completed",
            "latency_ms": latency,
        }
    elif event_type == "tool_call.completed":
        made["tool_call"] = {
            "tool_call_id": f"tool-{hex_id(8)}",
            "name": chance.choice(("search", "fetch", "sql", "python")),
            "latency_ms": latency,
        }
    elif event_type == "agent.heartbeat":
        made["health"] = {
            "status": "HEALTHY",
            "interval_s": 5.0,
            "checks": [{"name": "http", "kind": "http", "ok": True, "latency_ms": 1.5}],
        }
        made["metrics"] = {
            "latency_ms": latency,
            "error_rate": 0.0,
            "requests": 12,
            "cpu_percent": 3.5,
            "memory_rss_bytes": 52_428_800,
        }
    return made


def generate(count: int, seed: int, now: datetime | None = None) -> Iterator[Made]:
    """``count`` events, the same for the same seed and moment; about 770 bytes a model call."""
    chance = random.Random(seed)
    moment = now or datetime.now(UTC)
    types, weights = zip(*MIX, strict=True)
    runs = [f"run-{chance.getrandbits(48):012x}" for _ in range(max(1, count // 20))]
    for number, event_type in enumerate(chance.choices(types, weights, k=count)):
        agent_number = chance.randrange(AGENTS)
        tenant, agent = TENANTS[agent_number % len(TENANTS)], f"agent-{agent_number:03d}"
        at = moment + timedelta(milliseconds=number % 1000)
        event_id = str(uuid7(int(at.timestamp() * 1000), chance.getrandbits(74)))
        event = {
            "event_version": "v1", "event_id": event_id, "event_type": event_type, "occurred_at": at.isoformat(),
            "tenant": {"tenant_id": tenant, "workspace_id": "main", "project_id": f"project-{agent_number % 7}"},
            "run": {"agent_id": agent, "run_id": runs[number // 20 % len(runs)], "workflow_id": f"workflow-{agent_number % 11}"},
            **_sections(event_type, chance),
        }  # fmt: skip
        yield Made(tenant, agent, event_type, event_id, orjson.dumps(event))


def billable(events: list[Made]) -> int:
    """How many ledger entries these events must lead to."""
    return sum(event.event_type == "model_call.completed" for event in events)


def singles(events: list[Made]) -> list[Message]:
    """One event a message."""
    return [
        Message(
            f"telemetry.{event.tenant}.{event.agent}.{KIND_OF[event.event_type]}",
            event.data,
            {CONTENT_TYPE: JSON, MESSAGE_ID: event.event_id},
            1,
            billable([event]),
        )
        for event in events
    ]


def batches(events: list[Made], size: int = 500) -> list[Message]:
    """Micro-batches of one tenant's events, up to ``size`` each."""
    held: dict[str, list[Made]] = {}
    made = []

    def close(tenant: str) -> None:
        group = held.pop(tenant, [])
        if group:
            data = b"\n".join(event.data for event in group)
            made.append(
                Message(
                    f"telemetry.{tenant}.gateway.batch",
                    data,
                    {CONTENT_TYPE: NDJSON, MESSAGE_ID: f"batch-{group[0].event_id}"},
                    len(group),
                    billable(group),
                )
            )

    for event in events:
        group = held.setdefault(event.tenant, [])
        group.append(event)
        if len(group) >= size:
            close(event.tenant)
    for tenant in list(held):
        close(tenant)
    return made


def mixed(events: list[Made], size: int = 500) -> list[Message]:
    """Half of the events one to a message, half in micro-batches spread evenly between them."""
    alone, together = singles(events[::2]), batches(events[1::2], size)
    return [
        message
        for _, message in sorted(
            [((place + 0.5) / len(several), message) for several in (alone, together) for place, message in enumerate(several)],
            key=lambda placed: placed[0],
        )
    ]


def heartbeats(agents: int, count: int, seed: int, now: datetime | None = None) -> list[Message]:
    """Heartbeats of ``agents`` agents in turn, each in a message of its own, as each agent's sidecar sends them."""
    chance = random.Random(seed)
    moment = now or datetime.now(UTC)
    made = []
    for number in range(count):
        own = number % agents
        tenant, agent = TENANTS[own % len(TENANTS)], f"agent-{own:05d}"
        at = moment + timedelta(milliseconds=number % 1000)
        event_id = str(uuid7(int(at.timestamp() * 1000), chance.getrandbits(74)))
        event = {
            "event_version": "v1", "event_id": event_id, "event_type": "agent.heartbeat", "occurred_at": at.isoformat(),
            "tenant": {"tenant_id": tenant, "workspace_id": "main", "project_id": f"project-{own % 7}"},
            "run": {"agent_id": agent}, **_sections("agent.heartbeat", chance),
        }  # fmt: skip
        made.append(Made(tenant, agent, "agent.heartbeat", event_id, orjson.dumps(event)))
    return singles(made)
