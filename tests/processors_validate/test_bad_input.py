"""Bad input ends in the dead letters with its reason; it never stops validate, and the good beside it gets through."""

import asyncio
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
from nats.aio.client import Client

from processors.validate.app import attach
from schemas.reading import read_event
from streams.dead_letters import original
from streams.embedded import EmbeddedServer
from streams.messages import CONTENT_TYPE, NDJSON
from streams.publish import publish
from tests.conftest import until
from tests.processors_validate.running import (
    accepted,
    adds_up,
    dead,
    drained,
    event,
    ids,
    messages,
    records,
    running,
    send,
    send_batch,
    subject_of,
)

RUN = "telemetry.acme.a1.run"


def text(**changes: Any) -> bytes:
    return orjson.dumps(event(**changes))


def attributes(raw: bytes) -> bytes:
    """A good event whose attributes hold ``raw`` JSON, whatever that is."""
    return orjson.dumps(event())[:-1] + b',"attributes":{"a":' + raw + b"}}"


BAD: dict[str, tuple[str, bytes, str]] = {
    "not JSON": (RUN, b"hello", "malformed_json"),
    "half an event": (RUN, text()[:60], "malformed_json"),
    "an empty message": (RUN, b"", "empty"),
    "blanks": (RUN, b" \n \n", "empty"),
    "an array": (RUN, b"[1,2]", "not_an_object"),
    "null": (RUN, b"null", "not_an_object"),
    "an unknown type": (RUN, text(event_type="run.exploded"), "contract_violation"),
    "an unknown version": (RUN, text(event_version="v9"), "unknown_version"),
    "no version": (RUN, text(event_version=None), "unknown_version"),
    "an unknown field": (RUN, text(colour="red"), "contract_violation"),
    "a field name of 900 kB": (RUN, text(**{"k" * 900_000: 1}), "contract_violation"),
    "a missing field": (RUN, text(occurred_at=None), "contract_violation"),
    "no error on a failure": (RUN, text(event_type="run.failed", error=None), "contract_violation"),
    "a wrong type": (RUN, text(occurred_at=12), "contract_violation"),
    "a time without zone": (RUN, text(occurred_at="2026-11-20T10:00:00"), "contract_violation"),
    "an invalid id": (RUN, text(event_id="seven"), "contract_violation"),
    "a tenant that is no token": (RUN, text(tenant={"tenant_id": "a.b"}), "contract_violation"),
    "another tenant": (RUN, text(tenant="globex"), "tenant_mismatch"),
    "another agent": (RUN, text(agent="a2"), "agent_mismatch"),
    "another kind": ("telemetry.acme.a1.step", text(), "kind_mismatch"),
    "a subject of three tokens": ("telemetry.acme.run", text(), "invalid_subject"),
    "a subject with an invalid tenant": ("telemetry.ac$me.a1.run", text(), "invalid_subject"),
    "a huge integer": (RUN, attributes(b"9" * 100), "contract_violation"),
    "an integer of 5,000 digits": (RUN, attributes(b"9" * 5000), "malformed_json"),
    "a float beyond all": (RUN, attributes(b"1e999"), "contract_violation"),
    "NaN": (RUN, attributes(b"NaN"), "contract_violation"),
    "Infinity": (RUN, attributes(b"-Infinity"), "contract_violation"),
    "huge tokens": (
        "telemetry.acme.a1.model_call",
        text(event_type="model_call.completed", resource_usage={"input_tokens": 10**15, "output_tokens": 1}),
        "contract_violation",
    ),
    "more cached than sent": (
        "telemetry.acme.a1.model_call",
        text(event_type="model_call.completed", resource_usage={"input_tokens": 1, "output_tokens": 1, "cache_read_tokens": 2}),
        "contract_violation",
    ),
    "100,000 brackets": (RUN, b"[" * 100_000, "malformed_json"),
    "100,000 nested attributes": (RUN, attributes(b"[" * 100_000 + b"]" * 100_000), "malformed_json"),
    "150 nested attributes": (RUN, attributes(b"[" * 150 + b"]" * 150), "contract_violation"),
    "a lone surrogate": (RUN, attributes(rb'"\ud800"'), "malformed_json"),
    "bytes that are not UTF-8": (RUN, attributes(b'"\xff\xfe"'), "malformed_json"),
    "a NUL byte": (RUN, attributes(b'"\x00"'), "nul_byte"),
    "an escaped NUL": (RUN, attributes(rb'"\u0000"'), "nul_byte"),
    "more than a megabyte": (RUN, b" " * 1_000_001, "too_large"),
    "1.9 MB that does not compress": (RUN, bytes(range(256)) * 7400, "too_large"),
}


async def test_every_kind_of_bad_event_ends_dead_with_its_reason_and_the_good_ones_between_get_through(
    server: EmbeddedServer, client: Client, tmp_path: Path
) -> None:
    good = [event() for _ in BAD]
    async with running(attach, server, tmp_path):
        for (subject, data, _), made in zip(BAD.values(), good, strict=True):
            await publish(client, subject, data)
            await send(client, made)
        await drained(client)
    letters = await dead(client)
    assert [letter.reason for letter in letters] == [reason for _, _, reason in BAD.values()]
    assert ids(await accepted(client)) == [made["event_id"] for made in good]
    for letter, (subject, data, _) in zip(letters, BAD.values(), strict=True):
        assert letter.source_subject == subject
        assert letter.errors
        # What nobody can read as an event may be anything, and this tenant's content is dropped.
        if letter.encoding != "omitted" and letter.privacy is None:
            assert original(letter) == data
    kept = {name for name, letter in zip(BAD, letters, strict=True) if letter.encoding != "omitted" and letter.privacy is None}
    assert {"not JSON", "a missing field", "an invalid id", "another agent", "a time without zone"} <= kept
    adds_up(await records(client))


async def test_a_dead_letter_says_which_field_was_wrong_and_never_crosses_into_another_tenant(
    server: EmbeddedServer, client: Client, tmp_path: Path
) -> None:
    async with running(attach, server, tmp_path):
        await publish(client, RUN, text(tenant="globex"))
        await publish(client, RUN, text(run={"agent_id": "a1", "run_id": 7}))
        await drained(client)
    first, second = await dead(client)
    assert (first.tenant_id, first.errors[0].loc, first.errors[0].value) == ("acme", "$.tenant.tenant_id", "globex")
    assert (second.errors[0].loc, second.errors[0].value) == ("$.run.run_id", "7")
    assert {m.subject for m in await messages(client, "EVENTS", "dead.>")} == {"dead.acme.run"}


async def _publish_raw(server: EmbeddedServer, *frames: bytes) -> None:
    """Bytes no client library would send."""
    assert server.credentials is not None
    reader, writer = await asyncio.open_connection("127.0.0.1", server.credentials.port)
    await reader.readline()
    login = {"user": "system", "pass": server.credentials.passwords["system"], "verbose": False, "headers": True}
    writer.write(b"CONNECT " + json.dumps(login).encode() + b"\r\n")
    for frame in frames:
        writer.write(frame)
    writer.write(b"PING\r\n")
    assert (await reader.readline()).startswith(b"PONG")
    writer.close()
    await writer.wait_closed()


async def test_subjects_that_are_not_text_and_headers_that_are_not_headers_do_not_stop_it(
    server: EmbeddedServer, client: Client, tmp_path: Path
) -> None:
    good, with_odd_headers = event(), event()
    data = orjson.dumps(with_odd_headers)
    async with running(attach, server, tmp_path):
        await _publish_raw(
            server,
            b"PUB telemetry.\xff\xfe.a1.run 1\r\n1\r\n",
            b"PUB telemetry.a\x00b.a1.run 1\r\n1\r\n",
            b"HPUB telemetry.acme.a1.run 7 %d\r\ngarbage%b\r\n" % (7 + len(data), data),
            b"HPUB telemetry.acme.a1.run 40 41\r\nNATS/1.0 404 No Messages\r\nA: \xff\xfebcdef\r\n\r\n1\r\n",
        )
        await send(client, good)
        await drained(client)
    assert [letter.reason for letter in await dead(client)] == ["invalid_subject", "invalid_subject", "not_an_object"]
    assert ids(await accepted(client)) == [with_odd_headers["event_id"], good["event_id"]]


async def test_ten_thousand_bad_events_in_a_row_change_nothing_for_the_next_good_one(
    server: EmbeddedServer, client: Client, tmp_path: Path
) -> None:
    js = client.jetstream()
    for number in range(10_000):
        await js.publish_async(RUN, b'{"number": %d}' % number)
    await js.publish_async_completed()
    good = event()
    await send(client, good)
    async with running(attach, server, tmp_path):
        await drained(client, 40)
    found = await records(client)
    adds_up(found)
    assert sum(record.dead for record in found) == 10_000
    assert ids(await accepted(client)) == [good["event_id"]]


async def test_a_batch_of_mostly_bad_events_becomes_one_letter_and_its_good_ones_get_through(
    server: EmbeddedServer, client: Client, tmp_path: Path
) -> None:
    good = [event(agent=f"a{n}") for n in range(3)]
    rows = [
        orjson.dumps(good[0]),
        *[b"{}"] * 300,
        orjson.dumps(good[1]),
        *[b'{"event_version":"v1"}'] * 300,
        orjson.dumps(good[2]),
    ]
    data = b"\n".join(rows)
    async with running(attach, server, tmp_path):
        await publish(client, "telemetry.acme.gateway.batch", data, headers={CONTENT_TYPE: NDJSON})
        await drained(client)
    (letter,) = await dead(client)
    assert (letter.events, original(letter), letter.kind) == (600, data, "batch")
    assert ids(await accepted(client)) == [made["event_id"] for made in good]
    adds_up(await records(client))


async def test_a_single_bad_line_of_a_batch_is_dead_alone(server: EmbeddedServer, client: Client, tmp_path: Path) -> None:
    good = [event(), event("model_call.completed", agent="a2")]
    async with running(attach, server, tmp_path):
        await send_batch(client, "acme", good[0], event(tenant="globex"), good[1])
        await drained(client)
    (letter,) = await dead(client)
    assert (letter.reason, letter.position, letter.kind) == ("tenant_mismatch", 1, "run")
    assert sorted(ids(await accepted(client))) == sorted(made["event_id"] for made in good)


async def test_several_objects_on_lines_are_a_batch_even_without_a_content_type(
    server: EmbeddedServer, client: Client, tmp_path: Path
) -> None:
    two, pretty = [event(), event()], event()
    async with running(attach, server, tmp_path):
        await publish(client, RUN, b"\n".join(map(orjson.dumps, two)) + b"\n")
        await publish(client, RUN, orjson.dumps(pretty, option=orjson.OPT_INDENT_2))
        await drained(client)
    assert await dead(client) == []
    assert ids(await accepted(client)) == [made["event_id"] for made in (*two, pretty)]


async def test_events_from_1970_and_2100_are_accepted_and_flagged(server: EmbeddedServer, client: Client, tmp_path: Path) -> None:
    now = datetime.now(UTC)
    times = ("1970-01-01T00:00:00Z", "2100-01-01T00:00:00Z", (now - timedelta(hours=2)).isoformat(), now.isoformat())
    async with running(attach, server, tmp_path):
        await send(client, *(event(occurred_at=at) for at in times))
        await drained(client)
    assert [one.ingest.flags for one in await accepted(client)] == [
        ("late", "beyond_duplicate_horizon", "from_the_past"), ("from_the_future",), ("late",), (),
    ]  # fmt: skip


async def test_an_event_of_the_older_contract_is_upcast(server: EmbeddedServer, client: Client, tmp_path: Path) -> None:
    usage = {"provider": "openai", "model": "gpt-4o", "input_tokens": 9, "output_tokens": 1, "cached_tokens": 4}
    old = event("model_call.completed", event_version="v0", model_call=None, resource_usage=usage)
    async with running(attach, server, tmp_path):
        await send(client, old)
        await drained(client)
    (one,) = await accepted(client)
    assert one.event_version == "v1"
    assert one.resource_usage is not None
    assert one.resource_usage.cache_read_tokens == 4


async def test_beyond_a_tenants_quota_only_the_hash_of_a_rejected_event_is_kept(
    server: EmbeddedServer, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENTOPS_VALIDATE_DEAD_BYTES_PER_TENANT_HOUR", "150")
    async with running(attach, server, tmp_path):
        for tenant in ("acme", "acme", "acme", "globex"):
            await publish(client, f"telemetry.{tenant}.a1.run", b"x" * 60)
        await drained(client)
    letters = await dead(client)
    assert [letter.encoding for letter in letters] == ["base64", "base64", "omitted", "base64"]
    assert len({letter.original_sha256 for letter in letters}) == 1


async def test_a_surprise_while_judging_one_message_costs_that_message_alone(
    server: EmbeddedServer, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = event()

    def surprising(raw: bytes) -> Any:
        if b"surprise" in raw:
            raise RecursionError("deeper than anyone thought")
        return read_event(raw)

    monkeypatch.setattr("processors.validate.judging.read_event", surprising)
    async with running(attach, server, tmp_path) as supervised:
        await publish(client, RUN, b"surprise")
        await send(client, good)
        await drained(client)
        assert supervised.waiting_for() == {}
    (letter,) = await dead(client)
    assert (letter.reason, original(letter)) == ("internal_error", b"surprise")
    assert "RecursionError" in letter.errors[0].msg
    assert ids(await accepted(client)) == [good["event_id"]]


async def test_a_message_is_gone_from_telemetry_only_once_it_is_covered(
    server: EmbeddedServer, client: Client, tmp_path: Path
) -> None:
    made = event()
    await send(client, made)
    assert subject_of(made) == RUN
    assert (await client.jsm().stream_info("TELEMETRY")).state.messages == 1
    async with running(attach, server, tmp_path):
        await drained(client)

        async def covered() -> bool:
            return (await records(client))[-1].last_sequence == 1

        await until(covered, "covered")
