"""Reports of the older shape become events of today's contract, each field where the table in ``sidecar.gateway.telemetry`` says."""

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import orjson
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from schemas.events import Event
from schemas.reading import Rejected, read_event
from sidecar.gateway.telemetry import as_event
from tests.sidecar.running import Telemetry
from tests.sidecar_gateway.running import NDJSON, Gateway, event, lines

NOW = datetime(2026, 11, 20, 10, tzinfo=UTC)
NEW = UUID("01938f2e-7c1a-7b2e-9c55-3f1f6f1b2a10")
DOCUMENTED = {
    "agent_id": "agent-001", "service_name": "customer-support-bot", "status": "HEALTHY", "last_heartbeat": "2023-10-27T10:00:00Z",
    "metrics": {"latency_ms": 120, "error_rate": 0.01}, "active_faults": ["LATENCY_INJECTION"],
    "config": {"region": "us-central1", "image": "image:1"},
}  # fmt: skip


def made(report: dict[str, Any]) -> Event:
    raw = as_event(orjson.dumps(report), "acme", NOW, NEW)
    assert isinstance(raw, bytes), raw
    found = read_event(raw)
    assert isinstance(found, Event), found
    return found


def refused(report: Any) -> Rejected:
    found = as_event(orjson.dumps(report), "acme", NOW, NEW)
    assert isinstance(found, Rejected)
    return found


def test_the_documented_report_is_a_heartbeat() -> None:
    found = made(DOCUMENTED)
    assert (found.event_type, found.run.agent_id, found.tenant.tenant_id) == ("agent.heartbeat", "agent-001", "acme")
    assert found.occurred_at == datetime(2023, 10, 27, 10, tzinfo=UTC)
    assert found.health is not None
    assert (found.health.status, found.health.active_faults) == ("HEALTHY", ("latency",))
    assert found.agent is not None
    assert (found.agent.name, found.agent.status) == ("customer-support-bot", "running")
    assert found.metrics is not None
    assert (found.metrics.latency_ms, found.metrics.error_rate) == (120, 0.01)
    assert found.attributes == {"config": DOCUMENTED["config"]}


def test_the_same_report_is_the_same_event_and_another_is_not() -> None:
    first = made(DOCUMENTED)
    assert made(dict(reversed(DOCUMENTED.items()))).event_id == first.event_id
    assert made(DOCUMENTED | {"status": "UNHEALTHY"}).event_id != first.event_id
    assert made({"agent_id": "a", "status": "HEALTHY"}).event_id == NEW
    assert str(made(DOCUMENTED | {"event_id": str(NEW)}).event_id) == str(NEW)


@pytest.mark.parametrize(
    ("status", "event_type", "health", "life"),
    [
        ("UNHEALTHY", "agent.heartbeat", "UNHEALTHY", "running"), ("RECOVERING", "agent.heartbeat", "RECOVERING", "running"),
        ("running", "agent.heartbeat", "HEALTHY", "running"), ("Starting", "agent.heartbeat", "RECOVERING", "starting"),
        ("error", "agent.heartbeat", "UNHEALTHY", "error"), ("stopped", "agent.stopped", None, "stopped"),
        ("inactive", "agent.status_changed", None, "inactive"),
    ],
)  # fmt: skip
def test_every_status_has_its_event(status: str, event_type: str, health: str | None, life: str) -> None:
    found = made({"agent_id": "a", "status": status, "error": {"message": "out of memory"}})
    assert found.event_type == event_type
    assert (found.health.status if found.health else None) == health
    assert found.agent is not None
    assert (found.agent.status, found.agent.reason) == (life, "out of memory")


def test_metrics_alone_are_a_sample_and_unknown_ones_keep_their_names() -> None:
    found = made(
        {
            "agent_id": "a",
            "timestamp": "2026-11-20T09:00:00",
            "metrics": {"requests": 3.0, "queue": 7, "mode": "fast", "threads": 1.5},
        }
    )
    assert found.event_type == "metric.sampled"
    assert found.occurred_at == datetime(2026, 11, 20, 9, tzinfo=UTC)
    assert found.metrics is not None
    assert found.metrics.requests == 3
    assert {each.name: each.value for each in found.metrics.samples} == {"queue": 7, "threads": 1.5}
    assert found.attributes == {"metrics": {"mode": "fast"}}


def test_what_is_wrong_is_told_by_field() -> None:
    assert [each.loc for each in refused({"agent_id": "a b", "status": "fine"}).errors] == ["$.agent_id", "$.status"]
    assert refused({"status": "HEALTHY"}).errors[0].loc == "$.agent_id"
    assert refused({"agent_id": "a"}).errors[0].loc == "$.status"
    foreign = refused({"agent_id": "a", "status": "HEALTHY", "tenant_id": "rival"})
    assert (foreign.reason, foreign.errors[0].loc) == ("tenant_mismatch", "$.tenant_id")
    raw = as_event(orjson.dumps({"agent_id": "a", "metrics": {"error_rate": 7}}), "acme", NOW, NEW)
    assert isinstance(raw, bytes)
    found = read_event(raw)
    assert isinstance(found, Rejected)
    assert found.errors[0].loc == "$.metrics.error_rate"


JSONS = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=10), inner, max_size=4),
    max_leaves=12,
)
FIELDS = st.sampled_from([
    "agent_id", "service_name", "status", "last_heartbeat", "timestamp", "metrics", "active_faults", "version", "reason", "error",
    "tenant_id", "event_id", "interval_s", "config",
])  # fmt: skip


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.dictionaries(FIELDS, JSONS, max_size=8), st.booleans())
def test_any_report_is_an_event_or_refused_with_a_reason(changes: dict[str, Any], documented: bool) -> None:
    raw = orjson.dumps((DOCUMENTED if documented else {}) | changes, default=str) if _writable(changes) else b"{}"
    found = as_event(raw, "acme", NOW, NEW)
    judged = found if isinstance(found, Rejected) else read_event(found)
    if isinstance(judged, Rejected):
        assert judged.errors
    else:
        assert judged.tenant.tenant_id == "acme"


def _writable(value: Any) -> bool:
    try:
        orjson.dumps(value)
    except (TypeError, ValueError):
        return False
    return True


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_left_to_be_judged_or_refused(raw: bytes) -> None:
    found = as_event(raw, "acme", NOW, NEW)
    assert isinstance(found, bytes | Rejected)


async def test_the_older_door_takes_reports_and_events(gateway: Gateway, key: str, telemetry: Telemetry) -> None:
    v0 = event(event_version="v0")
    status, answer = await gateway.post(lines(DOCUMENTED, v0, {"agent_id": "a"}), key, NDJSON, "/api/v1/telemetry")
    assert (status, answer["accepted"], answer["rejected"]) == (202, 2, 1)
    found = await telemetry.read()
    assert {each["event_version"] for each in found} == {"v1"}
    assert set(telemetry.subjects) == {"telemetry.acme.agent-001.heartbeat", "telemetry.acme.a.run"}
    status, _ = await gateway.post(orjson.dumps(DOCUMENTED), None, path="/api/v1/telemetry")
    assert status == 401
