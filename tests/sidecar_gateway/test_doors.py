"""What a gateway accepts has a PubAck; whoever may not send, sends too much or sends nonsense is told so."""

import gzip
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import orjson

from schemas.keys import ApiKey, record_key
from streams.kv import TypedBucket
from tests.conftest import until
from tests.sidecar.running import Telemetry
from tests.sidecar_gateway.running import JSON, NDJSON, Gateway, event, lines, put_key


async def test_one_event_an_array_lines_and_gzip_are_stored_before_they_are_accepted(
    gateway: Gateway, key: str, telemetry: Telemetry
) -> None:
    sent = [event() for _ in range(8)]
    bodies = [
        (orjson.dumps(sent[0]), JSON), (orjson.dumps(sent[1:3]), JSON), (lines(*sent[3:6]), NDJSON),
        (gzip.compress(lines(*sent[6:])), NDJSON | {"Content-Encoding": "gzip"}),
    ]  # fmt: skip
    stored = 0
    for body, headers in bodies:
        status, answer = await gateway.post(body, key, headers)
        assert (status, answer["rejected"]) == (202, 0)
        stored += answer["accepted"]
        assert [each["status"] for each in answer["results"]] == ["accepted"] * answer["accepted"]
        # No waiting: it was there before the answer was.
        assert len(await telemetry.read()) == stored
    assert [each["event_id"] for each in telemetry.events] == [each["event_id"] for each in sent]
    assert set(telemetry.subjects) == {"telemetry.acme.a.run"}


async def test_each_event_has_its_own_result_and_each_agent_its_own_subject(
    gateway: Gateway, key: str, telemetry: Telemetry
) -> None:
    first, second = event(), event(run={"agent_id": "b", "run_id": "r"})
    wrong, foreign = event(event_type="run.paused"), event(tenant={"tenant_id": "rival"})
    status, answer = await gateway.post(
        lines(first, wrong, second, foreign) + b"\n{nonsense", key, NDJSON,
    )  # fmt: skip
    assert (status, answer["accepted"], answer["rejected"]) == (202, 2, 3)
    assert [(each["index"], each["status"]) for each in answer["results"]] == [
        (0, "accepted"), (1, "rejected"), (2, "accepted"), (3, "rejected"), (4, "rejected"),
    ]  # fmt: skip
    assert answer["results"][1]["event_id"] == wrong["event_id"]
    assert [(each["loc"], each["value"]) for each in answer["results"][1]["errors"]] == [("$.event_type", "run.paused")]
    assert answer["results"][3]["reason"] == "tenant_mismatch"
    assert answer["results"][3]["errors"] == [
        {"loc": "$.tenant.tenant_id", "msg": "this key speaks for tenant 'acme'", "value": "rival"}
    ]
    assert answer["results"][4]["reason"] == "malformed_json"
    await telemetry.read()
    assert sorted(telemetry.subjects) == ["telemetry.acme.a.run", "telemetry.acme.b.run"]


async def test_where_nothing_is_accepted_the_status_says_why(gateway: Gateway, key: str, telemetry: Telemetry) -> None:
    for body, expected in (
        (orjson.dumps(event(event_type="run.paused")), 422),
        (orjson.dumps([event(tenant={"tenant_id": "rival"})]), 403),
        (b"{nonsense", 400), (b"", 400), (b"[]", 400), (b"17", 400), (b"[" * 100_000, 400), (b'{"a": "\x00"}', 400),
    ):  # fmt: skip
        status, answer = await gateway.post(body, key)
        assert (status, answer["accepted"]) == (expected, 0), body[:20]
        assert answer["results"][0]["errors"][0]["loc"].startswith("$")
    for headers, expected in (
        ({"Content-Type": "text/csv"}, 415), ({}, 415), (JSON | {"Content-Encoding": "br"}, 415), (JSON | {"Content-Encoding": "gzip"}, 400),
    ):  # fmt: skip
        status, answer = await gateway.post(b"{}", key, headers)
        assert status == expected
        assert answer["error"]["message"]
    status, answer = await gateway.post(b"x" * 1_000_001, key)
    assert (status, answer["error"]["type"]) == (413, "too_large")
    bomb = gzip.compress(b" " * 200_000_000)
    assert (await gateway.post(bomb, key, JSON | {"Content-Encoding": "gzip"}))[0] == 413
    assert await telemetry.read() == []


async def test_an_event_sent_again_is_accepted_again_and_stored_once(gateway: Gateway, key: str, telemetry: Telemetry) -> None:
    body = lines(event(), event())
    assert (await gateway.post(body, key, NDJSON))[0] == 202
    status, answer = await gateway.post(body, key, NDJSON)
    assert (status, answer["accepted"]) == (202, 2)
    assert {each["status"] for each in answer["results"]} == {"duplicate"}
    assert len(await telemetry.read()) == 2


async def test_an_id_of_one_tenant_does_not_hide_another_tenants_event(
    gateway: Gateway, key: str, keys: TypedBucket[ApiKey], telemetry: Telemetry
) -> None:
    """Nor a payload that changed: validate is to see that."""
    other = await put_key(keys, "k2", "rival")
    event_id = str(uuid4())

    async def known() -> bool:
        return (await gateway.post(orjson.dumps(event(event_id=event_id, tenant={"tenant_id": "rival"})), other))[0] == 202

    await until(known, "the rival's key is known")
    for changes in ({}, {"run": {"agent_id": "a", "run_id": "another"}}):
        status, answer = await gateway.post(orjson.dumps(event(event_id=event_id, **changes)), key)
        assert (status, answer["results"][0]["status"]) == (202, "accepted")
    assert len(await telemetry.read()) == 3


async def test_without_a_good_key_nothing_is_taken_and_nothing_is_told(
    gateway: Gateway, key: str, keys: TypedBucket[ApiKey], telemetry: Telemetry
) -> None:
    expired = await put_key(keys, "k2", expires_at=datetime.now(UTC) - timedelta(seconds=1))
    body = orjson.dumps(event())
    answers = []
    for wrong in (None, "", "nonsense", "agentops_nobody_secret", key[:-1] + "x", key + "x", expired, f"agentops_{'x' * 5000}_s"):
        headers = JSON if wrong is None else JSON | {"X-Api-Key": wrong}
        answers.append(await gateway.post(body, None, headers))
    assert {status for status, _ in answers} == {401}
    assert len({str(answer) for _, answer in answers}) == 1
    assert (await gateway.post(body, None, JSON | {"X-Api-Key": key}))[0] == 202
    text = await gateway.metrics()
    for reason in ("missing", "misspelled", "unknown", "wrong", "expired"):
        assert f'agentops_gateway_keys_refused_total{{reason="{reason}"}}' in text
    assert "secret" not in gateway.log.read_text() + text


async def test_a_key_for_some_agents_speaks_for_no_other(gateway: Gateway, keys: TypedBucket[ApiKey]) -> None:
    only = await put_key(keys, "k2", agents=("b", "c"))

    async def known() -> bool:
        return (await gateway.post(orjson.dumps(event(run={"agent_id": "b", "run_id": "r"})), only))[0] == 202

    await until(known, "the key is known")
    status, answer = await gateway.post(orjson.dumps(event()), only)
    assert status == 403
    assert answer["results"][0]["errors"] == [{"loc": "$.run.agent_id", "msg": "this key speaks only for: b, c", "value": "a"}]


async def test_a_revoked_key_is_refused_at_once_and_a_deleted_one(gateway: Gateway, key: str, keys: TypedBucket[ApiKey]) -> None:
    other = await put_key(keys, "k2")
    body = orjson.dumps(event())

    async def answers(which: str, wanted: int) -> bool:
        return (await gateway.post(body, which))[0] == wanted

    await until(lambda: answers(other, 202), "a new key works")
    entry = await keys.get(record_key("acme", "k1"))
    assert entry is not None
    assert entry.value is not None
    await keys.put(entry.key, entry.value.model_copy(update={"revoked_at": datetime.now(UTC)}))
    await until(lambda: answers(key, 401), "a revoked key is refused", 1)
    await keys.delete(record_key("acme", "k2"))
    await until(lambda: answers(other, 401), "a deleted key is refused", 1)


async def test_a_tenant_that_sends_too_much_is_asked_to_wait_and_others_are_not(
    stopped_gateway: Gateway, key: str, keys: TypedBucket[ApiKey], telemetry: Telemetry
) -> None:
    other = await put_key(keys, "k2", "rival")
    await stopped_gateway.start(AGENTOPS_GATEWAY_EVENTS_PER_S="5")
    statuses = [(await stopped_gateway.post(lines(*[event() for _ in range(10)]), key, NDJSON))[0]]
    headers = NDJSON | {"Authorization": f"Bearer {key}"}
    async with stopped_gateway.http.post(
        f"{stopped_gateway.url}/v1/events", data=lines(*[event() for _ in range(10)]), headers=headers
    ) as response:
        statuses.append(response.status)
        assert int(response.headers["Retry-After"]) >= 1
    assert statuses == [202, 429]
    assert (await stopped_gateway.post(orjson.dumps(event(tenant={"tenant_id": "rival"})), other))[0] == 202
    assert len(await telemetry.read()) == 11


async def test_spans_of_agents_without_sidecars_come_in_by_otlp_with_the_same_keys(
    gateway: Gateway, key: str, telemetry: Telemetry
) -> None:
    started = next(orjson.loads(line) for line in gateway.log.read_text().splitlines() if "gateway.started" in line)
    url = f"http://127.0.0.1:{started['otlp_port']}/v1/traces"
    span = {
        "traceId": "0af7651916cd43dd8448eb211c80319c", "spanId": "b7ad6b7169203331", "name": "chat gpt-4o-mini", "kind": 3,
        "startTimeUnixNano": "1795000000000000000", "endTimeUnixNano": "1795000001000000000",
        "attributes": [
            {"key": "gen_ai.operation.name", "value": {"stringValue": "chat"}},
            {"key": "gen_ai.provider.name", "value": {"stringValue": "openai"}},
            {"key": "gen_ai.request.model", "value": {"stringValue": "gpt-4o-mini"}},
            {"key": "gen_ai.usage.input_tokens", "value": {"intValue": "10"}},
            {"key": "gen_ai.usage.output_tokens", "value": {"intValue": "3"}},
        ],
    }  # fmt: skip
    named = [{"key": "service.name", "value": {"stringValue": "bot"}}]
    body = orjson.dumps({"resourceSpans": [{"resource": {"attributes": named}, "scopeSpans": [{"spans": [span]}]}]})
    async with gateway.http.post(url, data=body, headers=JSON) as response:
        assert response.status == 401
    async with gateway.http.post(url, data=body, headers=JSON | {"X-Api-Key": key}) as response:
        assert response.status == 200, await response.text()
    found = await telemetry.find("model_call.completed")
    assert (found["tenant"]["tenant_id"], found["run"]["agent_id"]) == ("acme", "bot")
