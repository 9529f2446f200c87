"""Events, alerts, queries, dead letters, streams: asked of a real server."""

import asyncio
import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import orjson
from nats.aio.client import Client
from nats.aio.msg import Msg

from schemas.alerts import Acknowledgement, AlertChange
from schemas.errors import FieldError
from schemas.queries import Page, QueryError
from streams import subjects, topology
from streams.dead_letters import bury
from streams.embedded import EmbeddedServer
from streams.kv import TypedBucket
from streams.messages import Received
from streams.publish import publish
from tests.cli.calling import ROOT, agentops, begin, environment, operator
from tests.conftest import stream_messages
from tests.events import event, new_id


def ndjson(*events: object) -> bytes:
    return b"\n".join(one if isinstance(one, bytes) else orjson.dumps(one) for one in events) + b"\n"


async def test_good_lines_are_published_and_bad_ones_named_field_by_field(
    server: EmbeddedServer, client: Client, tmp_path: Path
) -> None:
    login = operator(server)
    bad = event("model_call.completed") | {"resource_usage": {"input_tokens": -5, "output_tokens": "many"}}
    old = json.loads(json.dumps(event("run.completed"))) | {"event_id": new_id()}
    lines = ndjson(event("run.started"), b"", bad, b"{not json", old)
    file = tmp_path / "events.ndjson"
    file.write_bytes(lines)
    said = await agentops("events", "publish", str(file), variables=login)
    assert "published 2 events" in said.out
    told = said.failed()
    assert "line 3: $.resource_usage.input_tokens: must be at least 0 (is -5)" in told
    assert "line 3: $.resource_usage.output_tokens" in told
    assert "line 4: $: " in told
    assert await stream_messages(client, topology.TELEMETRY) == 2
    stored = await client.jsm().get_msg(topology.TELEMETRY, 1)
    assert stored.subject == "telemetry.acme.planner.run"
    again, missing, as_is = await asyncio.gather(
        agentops("events", "publish", "-", "--json", variables=login, given=ndjson(old)),
        agentops("events", "publish", str(tmp_path / "none"), variables=login),
        agentops("events", "publish", "-", "--no-validate", variables=login, given=ndjson(bad, b"{not json")),
    )
    assert again.json()["repeated"] == 1
    assert "cannot be read" in missing.failed()
    assert as_is.code == 0
    assert await stream_messages(client, topology.TELEMETRY) == 4


async def test_large_files_travel_in_micro_batches(server: EmbeddedServer, client: Client) -> None:
    events = [event("run.started", agent=f"agent-{number % 3}", run=f"run-{number}") for number in range(3000)]
    said = await agentops("events", "publish", "-", "--batch", "--json", variables=operator(server), given=ndjson(*events))
    assert said.json()["published"] == 3000
    messages = await stream_messages(client, topology.TELEMETRY)
    assert 3 <= messages <= 9


async def test_events_are_watched_as_they_arrive(server: EmbeddedServer, client: Client) -> None:
    tail = await begin("events", "tail", "--kind", "model_call", "-n", "1", variables=operator(server))
    assert tail.stdout is not None
    assert tail.stderr is not None
    async with asyncio.timeout(15):
        await tail.stderr.readline()
        made = event("model_call.completed") | {
            "ingest": {"received_at": datetime.now(UTC).isoformat(), "sequence": 1, "position": 0}
        }
        await publish(client, subjects.events("acme", "run"), ndjson(event("run.started")))
        await publish(client, subjects.events("acme", "model_call"), ndjson(made))
        line = (await tail.stdout.readline()).decode()
        assert "acme/planner  model_call.completed  gpt-4o-mini · 100 in, 20 out" in line
        await tail.communicate()
    assert tail.returncode == 0


def alert(alert_id: str, state: str, at: datetime, **more: object) -> AlertChange:
    values = {
        "rule": "error_rate",
        "severity": "critical",
        "tenant_id": "demo",
        "agent_id": "chat-service",
        "metric": "error_rate",
        "summary": "too many errors",
    }
    return AlertChange.model_validate(
        {"change_id": f"{alert_id}-{state}", "alert_id": alert_id, "state": state, "started_at": at, "at": at} | values | more
    )


async def put_alert(client: Client, change: AlertChange) -> None:
    await publish(
        client,
        subjects.alerts(change.tenant_id, change.severity, change.rule),
        change.model_dump_json(exclude_none=True).encode(),
        message_id=change.change_id,
    )


async def test_alerts_are_listed_acknowledged_and_watched(server: EmbeddedServer, client: Client) -> None:
    login, at = operator(server), datetime.now(UTC)
    await put_alert(client, alert("a-1", "firing", at))
    await put_alert(client, alert("b-2", "firing", at))
    await put_alert(client, alert("b-2", "resolved", at + timedelta(seconds=1)))
    bucket = await TypedBucket.open(client, topology.ACKNOWLEDGEMENTS, Acknowledgement)
    tail = await begin("alerts", "tail", "--json", "-n", "1", variables=login)
    assert tail.stderr is not None

    async def alerts_processor() -> None:
        """What the alerts processor does with an acknowledgement."""
        async for entry in bucket.watch():
            assert entry.value is not None
            await put_alert(
                client, alert("a-1", "acknowledged", entry.value.at, acknowledged_by=entry.value.by, note=entry.value.note)
            )
            return

    async with asyncio.timeout(20):
        await tail.stderr.readline()
        processor = asyncio.create_task(alerts_processor())
        listed, every, acknowledged, resolved, unknown = await asyncio.gather(
            agentops("alerts", "list", "--json", variables=login),
            agentops("alerts", "list", "--state", "all", variables=login),
            agentops("alerts", "ack", "a", "--note", "mine", "--by", "ada", variables=login),
            agentops("alerts", "ack", "b-2", variables=login),
            agentops("alerts", "ack", "zzz", variables=login),
        )
        await processor
        out, _ = await tail.communicate()
    assert [change["alert_id"] for change in listed.json()] == ["a-1"]
    assert "resolved" in every.out
    assert acknowledged.out == "alert a-1: acknowledged by ada\n"
    assert "resolved already" in resolved.failed()
    assert "there is no alert 'zzz'" in unknown.failed()
    assert json.loads(out)["acknowledged_by"] == "ada"


async def test_queries_are_asked_by_name_and_shown_as_table_json_and_csv(server: EmbeddedServer, client: Client) -> None:
    login, asked = operator(server), []
    nobody = await agentops("query", "runs", variables=login)
    assert "the warehouse does not answer yet" in nobody.failed()

    async def answer(message: Msg) -> None:
        params = orjson.loads(message.data)
        asked.append(params)
        if params.get("agent") == "broken":
            refused = QueryError(query="runs", message="no", errors=(FieldError(loc="$.agent", msg="is broken"),))
            await client.publish(message.reply, refused.model_dump_json().encode(), headers={"Agentops-Error": "1"})
            return
        row = {
            "run_id": "r-1",
            "tenant_id": "demo",
            "agent_id": "my-agent",
            "status": "completed",
            "duration_ms": 1500.0,
            "cost_usd": "0.000123",
            "started_at": "2026-11-20T10:00:00Z",
        }
        page = Page(query="runs", columns=tuple(row), rows=(row,), next_offset=20, as_of=datetime.now(UTC), elapsed_ms=1.0)
        await client.publish(message.reply, page.model_dump_json().encode())

    subscription = await client.subscribe(subjects.query("runs"), cb=answer)
    await client.flush()
    table, as_json, as_csv, refused = await asyncio.gather(
        agentops("query", "runs", "--agent", "my-agent", "--limit", "20", variables=login),
        agentops("query", "runs", "--param", "agent=my-agent", "--since", "7d", "--json", variables=login),
        agentops("query", "runs", "--csv", variables=login),
        agentops("query", "runs", "--agent", "broken", variables=login),
    )
    assert "$0.000123" in table.out
    assert "1.5 s" in table.out
    assert "--offset 20" in table.err
    assert as_json.json()["rows"][0]["run_id"] == "r-1"
    assert as_csv.out.splitlines()[1].startswith("r-1,demo,my-agent,completed,1500.0,0.000123")
    assert "$.agent: is broken" in refused.failed()
    assert {"agent": "my-agent", "limit": 20, "offset": 0} in asked
    await subscription.unsubscribe()


async def test_log_lines_are_read_in_a_terminal_of_80_columns(server: EmbeddedServer, client: Client) -> None:
    """When, how bad, whose and what: a long message goes on below itself, and what does not fit is named."""
    login, asked = operator(server), []

    async def answer(message: Msg) -> None:
        asked.append(orjson.loads(message.data))
        row = {
            "occurred_at": "2026-11-20T10:00:00Z", "tenant_id": "demo", "agent_id": "summary-service", "level": "warning",
            "message": "the model answered slowly: " + "very " * 20 + "slowly", "logger": "shop.orders.placing", "run_id": "r" * 32,
            "trace_id": "0af7651916cd43dd8448eb211c80319c", "span_id": None, "error_type": None, "error_message": None,
            "event_id": "e-1",
        }  # fmt: skip
        page = Page(query="logs", columns=tuple(row), rows=(row,), next_offset=100, as_of=datetime.now(UTC), elapsed_ms=1.0)
        await client.publish(message.reply, page.model_dump_json().encode())

    await client.subscribe(subjects.query("logs"), cb=answer)
    await client.flush()
    narrow, as_json, wrong = await asyncio.gather(
        agentops("query", "logs", "--level", "warning", "--search", "slowly", variables=login | {"COLUMNS": "80"}),
        agentops("query", "logs", "--run", "r-1", "--json", variables=login),
        agentops("query", "logs", "--level", "loud", variables=login),
    )
    assert max(map(len, narrow.out.splitlines())) <= 80
    assert "summary-service" in narrow.out
    assert "warning" in narrow.out
    assert narrow.out.count("very") == 20
    assert "--offset 100" in narrow.err
    assert as_json.json()["rows"][0]["trace_id"] == "0af7651916cd43dd8448eb211c80319c"
    assert "loud" in wrong.failed(2)
    assert {"level": "warning", "search": "slowly", "limit": 100, "offset": 0} in asked
    assert {"run": "r-1", "limit": 100, "offset": 0} in asked


async def test_a_run_is_asked_for_by_its_id_with_or_without_the_option(server: EmbeddedServer, client: Client) -> None:
    login, asked = operator(server), []

    async def answer(message: Msg) -> None:
        asked.append(orjson.loads(message.data)["run_id"])
        row = {"kind": "run", "name": "chat", "status": "completed", "depth": 0}
        page = Page(query="run", columns=tuple(row), rows=(row,), as_of=datetime.now(UTC), elapsed_ms=1.0)
        await client.publish(message.reply, page.model_dump_json().encode())

    await client.subscribe(subjects.query("run"), cb=answer)
    await client.flush()
    placed, named, two, none = await asyncio.gather(
        agentops("query", "run", "r-1", variables=login),
        agentops("query", "run", "--run-id", "r-2", "--json", variables=login),
        agentops("query", "run", "r-1", "--run-id", "r-2", variables=login),
        agentops("query", "run", variables=login),
    )
    assert "chat" in placed.out
    assert named.json()["rows"][0]["name"] == "chat"
    assert sorted(asked) == ["r-1", "r-2"]
    assert "Name one" in two.failed(2)
    assert "agentops query run 0198c5f2" in none.failed(2)


async def test_what_is_wrong_with_a_question_is_named_with_its_value_and_what_it_must_be(server: EmbeddedServer) -> None:
    login = operator(server)
    limit, tenant, by, kind = await asyncio.gather(
        agentops("query", "runs", "--limit", "9000", variables=login),
        agentops("query", "runs", "--tenant", "no.such", variables=login),
        agentops("query", "spend", "--by", "colour", variables=login),
        agentops("faults", "inject", "a", "error", "--rate", "3", variables=login),
    )
    assert "--limit: must be at most 5,000 (is 9000). See `agentops query runs --help`" in limit.failed(2)
    assert "--tenant: must be 1 to 64 letters, digits, _ or - (is no.such)" in tenant.failed(2)
    assert "must be 'tenant', 'agent', 'model'" in by.failed(2)
    assert "(is colour)" in by.err
    assert "--rate" in kind.failed(2)
    for said in (limit, tenant, by, kind):
        assert "Input should" not in said.err
        assert "errors.pydantic.dev" not in said.err


async def test_dead_letters_are_listed_shown_and_brought_back(server: EmbeddedServer, client: Client) -> None:
    login = operator(server)
    raw = b'{"event_version": "v9"}'
    for sequence, reason in ((7, "unknown_version"), (8, "malformed_json")):
        source = Received("telemetry.acme.planner.run", raw, sequence, 1, 1_700_000_000_000_000_000, 0, "")
        errors = (FieldError(loc="$.event_version", msg="must be 'v1'", value="v9"),)
        letter = bury(
            source, topology.TELEMETRY, raw, processor="validate", reason=reason, errors=errors, tenant="acme", kind="run"
        )
        await publish(client, letter.subject, letter.data)
    listed = await agentops("dead", "list", "--reason", "unknown_version", "--json", variables=login)
    (letter,) = listed.json()
    assert letter["errors"][0]["loc"] == "$.event_version"
    table, shown, original, replayed, unknown = await asyncio.gather(
        agentops("dead", "list", "--tenant", "acme", variables=login),
        agentops("dead", "show", letter["letter_id"][:13], variables=login),
        agentops("dead", "show", letter["letter_id"], "--original", variables=login),
        agentops("dead", "replay", "--all", "--reason", "unknown_version", variables=login),
        agentops("dead", "replay", "nonsense", variables=login),
    )
    assert "malformed_json" in table.out
    assert "must be 'v1' (is v9)" in shown.out
    assert original.out.encode() == raw
    assert "replayed 1 dead letter" in replayed.out
    assert "there is no dead letter" in unknown.failed()
    assert await stream_messages(client, topology.TELEMETRY) == 1
    # What was brought back is told apart from what waits, and not brought back twice by --all.
    every, waiting, again, told = await asyncio.gather(
        agentops("dead", "list", "--json", variables=login),
        agentops("dead", "list", "--waiting", "--json", variables=login),
        agentops("dead", "replay", "--all", "--reason", "unknown_version", "--json", variables=login),
        agentops("dead", "show", letter["letter_id"], variables=login),
    )
    assert {row["reason"]: row["replayed_at"] is not None for row in every.json()} == {
        "unknown_version": True,
        "malformed_json": False,
    }
    assert [row["reason"] for row in waiting.json()] == ["malformed_json"]
    assert again.json() == {"replayed": [], "failed": []}
    assert "replayed" in told.out


async def test_the_topology_is_checked_applied_and_listed(server: EmbeddedServer, client: Client) -> None:
    login = operator(server)
    await client.jsm().delete_stream(topology.ALERTS)
    check = await agentops("streams", "check", variables=login)
    assert "stream ALERTS: does not exist" in check.out
    assert "agentops streams apply" in check.failed()
    listing = await agentops("alerts", "list", variables=login)
    assert "agentops streams apply" in listing.failed()
    applied = await agentops("streams", "apply", variables=login)
    assert applied.out == "created stream ALERTS\n"
    agrees, listed = await asyncio.gather(
        agentops("streams", "check", "--json", variables=login), agentops("streams", "list", "--json", variables=login)
    )
    assert agrees.json() == {"agrees": True, "drifts": []}
    assert {"TELEMETRY", "EVENTS", "LEDGER", "registry"} <= {row["stream"] for row in listed.json()}


async def test_who_watches_alerts_is_told_once_that_the_connection_is_lost(server: EmbeddedServer) -> None:
    tail = await begin("alerts", "tail", variables=operator(server))
    assert tail.stderr is not None
    assert (await asyncio.wait_for(tail.stderr.readline(), 15)).startswith(b"waiting for alerts")
    await server.kill()
    assert await asyncio.wait_for(tail.stderr.readline(), 10) == b"connection lost, trying again\n"
    tail.terminate()
    _, rest = await asyncio.wait_for(tail.communicate(), 10)
    assert b"Traceback" not in rest
    assert b"connection lost" not in rest


async def test_the_doctor_sees_what_waits_and_says_what_to_start(server: EmbeddedServer, client: Client) -> None:
    for number in range(3):
        await publish(client, subjects.telemetry("acme", "planner", "run"), orjson.dumps(event("run.started", run=str(number))))
    said = await agentops("doctor", "--json", variables=operator(server))
    assert said.code == 1
    report = json.loads(said.out)
    found = {(finding["part"], finding["level"]): finding for finding in report["findings"]}
    assert report["ok"] is False
    assert ("nats", "ok") in found
    assert ("streams", "ok") in found
    assert ("clock", "ok") in found
    assert "aggregate" in found["warehouse", "problem"]["advice"]
    assert "3 behind" in found["validate", "ok"]["message"]


async def test_a_reader_that_stops_reading_ends_the_command_quietly(server: EmbeddedServer) -> None:
    process = await asyncio.create_subprocess_shell(
        "exec 2>&1; $PYTHON -m agent_manager.cli streams list --json | head -n 1", stdout=asyncio.subprocess.PIPE, cwd=ROOT,
        env=environment(**operator(server), PYTHON=sys.executable),
    )  # fmt: skip
    out, _ = await process.communicate()
    assert out.decode() == "[\n"
