"""The REST API in front of a real manager, warehouse and NATS."""

import asyncio
import json
import re
from datetime import UTC, datetime
from pathlib import Path

import httpx
import orjson
from nats.aio.client import Client

from processors.cost.app import attach as attach_cost
from schemas.alerts import Acknowledgement
from schemas.keys import record_key
from streams import topology
from streams.embedded import EmbeddedServer
from streams.kv import TypedBucket
from streams.messages import CONTENT_TYPE, NDJSON
from streams.publish import publish
from tests.agent_manager.world import World
from tests.api.running import Api, is_problem
from tests.conftest import until
from tests.processors_aggregate.conftest import Running
from tests.processors_cost.test_cost import SUBJECT, priced
from tests.processors_cost.test_entries import accepted_line
from tests.processors_validate.running import running


async def test_who_has_no_good_key_is_told_so_and_nothing_else(api: Api) -> None:
    for headers in ({}, {"Authorization": "Bearer agentops_admin_wrong"}, {"x-api-key": "no"}, {"Authorization": "Bearer a.b.c"}):
        answer = await api.http.get("/api/v1/agents", headers=headers)
        is_problem(answer, 401, "unauthorized")
        assert answer.headers["www-authenticate"].startswith("Bearer")
    told = is_problem(await api.ask("GET", "/api/v1/agents", "sender"), 401, "unauthorized")
    assert "--role" in told["detail"]


async def test_a_revoked_key_is_refused_within_a_second(api: Api) -> None:
    entry = await api.keys.get(record_key("acme", "viewer"))
    assert entry is not None
    assert entry.value is not None
    await api.get("/api/v1/agents")
    await api.keys.put(record_key("acme", "viewer"), entry.value.model_copy(update={"revoked_at": datetime.now(UTC)}))

    async def refused() -> bool:
        return (await api.ask("GET", "/api/v1/agents")).status_code == 401

    await until(refused, "the key is refused", 2)


async def test_agents_are_listed_shown_and_filtered_and_what_may_be_secret_is_for_admins(world: World, api: Api) -> None:
    page = await api.get("/api/v1/agents", limit=1)
    assert [row["agent_id"] for row in page["items"]] == ["one"]
    following = await api.get("/api/v1/agents", limit=1, cursor=page["next_cursor"])
    assert [row["agent_id"] for row in following["items"]] == ["two"]
    assert following.get("next_cursor") is None
    for params, wanted in (({"tag": "chat"}, ["one"]), ({"search": "TW"}, ["two"]), ({"health": "STUCK"}, [])):
        assert [row["agent_id"] for row in (await api.get("/api/v1/agents", **params))["items"]] == wanted
    detail = await api.get("/api/v1/agents/one")
    assert (detail["agent"]["health"], detail["record"]["environment"]) == ("HEALTHY", {"TOKEN": "(withheld)"})
    assert "hush" not in json.dumps([detail, (await api.get("/api/v1/agents/one/history"))])
    assert (await api.get("/api/v1/agents/one", "admin"))["record"]["environment"] == {"TOKEN": "hush-hush"}
    assert (await api.get("/api/v1/agents/one/status"))["status"] == "running"
    assert [one["change"] for one in (await api.get("/api/v1/agents/one/history"))["items"]] == ["register"]
    told = is_problem(await api.ask("GET", "/api/v1/agents/ome"), 404, "not_found")
    assert "did you mean 'one'" in told["detail"]


async def test_another_tenants_agents_are_not_there(world: World, api: Api) -> None:
    await api.caller("foreign", "admin", "globex")
    await until(lambda: _good(api, "foreign"), "the key is known")
    assert (await api.get("/api/v1/agents", "foreign"))["items"] == []
    is_problem(await api.ask("GET", "/api/v1/agents/one", "foreign"), 404, "not_found")
    is_problem(await api.ask("POST", "/api/v1/agents/one/stop", "foreign"), 404, "not_found")
    for path in ("/api/v1/agents", "/v1/runs", "/api/v1/alerts", "/api/v1/budgets", "/v1/metrics/overview"):
        is_problem(await api.ask("GET", path, "foreign", params={"tenant": "acme"}), 403, "forbidden")
    record = {"agent_id": "x", "tenant_id": "acme", "name": "x", "version": "1", "working_directory": "/tmp"}
    is_problem(await api.ask("POST", "/api/v1/agents", "foreign", json={"record": record}), 403, "forbidden")
    state = await world.state("one")
    assert state is not None
    assert state.desired == "running"


async def _good(api: Api, who: str) -> bool:
    return (await api.ask("GET", "/api/v1/agents", who)).status_code == 200


async def test_a_key_for_one_agent_is_about_that_agent(world: World, api: Api) -> None:
    await api.caller("narrow", "operator", agents=("two",))
    await until(lambda: _good(api, "narrow"), "the key is known")
    assert [row["agent_id"] for row in (await api.get("/api/v1/agents", "narrow"))["items"]] == ["two"]
    is_problem(await api.ask("POST", "/api/v1/agents/one/stop", "narrow"), 404, "not_found")
    is_problem(await api.ask("GET", "/v1/runs", "narrow", params={"agent": "one"}), 403, "forbidden")


async def test_each_role_does_what_it_may_and_no_more(world: World, api: Api) -> None:
    for method, path, least in (
        ("POST", "/api/v1/agents/one/restart", "operator"), ("POST", "/api/v1/agents/one/faults", "operator"),
        ("DELETE", "/api/v1/agents/one/faults", "operator"), ("PUT", "/api/v1/agents/one", "admin"),
        ("DELETE", "/api/v1/agents/one", "admin"), ("POST", "/api/v1/agents/one/rollback", "admin"),
    ):  # fmt: skip
        for role in ("viewer", "operator"):
            body = {"kind": "latency", "latency_ms": 1, "duration_s": 1, "fields": {"owner": "me"}} if role == "viewer" else None
            if role == "viewer" or least == "admin":
                told = await api.ask(method, path, role, json=body)
                assert least in is_problem(told, 403, "forbidden")["detail"]
    assert len(world.launches("one")) == 1


async def test_a_command_is_carried_out_once_answered_and_audited_under_its_senders_name(world: World, api: Api) -> None:
    before = world.launches("two")
    once = {"Idempotency-Key": "restart-of-monday"}
    answers = [
        await api.ask("POST", "/api/v1/agents/two/restart", "operator", headers=once, json={"reason": "new key"})
        for _ in range(3)
    ]
    assert [answer.status_code for answer in answers] == [200, 200, 200]
    assert len({answer.json()["command_id"] for answer in answers}) == 1
    assert len(world.launches("two")) == len(before) + 1
    record = await world.audited(answers[0].json()["command_id"])
    assert (record.actor, record.action, record.params["reason"]) == ("key-operator", "restart", "new key")
    other = await api.ask("POST", "/api/v1/agents/two/stop", "operator", headers=once)
    assert "stands for a restart" in is_problem(other, 422, "invalid")["detail"]
    stopped = await api.ask("POST", "/api/v1/agents/two/stop", "operator")
    assert stopped.json()["result"]["status"] == "stopped"


async def test_faults_are_injected_shown_and_cleared(world: World, api: Api) -> None:
    fault = {"kind": "latency", "latency_ms": 20, "duration_s": 60}
    assert (await api.ask("POST", "/api/v1/agents/one/inject-fault", "operator", json=fault)).status_code == 200
    assert await world.faults("one") == ["latency"]

    async def shown() -> bool:
        return [one["kind"] for one in (await api.get("/api/v1/agents/one/faults"))["items"]] == ["latency"]

    await until(shown, "the fault is shown")
    assert (await api.ask("DELETE", "/api/v1/agents/one/faults", "operator")).status_code == 200
    assert await world.faults("one") == []
    wrong = await api.ask("POST", "/api/v1/agents/one/faults", "operator", json={"kind": "latency", "duration_s": -1})
    (error,) = is_problem(wrong, 422, "invalid")["errors"]
    assert (error["loc"], error["value"]) == ("body.duration_s", "-1")


async def test_agents_are_registered_changed_and_deleted(world: World, api: Api) -> None:
    record = {
        "agent_id": "three", "name": "Three", "version": "1", "working_directory": str(world.agents), "command": ["python", "-c", "pass"],
        "autostart": False,
    }  # fmt: skip
    made = await api.ask("POST", "/api/v1/agents", "admin", json={"record": record, "reason": "trial"})
    assert made.status_code == 201, made.text
    assert made.headers["location"] == "/api/v1/agents/three?tenant=acme"

    async def there() -> bool:
        return (await api.ask("GET", "/api/v1/agents/three")).status_code == 200

    await until(there, "it is shown")
    changed = await api.ask("PUT", "/api/v1/agents/three", "admin", json={"fields": {"owner": "research"}})
    assert changed.json()["result"]["changed"] == ["owner"]
    wrong = is_problem(await api.ask("PUT", "/api/v1/agents/three", "admin", json={"fields": {"port": -4}}), 422, "invalid")
    assert wrong["errors"][0]["loc"].endswith("port")
    assert wrong["command_id"]
    assert (await api.ask("DELETE", "/api/v1/agents/three", "admin")).status_code == 200
    bad = is_problem(await api.ask("POST", "/api/v1/agents", "admin", json={"record": {"agent_id": "a b"}}), 422, "invalid")
    assert bad["errors"][0]["loc"] == "body.record.agent_id"


async def calls(client: Client, *agents: str) -> list[str]:
    """One message of model calls; the event ids."""
    made = [orjson.loads(accepted_line(run={"agent_id": agent, "run_id": f"run-{agent}"})) for agent in agents]
    await publish(client, "events.acme.model_call", b"\n".join(map(orjson.dumps, made)), headers={CONTENT_TYPE: NDJSON})
    return [str(one["event_id"]) for one in made]


class Stream:
    """Events of a live stream, as they came."""

    def __init__(self, answer: httpx.Response) -> None:
        self.answer = answer
        self.ids: list[str] = []
        self.data: list[dict[str, object]] = []
        self.beats = 0
        self.task = asyncio.create_task(self._read())

    async def _read(self) -> None:
        async for line in self.answer.aiter_lines():
            field, _, value = line.partition(": ")
            if field == "id":
                self.ids.append(value)
            elif field == "data":
                self.data.append(json.loads(value))
            elif line == ": alive":
                self.beats += 1


async def test_events_come_as_they_happen_and_are_resumed_where_they_ended(
    world: World, client: Client, stopped_api: Api
) -> None:
    api = stopped_api
    await api.start(AGENTOPS_API_BEAT_S="0.3")
    await calls(client, "one")
    headers = api.as_["viewer"]
    async with api.http.stream("GET", "/api/v1/agents/one/events", headers=headers) as answer:
        assert (answer.status_code, answer.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")
        live = Stream(answer)
        await until(lambda: live.beats > 0, "it says that it lives")
        first, _, third = await calls(client, "one", "two", "one")
        await until(lambda: len(live.data) == 2, "both events of the agent came")
        assert [one["event_id"] for one in live.data] == [first, third]
        live.task.cancel()
    missed = await calls(client, "two", "one")
    async with api.http.stream("GET", "/api/v1/agents/one/events", headers={**headers, "Last-Event-ID": live.ids[0]}) as answer:
        again = Stream(answer)
        await until(lambda: len(again.data) == 2, "what was missed came")
        assert [one["event_id"] for one in again.data] == [third, missed[1]]
        entry = await api.keys.get(record_key("acme", "viewer"))
        assert entry is not None
        assert entry.value is not None
        await api.keys.put(record_key("acme", "viewer"), entry.value.model_copy(update={"revoked_at": datetime.now(UTC)}))
        await asyncio.wait_for(again.task, 10)
    assert (await api.http.get("/metrics")).text.count("agentops_api_streams 0.0") == 1
    is_problem(await api.ask("GET", "/api/v1/agents/one/events", "operator", headers={"Last-Event-ID": "x"}), 400, "bad_event_id")


async def test_figures_come_from_the_warehouse(
    world: World, server: EmbeddedServer, client: Client, warehouse: Running, tmp_path: Path, api: Api
) -> None:
    event = orjson.loads(accepted_line(run={"agent_id": "one", "run_id": "r1"}))
    event["occurred_at"] = datetime.now(UTC).isoformat()
    async with running(attach_cost, server, tmp_path / "cost"):
        await publish(client, SUBJECT, orjson.dumps(event))
        await priced(client)
    await warehouse.caught_up()
    run = await api.get("/v1/runs/r1")
    assert run["items"][0]["kind"] == "model_call"
    is_problem(await api.ask("GET", "/v1/runs/r2"), 404, "not_found")
    overview = await api.get("/v1/metrics/overview")
    assert (overview["agents"]["total"], overview["agents"]["by_health"]) == (2, {"HEALTHY": 2})
    assert (overview["tokens"] > 0, float(overview["cost_usd"]) > 0) == (True, True)
    metrics = await api.get("/api/v1/agents/one/metrics", metric="tokens", bucket="hour")
    assert (metrics["agent_id"], len(metrics["series"])) == ("one", 25)
    for path in ("/v1/failures/recent", "/v1/runs", "/api/v1/alerts", "/api/v1/agents/one/logs"):
        assert (await api.get(path))["as_of"]
    wrong = await api.ask("GET", "/v1/runs", params={"limit": 0, "cursor": "!"})
    assert [error["loc"] for error in is_problem(wrong, 422, "invalid")["errors"]] == ["query.limit"]
    is_problem(await api.ask("GET", "/v1/runs", params={"cursor": "!"}), 422, "invalid")
    is_problem(await api.ask("POST", "/api/v1/alerts/none/acknowledge", "operator"), 404, "not_found")


async def test_without_a_warehouse_or_nats_it_says_so_and_goes_on_when_they_are_back(
    world: World, server: EmbeddedServer, api: Api
) -> None:
    answer = await api.ask("GET", "/v1/runs")
    is_problem(answer, 503, "unavailable")
    assert int(answer.headers["retry-after"]) > 0
    await server.kill()

    async def away() -> bool:
        return (await api.ask("POST", "/api/v1/agents/one/restart", "operator")).status_code == 503

    await until(away, "commands are refused", 10)
    assert [row["agent_id"] for row in (await api.get("/api/v1/agents"))["items"]] == ["one", "two"]
    assert (await api.http.get("/readyz")).status_code == 503
    await server.start()

    async def back() -> bool:
        return (await api.ask("POST", "/api/v1/agents/one/restart", "operator")).status_code == 200

    await until(back, "commands work again", 20)


async def test_a_request_is_bounded_and_what_is_no_request_is_a_problem(api: Api) -> None:
    large = await api.ask("POST", "/api/v1/agents", "admin", content=b"x" * 60_000)
    is_problem(large, 413, "too_large")
    is_problem(await api.ask("POST", "/api/v1/agents", "admin", content=b"{"), 422, "invalid")
    is_problem(await api.ask("GET", "/nowhere"), 404, "not_found")
    is_problem(await api.ask("PATCH", "/api/v1/agents"), 405, "method_not_allowed")
    page = await api.http.get("/docs")
    assert "/api/v1/agents/{agent_id}/start" in page.text
    assert "<script" not in page.text


async def test_an_alert_is_acknowledged_by_who_asks(world: World, client: Client, warehouse: Running, api: Api) -> None:
    at = datetime.now(UTC).isoformat()
    change = {
        "change_id": "c1", "alert_id": "a1", "rule": "errors", "severity": "warning", "state": "firing", "tenant_id": "acme", "agent_id": "one",
        "metric": "error_rate", "started_at": at, "at": at, "summary": "too many",
    }  # fmt: skip
    await publish(client, "alerts.acme.warning.errors", orjson.dumps(change))
    await warehouse.caught_up()
    assert [row["alert_id"] for row in (await api.get("/api/v1/alerts", state="active"))["items"]] == ["a1"]
    answer = await api.ask("POST", "/api/v1/alerts/a1/acknowledge", "operator", json={"note": "on it"})
    assert answer.json()["by"] == "key-operator"
    entry = await (await TypedBucket.open(client, topology.ACKNOWLEDGEMENTS, Acknowledgement)).get("a1")
    assert entry is not None
    assert entry.value is not None
    assert (entry.value.by, entry.value.note) == ("key-operator", "on it")


async def test_what_the_guide_names_is_there(api: Api) -> None:
    described = (await api.http.get("/openapi.json")).json()["paths"]
    known = {re.sub(r"\{\w+\}", "X", path) for path in described}
    text = (Path(__file__).parents[2] / "docs" / "api.md").read_text()
    named = {
        re.sub(r"\{id\}|chat-service", "X", path) for path in re.findall(r"(?:8820|`|GET |POST )(/(?:api/)?v1/[\w{}/-]+)", text)
    }
    assert len(named) > 8
    assert named <= known
