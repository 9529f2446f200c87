"""Values as the other services write them, with everything a card shows."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

from schemas.alerts import AlertChange
from schemas.budgets import BudgetDefinition, BudgetFlag, BudgetStanding, Crossing
from schemas.sections import Fault, Metrics
from schemas.state import AgentRecord, AgentState, FaultSet, Incident, Observation

START = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
NOW_MS = round(START.timestamp() * 1000)


def metrics(**given: Any) -> Metrics:
    return Metrics(
        **{
            "latency_ms": 212.0,
            "latency_p95_ms": 388.0,
            "error_rate": 0.0,
            "requests": 42,
            "errors": 0,
            "requests_per_s": 4.2,
            "cpu_percent": 3.1,
            "memory_rss_bytes": 61_000_000,
            **given,
        }
    )


def observation(agent: str = "chat-service", at: datetime = START, **given: Any) -> Observation:
    return Observation(
        **{
            "agent_id": agent,
            "tenant_id": "demo",
            "health": "HEALTHY",
            "status": "running",
            "since": at,
            "last_heartbeat": at,
            "pid": 4242,
            "version": "1.4.0",
            "metrics": metrics(),
            "updated_at": at,
            **given,
        }
    )


def state(agent: str = "chat-service", at: datetime = START, **given: Any) -> AgentState:
    return AgentState(
        **{
            "agent_id": agent,
            "tenant_id": "demo",
            "desired": "running",
            "status": "running",
            "version": "1.4.0",
            "updated_at": at,
            **given,
        }
    )


def record(agent: str = "chat-service", **given: Any) -> AgentRecord:
    return AgentRecord(
        **{
            "agent_id": agent,
            "tenant_id": "demo",
            "name": agent.replace("-", " ").title(),
            "version": "1.4.0",
            "command": ("python", "main.py"),
            "working_directory": ".",
            "updated_at": START,
            "updated_by": "discovery",
            **given,
        }
    )


def faults(agent: str = "chat-service", at: datetime = START, *, for_s: float = 300.0, **given: Any) -> FaultSet:
    fault = Fault(**{"fault_id": "f1", "kind": "latency", "latency_ms": 2500.0, "until": at + timedelta(seconds=for_s), **given})
    return FaultSet(agent_id=agent, tenant_id="demo", faults=(fault,), updated_at=at)


def incident(at: datetime = START, **given: Any) -> Incident:
    return Incident(
        **{
            "began_at": at,
            "detected_at": at + timedelta(seconds=3.2),
            "reason": "error rate 1.0 over 12 requests",
            "recovered_at": at + timedelta(seconds=11),
            "time_to_detect_s": 3.2,
            "time_to_recover_s": 11.0,
            **given,
        }
    )


def change(rule: str = "agent-unhealthy", agent: str = "chat-service", at: datetime = START, **given: Any) -> AlertChange:
    alert = given.pop("alert_id", f"{rule}:{agent}:1")
    told = given.pop("state", "firing")
    return AlertChange(
        **{
            "change_id": f"{alert}:{told}",
            "alert_id": alert,
            "rule": rule,
            "severity": "critical",
            "state": told,
            "tenant_id": "demo",
            "agent_id": agent,
            "metric": "health",
            "started_at": at,
            "at": at,
            "summary": f"{agent} is unhealthy: error rate 100 %",
            **given,
        }
    )


def definition(budget: str = "team-a", **given: Any) -> BudgetDefinition:
    return BudgetDefinition(
        **{
            "budget_id": budget,
            "tenant_id": "demo",
            "scope": "project",
            "of": "project-1",
            "limit_usd": Decimal(25),
            "period": "day",
            "timezone": "Europe/Berlin",
            "enforcement": "deny",
            "created_at": START,
            "updated_at": START,
            "updated_by": "ann",
            **given,
        }
    )


def standing(spent: str = "5", of: BudgetDefinition | None = None, at: datetime = START, **given: Any) -> BudgetStanding:
    """As the budget processor reckons it: what follows from ``spent`` follows."""
    limits = of or definition()
    share = Decimal(spent) * 100 / limits.limit_usd
    return BudgetStanding(
        **{
            "definition": limits,
            "revision": 1,
            "counted": True,
            "period": "2026-11-20",
            "period_start": at - timedelta(hours=12),
            "period_end": at + timedelta(hours=12),
            "spent_usd": Decimal(spent),
            "entries": 31,
            "percent": share.quantize(Decimal("0.1")),
            "remaining_usd": limits.limit_usd - Decimal(spent),
            "crossed": tuple(
                Crossing(threshold=each, at=at - timedelta(minutes=200 - each), event_id=f"e{each}")
                for each in limits.thresholds
                if share >= each
            ),
            "enforced": limits.enforcement != "alert" and share >= 100,
            "burn_last_hour_usd_per_h": Decimal("1.25"),
            "burn_period_usd_per_h": Decimal("1.1"),
            "ledger_sequence": 7,
            **given,
        }
    )


def flag(of: BudgetDefinition | None = None, at: datetime = START, **given: Any) -> BudgetFlag:
    limits = of or definition()
    return BudgetFlag(
        **{
            "budget_id": limits.budget_id,
            "tenant_id": limits.tenant_id,
            "scope": limits.scope,
            "of": limits.of,
            "limit_usd": limits.limit_usd,
            "spent_usd": limits.limit_usd,
            "period": "2026-11-20",
            "reason": f"budget {limits.budget_id} has reached 100 %",
            "since": at,
            "until": at + timedelta(hours=12),
            **given,
        }
    )
