"""Agents as they stand in the buckets, for tests."""

from datetime import UTC, datetime, timedelta
from typing import Any

from nats.aio.client import Client

from schemas.sections import Fault, Metrics
from schemas.state import AgentRecord, AgentState, FaultSet, Incident, Observation
from streams import topology
from streams.kv import TypedBucket, agent_key


def now() -> datetime:
    return datetime.now(UTC)


def record(agent: str, tenant: str = "demo", **more: Any) -> AgentRecord:
    return AgentRecord(
        agent_id=agent, tenant_id=tenant, name=agent.title(), version="1.0.0", agent_type="chat", command=("python", "service.py"),
        working_directory="agents/x", updated_at=now(), updated_by="discovery", **more,
    )  # fmt: skip


def state(agent: str, tenant: str = "demo", **more: Any) -> AgentState:
    values: dict[str, Any] = {
        "status": "running",
        "desired": "running",
        "pid": 4001,
        "restarts": 2,
        "proxy_url": "http://127.0.0.1:9001",
        "version": "1.0.0",
    }
    values |= {
        "incident": Incident(began_at=now(), detected_at=now(), reason="killed", time_to_detect_s=0.4, time_to_recover_s=3.5)
    } | more
    return AgentState(agent_id=agent, tenant_id=tenant, updated_at=now(), **values)


def observation(agent: str, tenant: str = "demo", **more: Any) -> Observation:
    values: dict[str, Any] = {
        "health": "HEALTHY",
        "status": "running",
        "pid": 4002,
        "version": "1.0.1",
        "since": now() - timedelta(minutes=2),
    }
    values |= {"metrics": Metrics(latency_ms=812.5, error_rate=0.02, requests_per_s=1.5), "last_heartbeat": now()} | more
    return Observation(agent_id=agent, tenant_id=tenant, updated_at=now(), **values)


def latency_fault(agent: str, tenant: str = "demo", minutes: float = 5) -> FaultSet:
    fault = Fault(
        fault_id="f1",
        kind="latency",
        until=now() + timedelta(minutes=minutes),
        latency_ms=2500,
        injected_by="operator",
        reason="drill",
    )
    return FaultSet(agent_id=agent, tenant_id=tenant, faults=(fault,), updated_at=now())


async def put(client: Client, *values: AgentRecord | AgentState | Observation | FaultSet) -> None:
    buckets = {
        AgentRecord: topology.REGISTRY,
        AgentState: topology.AGENT_STATES,
        Observation: topology.OBSERVATIONS,
        FaultSet: topology.FAULTS,
    }
    for value in values:
        bucket = await TypedBucket.open(client, buckets[type(value)], type(value))
        await bucket.put(agent_key(value.tenant_id, value.agent_id), value)
