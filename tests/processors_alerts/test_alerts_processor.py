"""The alerts processor against a real server."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

from nats.aio.client import Client

from processors.alerts.app import AlertsProcessor
from processors.alerts.rules import Rules, load_rules, read_rules
from processors.alerts.settings import AlertSettings
from processors.runner import ProcessorContext
from schemas.alerts import Acknowledgement, AlertChange
from schemas.events import AcceptedEvent
from schemas.sections import Agent, AgentStatus, Health, HealthStatus
from schemas.state import AgentState
from streams import topology
from streams.connect import connect
from streams.dead_letters import bury
from streams.embedded import EmbeddedServer
from streams.kv import TypedBucket
from streams.messages import Received
from tests.conftest import until
from tests.processors_health.telling import beat, event, publish, traffic
from tests.turns import Mine

SHIPPED = load_rules(None)


def now(seconds: float = 0) -> datetime:
    return datetime.now(UTC) + timedelta(seconds=seconds)


@asynccontextmanager
async def alerts(server: EmbeddedServer, rules: Rules = SHIPPED, check_s: float = 30.0) -> AsyncIterator[AlertsProcessor]:
    """The processor at work; stopped in the end as the runner does."""
    context = ProcessorContext(Path(), "test", lambda name: connect(server.settings(), name))
    processor = AlertsProcessor(context, AlertSettings(alerts_check_s=check_s), rules, Mine())
    await processor.start()
    task = asyncio.create_task(processor.run())
    try:
        yield processor
    finally:
        await processor.stop()
        await task


async def changes(client: Client) -> list[AlertChange]:
    """Every change in ALERTS, in order."""
    last = (await client.jsm().stream_info(topology.ALERTS)).state.last_seq
    found = []
    for sequence in range(1, last + 1):
        data = (await client.jsm().get_msg(topology.ALERTS, seq=sequence)).data
        assert data is not None
        found.append(AlertChange.model_validate_json(data))
    return found


async def told(client: Client) -> list[tuple[str, str]]:
    return [(change.rule, change.state) for change in await changes(client)]


async def until_told(client: Client, *expected: tuple[str, str], within_s: float = 5) -> None:
    async def predicate() -> bool:
        return await told(client) == list(expected)

    await until(predicate, f"ALERTS holds {expected}", within_s)


def status_changed(
    health: HealthStatus, status: AgentStatus = "running", reason: str = "probe fails", agent: str = "a"
) -> AcceptedEvent:
    return event(
        "agent.status_changed", now(), agent_id=agent, health=Health(status=health, reason=reason), agent=Agent(status=status)
    )


def state(gave_up: bool = False, desired: str = "running", agent: str = "a") -> AgentState:
    return AgentState.model_validate(
        {"agent_id": agent, "tenant_id": "acme", "desired": desired, "status": "error", "reason": "5 restarts in 300 s",
         "gave_up": gave_up, "version": "1", "updated_at": now()},
    )  # fmt: skip


async def test_an_unhealthy_agent_is_told_on_its_subject_and_once_it_is_well_again_too_not_before(
    server: EmbeddedServer, client: Client
) -> None:
    async with alerts(server):
        heard = await client.subscribe("alerts.acme.critical.>")
        await publish(client, status_changed("UNHEALTHY"))
        message = await heard.next_msg(timeout=2)
        change = AlertChange.model_validate_json(message.data)
        assert message.subject == "alerts.acme.critical.agent_unhealthy"
        assert (change.state, change.agent_id, change.summary) == ("firing", "a", "a is unhealthy: probe fails")
        restarted = (
            status_changed("UNHEALTHY", "starting"),
            status_changed("RECOVERING", "starting"),
            status_changed("RECOVERING"),
        )
        await publish(client, *restarted, status_changed("UNHEALTHY", agent="later"))
        await until_told(client, ("agent_unhealthy", "firing"), ("agent_unhealthy", "firing"))
        await publish(client, status_changed("HEALTHY"), status_changed("RECOVERING", "starting", agent="fresh"))
        await until_told(client, ("agent_unhealthy", "firing"), ("agent_unhealthy", "firing"), ("agent_unhealthy", "resolved"))
        assert [each.agent_id for each in await changes(client)] == ["a", "later", "a"]


async def test_an_agent_stopped_on_purpose_ends_its_alerts(server: EmbeddedServer, client: Client) -> None:
    async with alerts(server):
        await publish(client, status_changed("UNHEALTHY"), status_changed("UNHEALTHY", "stopped"))
        await until_told(client, ("agent_unhealthy", "firing"), ("agent_unhealthy", "resolved"))
        states = await TypedBucket.open(client, topology.AGENT_STATES, AgentState)
        await publish(client, status_changed("UNHEALTHY", agent="b"))
        await until_told(client, ("agent_unhealthy", "firing"), ("agent_unhealthy", "resolved"), ("agent_unhealthy", "firing"))
        await states.put("acme.b", state(desired="stopped", agent="b"))
        await until_told(client, *[("agent_unhealthy", "firing"), ("agent_unhealthy", "resolved")] * 2)


async def test_latency_must_be_high_for_as_long_as_the_rule_says(server: EmbeddedServer, client: Client) -> None:
    text = "rules: [{name: slow, metric: latency_ms, threshold: 2000, for: 500ms, severity: warning}]"
    async with alerts(server, read_rules(text, "test")):
        await publish(client, beat(now(), metrics=traffic(latency_ms=2500)))
        assert await told(client) == []
        await until_told(client, ("slow", "firing"))
        await publish(client, beat(now(), metrics=traffic(latency_ms=120)))
        await until_told(client, ("slow", "firing"), ("slow", "resolved"))


async def test_an_agent_the_manager_gave_up_is_told(server: EmbeddedServer, client: Client) -> None:
    states = await TypedBucket.open(client, topology.AGENT_STATES, AgentState)
    async with alerts(server):
        await states.put("acme.a", state(gave_up=True))
        await until_told(client, ("crash_loop", "firing"))
    async with alerts(server):
        await states.put("acme.a", state())
        await until_told(client, ("crash_loop", "firing"), ("crash_loop", "resolved"))


async def test_dead_letters_and_unpriced_calls_are_told_for_each_tenant(server: EmbeddedServer, client: Client) -> None:
    source = Received("telemetry.acme.a.run", b"x", 7, 1, 10**18, 0, "")
    letter = bury(source, "TELEMETRY", b"x", processor="validate", reason="malformed_json", tenant="acme", kind="run", events=3)
    entry = {
        "tenant_id": "acme", "agent_id": "a", "reason": "unpriced", "cost_usd": "0", "occurred_at": now().isoformat(),
        "provider": "acme-ai", "model": "m1",
    }  # fmt: skip
    import orjson

    async with alerts(server):
        await client.jetstream().publish(letter.subject, letter.data, headers=dict(letter.headers))
        await until_told(client, ("dead_letters", "firing"))
        await client.jetstream().publish("ledger.acme", orjson.dumps(entry))
        await until_told(client, ("dead_letters", "firing"), ("unpriced_model_calls", "firing"))
        first, second = await changes(client)
        assert first.summary.startswith("rejected events of tenant acme: 3 (malformed_json)")
        assert "acme-ai/m1" in second.summary


async def test_a_person_acknowledges_an_alert_once(server: EmbeddedServer, client: Client) -> None:
    seen = await TypedBucket.open(client, topology.ACKNOWLEDGEMENTS, Acknowledgement)
    async with alerts(server):
        await publish(client, status_changed("UNHEALTHY"))
        await until_told(client, ("agent_unhealthy", "firing"))
        alert_id = (await changes(client))[0].alert_id
        for _ in range(2):
            await seen.put(alert_id, Acknowledgement(alert_id=alert_id, by="ada", at=now(), note="on it"))
        await until_told(client, ("agent_unhealthy", "firing"), ("agent_unhealthy", "acknowledged"))
    async with alerts(server) as processor:
        await until(lambda: not processor.waiting_for(), "ready")
        await publish(client, status_changed("HEALTHY"))
        await until_told(
            client, ("agent_unhealthy", "firing"), ("agent_unhealthy", "acknowledged"), ("agent_unhealthy", "resolved")
        )
        last = (await changes(client))[-1]
        assert (last.acknowledged_by, last.state) == ("ada", "resolved")

        async def forgotten() -> bool:
            return await seen.get(alert_id) is None

        await until(forgotten, "its acknowledgement is removed")


async def test_what_was_told_after_the_last_checkpoint_is_not_told_again(server: EmbeddedServer, client: Client) -> None:
    """As after kill -9: EVENTS is read again from an old position, ALERTS already tells what follows."""
    async with alerts(server) as processor:
        await until(lambda: not processor.waiting_for(), "ready")
    checkpoints = await client.jetstream().key_value(topology.CHECKPOINTS)
    old = await checkpoints.get("alerts")
    assert old.value is not None
    async with alerts(server):
        await publish(client, status_changed("UNHEALTHY"), status_changed("HEALTHY"), status_changed("UNHEALTHY"))
        before = [("agent_unhealthy", "firing"), ("agent_unhealthy", "resolved"), ("agent_unhealthy", "firing")]
        await until_told(client, *before)
    for key in await checkpoints.keys():
        if key.startswith("alerts."):
            await checkpoints.delete(key)
    await checkpoints.put("alerts", old.value)
    # Beyond the server's own memory of message ids nothing else would hold it back.
    config = (await client.jsm().stream_info(topology.ALERTS)).config
    config.duplicate_window = 0.1
    await client.jsm().update_stream(config)
    async with alerts(server) as processor:
        await until(lambda: not processor.waiting_for(), "ready")
        await publish(client, status_changed("HEALTHY"))
        await until_told(client, *before, ("agent_unhealthy", "resolved"))
    found = await changes(client)
    assert found[2].alert_id == found[3].alert_id != found[0].alert_id


async def test_an_alert_whose_rule_is_gone_ends(server: EmbeddedServer, client: Client) -> None:
    async with alerts(server):
        await publish(client, status_changed("UNHEALTHY"))
        await until_told(client, ("agent_unhealthy", "firing"))
    async with alerts(server, read_rules("rules: []", "test")):
        await until_told(client, ("agent_unhealthy", "firing"), ("agent_unhealthy", "resolved"))


async def test_it_goes_on_after_the_server_was_killed(server: EmbeddedServer, client: Client) -> None:
    async with alerts(server) as processor:
        await until(lambda: not processor.waiting_for(), "ready")
        await publish(client, status_changed("UNHEALTHY"))
        await until_told(client, ("agent_unhealthy", "firing"))
        await server.kill()
        await server.start()
        await until(lambda: client.is_connected, "reconnected")
        await publish(client, status_changed("HEALTHY"))
        await until_told(client, ("agent_unhealthy", "firing"), ("agent_unhealthy", "resolved"), within_s=10)


async def test_a_stream_that_fills_up_and_a_validate_that_is_behind_are_told(server: EmbeddedServer, client: Client) -> None:
    text = """
rules:
  - {name: full, metric: stream_fullness, threshold: 0.5, severity: critical, summary: "{stream} {value:.0%}"}
  - {name: behind, metric: telemetry_lag_s, threshold: 0.3, severity: critical}
"""
    config = (await client.jsm().stream_info(topology.COMMANDS)).config
    config.max_bytes = 1000
    await client.jsm().update_stream(config)
    await client.jetstream().publish("command.acme.operator.a", b"x" * 700)
    await client.jetstream().publish("telemetry.acme.a.run", b"waits")
    async with alerts(server, read_rules(text, "test"), check_s=0.3):
        await until_told(client, ("full", "firing"), ("behind", "firing"))
        first = (await changes(client))[0]
        assert (first.tenant_id, first.labels) == ("system", {"stream": "COMMANDS"})
        await client.jsm().purge_stream(topology.TELEMETRY)
        await until_told(client, ("full", "firing"), ("behind", "firing"), ("behind", "resolved"))


async def test_what_cannot_be_read_stops_nobody(server: EmbeddedServer, client: Client) -> None:
    await client.jetstream().publish("alerts.acme.info.mine", b"{")
    async with alerts(server):
        heard = await client.subscribe("alerts.acme.critical.>")
        for subject in ("events.acme.heartbeat", "events.acme.agent", "dead.acme.run", "ledger.acme"):
            for junk in (b'"agent.status_changed" {', b"[]", b'{"event_type": "agent.status_changed"}'):
                await client.jetstream().publish(subject, junk)
        acknowledgements = await client.jetstream().key_value(topology.ACKNOWLEDGEMENTS)
        await acknowledgements.put(str(uuid4()), b"{")
        await publish(client, status_changed("UNHEALTHY"))
        assert AlertChange.model_validate_json((await heard.next_msg(timeout=2)).data).state == "firing"
