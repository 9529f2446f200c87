"""Content at the sidecar: what its tenant's policy does not let pass is on no disk and goes nowhere, from the first moment on."""

from pathlib import Path
from typing import Any

import aiohttp
import orjson
from nats.aio.client import Client

from processors.aggregate.app import attach as attach_aggregate
from processors.validate.app import attach as attach_validate
from schemas.content import ContentPolicy
from streams import topology
from streams.embedded import EmbeddedServer
from streams.kv import TypedBucket
from streams.large_content import fetch
from streams.publish import publish
from tests.conftest import until
from tests.events import event
from tests.processors_validate.running import accepted, drained, running
from tests.sidecar.running import Sidecar, Telemetry

PROMPT = "Draft a letter about the Zanzibar acquisition"
MAIL = "jane.doe@example.com"
KEY = "sk-" + "proj-" + "Ab3dEf6hIj9lMn2pQr5t"
CARD = "4111 1111 1111 1111"


def call(**changes: Any) -> dict[str, Any]:
    attributes = {
        "gen_ai.input.messages": [{"role": "user", "content": f"{PROMPT} for {MAIL}"}],
        "note": f"{MAIL} paid with {CARD}",
        "key": KEY,
    }
    return event("model_call.completed", agent="a1", attributes=attributes) | changes


def failed() -> dict[str, Any]:
    return event("run.failed", agent="a1", error={"type": "Refused", "message": f"{MAIL} may not use {KEY}"})


def holding(directory: Path, *secrets: str) -> list[str]:
    """Every file below ``directory`` that holds one of them."""
    found = []
    for path in directory.rglob("*"):
        try:
            data = path.read_bytes() if path.is_file() else b""
        except OSError:
            continue
        found += [f"{path.relative_to(directory)}: {secret}" for secret in secrets if secret.encode() in data]
    return found


async def set_policy(client: Client, **fields: Any) -> None:
    bucket = await TypedBucket.open(client, topology.CONTENT, ContentPolicy)
    await bucket.put("acme", ContentPolicy(tenant_id="acme", **fields))


async def test_a_secret_stands_nowhere_between_the_door_and_the_warehouse(
    sidecar: Sidecar, client: Client, server: EmbeddedServer, tmp_path: Path
) -> None:
    """The spool, JetStream's files, logs, the index, the warehouse: all of them looked through, byte by byte."""
    await sidecar.start("--url", "http://127.0.0.1:1")
    async with running(attach_validate, server, tmp_path / "validate"), running(attach_aggregate, server, tmp_path / "warehouse"):
        sent = [call(), failed()]
        assert await sidecar.post(*sent) == 202
        assert await sidecar.post({**call(), "occurred_at": f"{MAIL} {KEY}"}) == 400
        ids = {one["event_id"] for one in sent}

        async def stored() -> bool:
            return ids <= {str(one.event_id) for one in await accepted(client)}

        await until(stored, "both events are stored", 20)
        await drained(client)
    await sidecar.stop()
    by_id = {str(one.event_id): one for one in await accepted(client)}
    assert by_id[sent[0]["event_id"]].attributes["agentops.content"] == "off"
    assert by_id[sent[0]["event_id"]].attributes["note"] == "[EMAIL] paid with [CARD]"
    error = by_id[sent[1]["event_id"]].error
    assert error is not None
    assert error.message == "[EMAIL] may not use [KEY]"
    for place in (tmp_path, sidecar.directory, server.directory):
        assert holding(place, PROMPT, MAIL, KEY, CARD, "4111111111111111") == []


async def test_a_sidecar_follows_its_tenants_policy_and_remembers_it_while_nats_is_away(sidecar: Sidecar, client: Client) -> None:
    await set_policy(client, mode="redacted")
    await sidecar.start("--url", "http://127.0.0.1:1")
    telemetry = Telemetry(client)

    async def last() -> Any:
        sent = call()
        assert await sidecar.post(sent) == 202
        found: list[dict[str, Any]] = []

        async def there() -> bool:
            found[:] = [one for one in await telemetry.read() if one["event_id"] == sent["event_id"]]
            return bool(found)

        await until(there, "the event arrives", 10)
        return found[0]["attributes"].get("gen_ai.input.messages")

    async def redacted() -> bool:
        return bool(await last() == [{"role": "user", "content": f"{PROMPT} for [EMAIL]"}])

    await until(redacted, "the policy is followed", 15)
    await sidecar.stop()
    await sidecar.start("--url", "http://127.0.0.1:1", NATS_URL="nats://127.0.0.1:1")
    assert await sidecar.post(call()) == 202
    spool = sidecar.data / "spool" / "a1"
    assert holding(spool, PROMPT), "content is kept, as its tenant wishes"
    assert holding(spool, MAIL, KEY, CARD) == []


async def test_a_sidecar_that_never_heard_of_a_policy_drops_content(sidecar: Sidecar) -> None:
    await sidecar.start("--url", "http://127.0.0.1:1", NATS_URL="nats://127.0.0.1:1")
    assert await sidecar.post(call(), failed()) == 202
    spool = sidecar.data / "spool" / "a1"
    assert holding(spool, "agentops.content")
    assert holding(sidecar.directory / "data", PROMPT, MAIL, KEY, CARD) == []


async def test_a_name_given_twice_hides_nothing(sidecar: Sidecar) -> None:
    await sidecar.start("--url", "http://127.0.0.1:1", NATS_URL="nats://127.0.0.1:1")
    twice = orjson.dumps(call()).replace(
        b'"attributes":{', b'"attributes":{"gen_ai.prompt":"%s","note":"%s","note":"x",' % (PROMPT.encode(), MAIL.encode())
    )
    async with (
        aiohttp.ClientSession() as http,
        http.post(f"{sidecar.door}/v1/events", data=twice, headers={"Content-Type": "application/json"}) as response,
    ):
        assert response.status == 202
    assert holding(sidecar.directory / "data", PROMPT, MAIL, KEY) == []


async def test_who_decided_is_looked_through_in_the_older_contract_too(sidecar: Sidecar) -> None:
    await sidecar.start("--url", "http://127.0.0.1:1", NATS_URL="nats://127.0.0.1:1")
    actor = {"actor_id": "u-1", "mail": MAIL, "session": KEY, "gen_ai.prompt": PROMPT}
    made = event(
        "policy.decision", agent="a1", event_version="v0", policy={"policy_id": "p1", "decision": "block", "actor": actor}
    )
    assert await sidecar.post(made) == 202
    data = sidecar.directory / "data"
    assert holding(data, '"actor_id":"u-1"')
    assert holding(data, PROMPT, MAIL, KEY) == []


async def test_large_content_is_kept_beside_its_event_and_fetched_by_its_reference(
    sidecar: Sidecar, client: Client, server: EmbeddedServer, tmp_path: Path
) -> None:
    await set_policy(client, mode="redacted")
    prompt = f"{MAIL}: " + "all of this is part of the prompt. " * 2_000
    await sidecar.start("--url", "http://127.0.0.1:1")
    async with running(attach_validate, server, tmp_path):
        reference: list[str] = []

        async def referred() -> bool:
            sent = event("model_call.completed", agent="a1", attributes={"gen_ai.prompt": prompt})
            assert await sidecar.post(sent) == 202

            async def there() -> bool:
                return sent["event_id"] in {str(one.event_id) for one in await accepted(client)}

            await until(there, "the event is stored", 10)
            text = next(one for one in await accepted(client) if str(one.event_id) == sent["event_id"]).attributes.get(
                "gen_ai.prompt"
            )
            assert text is None or len(str(text)) < 2_000
            reference[:] = str(text).rsplit("agentops-content:", 1)[1:]
            return bool(reference)

        await until(referred, "the policy is followed and the event refers to its prompt", 20)
    assert await fetch(client, reference[0].rstrip("]")) == prompt.replace(MAIL, "[EMAIL]")


async def test_where_the_object_store_is_full_content_is_cut_and_promises_nothing(
    client: Client, server: EmbeddedServer, tmp_path: Path
) -> None:
    config = (await client.jsm().stream_info("OBJ_content")).config
    config.max_bytes = 2_000
    await client.jsm().update_stream(config)
    await set_policy(client, mode="redacted")
    made = event("model_call.completed", agent="a1", attributes={"gen_ai.prompt": "word " * 10_000})
    async with running(attach_validate, server, tmp_path):
        await publish(client, "telemetry.acme.a1.model_call", orjson.dumps(made))
        await drained(client, 30)
    (one,) = await accepted(client)
    text = str(one.attributes["gen_ai.prompt"])
    assert text.endswith("… [TRUNCATED 50,000 characters]")
    assert "agentops-content:" not in text
