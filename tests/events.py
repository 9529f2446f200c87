"""Valid events to start a test from."""

import random
from datetime import UTC, datetime
from typing import Any

import orjson

from schemas.ids import uuid7

_RANDOM = random.Random(20260207)


def new_id(at: datetime | None = None) -> str:
    """A fresh version 7 id."""
    moment = at or datetime.now(UTC)
    return str(uuid7(int(moment.timestamp() * 1000), _RANDOM.getrandbits(74)))


def event(
    event_type: str = "run.started", *, tenant: str = "acme", agent: str = "planner", run: str | None = "run-1", **sections: Any
) -> dict[str, Any]:
    """A minimal valid event of ``event_type``; ``sections`` add or replace."""
    needed: dict[str, Any] = {
        "step": {"step_id": "s1", "step_type": "plan"},
        "model_call": {"model_call_id": "c1", "provider": "openai", "model": "gpt-4o-mini"},
        "tool_call": {"tool_call_id": "t1", "name": "search"},
        "resource_usage": {"input_tokens": 100, "output_tokens": 20},
        "error": {"type": "TimeoutError", "message": "no answer"},
        "health": {"status": "HEALTHY"},
        "agent": {"name": "planner", "version": "1.0.0"},
        "policy": {"policy_id": "p1", "decision": "allow"},
        "budget": {
            "budget_id": "b1",
            "scope": "tenant",
            "period": "month",
            "threshold": 0.5,
            "limit_usd": "10",
            "spent_usd": "5",
        },
        "alert": {"alert_id": "a1", "type": "threshold"},
        "evaluation": {"evaluation_id": "e1", "evaluator": "exact_match", "score": 1.0},
        "fault": {"fault_id": "f1", "kind": "latency", "until": "2026-01-01T00:00:00Z"},
        "metrics": {"samples": [{"name": "queue_depth", "value": 3}]},
        "log": {"level": "info", "message": "hello"},
    }
    from schemas.events import REQUIRED

    made: dict[str, Any] = {
        "event_version": "v1",
        "event_id": new_id(),
        "event_type": event_type,
        "occurred_at": datetime.now(UTC).isoformat(),
        "tenant": {"tenant_id": tenant},
        "run": {"agent_id": agent} | ({"run_id": run} if run else {}),
    }
    for name in REQUIRED[event_type]:
        if "." not in name:
            made[name] = needed[name]
    return made | sections


def raw(value: Any) -> bytes:
    """``value`` as JSON."""
    return orjson.dumps(value)
