"""A tracer that sends to a gateway: what is rejected is told, what is not let in waits."""

import asyncio
from typing import Any

import orjson
import pytest

from schemas.keys import ApiKey, record_key, spelled
from sidecar.tracer import AgentTracer
from sidecar.tracing.events import Made
from sidecar.tracing.exporters.door import Door
from sidecar.tracing.exporters.exporter import Delivered, Refused
from streams.kv import TypedBucket
from tests.conftest import until
from tests.sidecar.running import Telemetry
from tests.sidecar_gateway.running import Gateway, event, put_key


def made(**changes: Any) -> Made:
    told = event(**changes)
    return Made(told, orjson.dumps(told), "run", told["event_id"])


async def test_what_a_gateway_rejects_of_a_batch_is_counted_and_told(gateway: Gateway, key: str) -> None:
    """It answers 202 for the rest."""
    door = Door(gateway.url, api_key=key)
    good, broken, foreign = made(), made(event_type="run.flown"), made(tenant={"tenant_id": "rival"})
    assert await asyncio.to_thread(door.export, [good]) == Delivered()
    for batch, rejected, why in (
        ([good, broken, foreign], 2, "contract_violation: $.event_type"),
        ([broken], 1, "contract_violation: $.event_type"),
    ):
        outcome = await asyncio.to_thread(door.export, batch)
        assert isinstance(outcome, Refused)
        assert outcome.events == rejected
        assert outcome.reason.startswith(why)
    bad = Made({}, b"{", "run", "1")
    outcome = await asyncio.to_thread(door.export, [bad, bad])
    assert isinstance(outcome, Refused)
    assert (outcome.events, outcome.reason.partition(":")[0]) == (2, "malformed_json")
    door.close()


async def test_events_wait_for_a_key_that_is_not_known_yet(
    gateway: Gateway, keys: TypedBucket[ApiKey], telemetry: Telemetry, caplog: pytest.LogCaptureFixture
) -> None:
    """And the process is told once, however often it is asked."""
    key = spelled("late", "secret_of-late")
    tracer = AgentTracer(url=gateway.url, api_key=key, tenant="acme", agent_id="a1", environ={}, every_s=0.01)
    with tracer.trace_agent_call("early"):
        pass
    await until(lambda: tracer.counts().barred >= 2, "it was answered 401 twice", 30)
    assert (tracer.counts().waiting, tracer.counts().refused) == (2, 0)
    assert await put_key(keys, "late") == key
    await telemetry.find("run.completed", run__workflow_id="early", within_s=60)
    await until(lambda: tracer.counts().delivered == 2, "both are delivered", 30)
    await keys.delete(record_key("acme", "late"))
    assert sum("does not let this process send" in message for message in caplog.messages) == 1
    assert key not in caplog.text
    tracer.close()


async def test_a_process_that_may_not_send_ends_at_once_and_says_what_is_lost(
    gateway: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    tracer = AgentTracer(url=gateway.url, api_key="nonsense", tenant="acme", agent_id="a1", environ={}, every_s=0.01, close_s=600)
    with tracer.trace_agent_call("x"):
        pass
    await until(lambda: tracer.counts().barred > 0, "it was answered 401", 30)
    await asyncio.to_thread(tracer.close)
    assert tracer.counts().dropped == 2
    assert any("2 event(s) lost" in message for message in caplog.messages)
