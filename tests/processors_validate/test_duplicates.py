"""Every event stands in EVENTS once, however often and however late it comes again."""

from pathlib import Path
from shutil import rmtree

import orjson
import pytest
from nats.aio.client import Client

from processors.duplicates.rocks import open_store
from processors.validate.app import attach
from service.instruments import LOOP_ERRORS
from streams.embedded import EmbeddedServer
from streams.publish import publish
from tests.processors_validate.running import (
    accepted,
    adds_up,
    dead,
    drained,
    event,
    ids,
    records,
    running,
    send,
    send_batch,
    subject_of,
)

INDEX = Path("index") / "validate-0"


async def test_the_same_event_again_is_counted_and_dropped(server: EmbeddedServer, client: Client, tmp_path: Path) -> None:
    made = event()
    async with running(attach, server, tmp_path):
        await send(client, made)
        await drained(client)
        await send(client, made, made)
        await drained(client)
    assert ids(await accepted(client)) == [made["event_id"]]
    found = await records(client)
    adds_up(found)
    assert sum(record.duplicates for record in found) == 2
    assert await dead(client) == []


async def test_duplicates_within_one_fetch_and_one_message_are_dropped(
    server: EmbeddedServer, client: Client, tmp_path: Path
) -> None:
    made, other = event(), event()
    await send_batch(client, "acme", made, other, made)
    await send(client, made)
    async with running(attach, server, tmp_path):
        await drained(client)
    assert ids(await accepted(client)) == [made["event_id"], other["event_id"]]
    assert sum(record.duplicates for record in await records(client)) == 2


async def test_the_same_id_saying_something_else_is_dead(server: EmbeddedServer, client: Client, tmp_path: Path) -> None:
    made = event()
    async with running(attach, server, tmp_path):
        await send(client, made)
        await drained(client)
        await send(client, made | {"attributes": {"changed": True}})
        await send_batch(client, "acme", made | {"attributes": {"changed": 2}})
        await drained(client)
    assert ids(await accepted(client)) == [made["event_id"]]
    assert [letter.reason for letter in await dead(client)] == ["conflicting_duplicate"] * 2
    assert {letter.event_id for letter in await dead(client)} == {made["event_id"]}


async def test_another_order_of_names_and_another_spelling_of_the_moment_are_the_same_event(
    server: EmbeddedServer, client: Client, tmp_path: Path
) -> None:
    made = event(occurred_at="2026-11-20T10:00:00+00:00", attributes={"a": 1, "b": {"x": None, "y": 2.0}})
    again = dict(reversed(made.items())) | {
        "occurred_at": "2026-11-20T11:00:00.000+01:00", "attributes": {"b": {"y": 2.0, "x": None}, "a": 1},
    }  # fmt: skip
    async with running(attach, server, tmp_path):
        await send(client, made)
        await publish(client, subject_of(made), orjson.dumps(again, option=orjson.OPT_INDENT_2))
        await drained(client)
    assert (len(await accepted(client)), await dead(client)) == (1, [])


async def test_two_tenants_may_use_the_same_id(server: EmbeddedServer, client: Client, tmp_path: Path) -> None:
    made = event()
    async with running(attach, server, tmp_path):
        await send(client, made, made | {"tenant": {"tenant_id": "globex"}})
        await drained(client)
    assert [one.tenant.tenant_id for one in await accepted(client)] == ["acme", "globex"]


@pytest.mark.parametrize("what", ["kept", "deleted", "torn", "rotten", "emptied", "of another server"])
async def test_a_late_duplicate_is_recognised_after_a_restart_with_the_index(
    server: EmbeddedServer, client: Client, tmp_path: Path, what: str
) -> None:
    """The index is derived: whatever happens to the file, EVENTS gives it back."""
    flagged = event(occurred_at="1990-01-01T00:00:00Z", attributes={"text": ',"ingest":{"x":1}'})
    made = [event(), event("model_call.completed", agent="a2"), flagged]
    async with running(attach, server, tmp_path):
        await send(client, *made)
        await drained(client)
    path = tmp_path / INDEX
    rows = list(path.glob("*.sst"))
    assert rows
    match what:
        case "deleted":
            rmtree(path)
        case "torn":
            for file in rows:
                file.write_bytes(file.read_bytes()[:-40])
        case "rotten":
            for file in rows:
                file.write_bytes(
                    b"\x00garbage" * (file.stat().st_size // 8) + file.read_bytes()[-(file.stat().st_size % 8) or -8 :]
                )
        case "emptied":
            for file in path.iterdir():
                file.write_bytes(b"")
        case "of another server":
            store = open_store(path)
            store[b"stream"] = b"elsewhere"
            store.close()
    async with running(attach, server, tmp_path):
        await send(client, *made, made[0] | {"attributes": {"changed": True}})
        await drained(client)
    assert len(await accepted(client)) == 3
    assert [letter.reason for letter in await dead(client)] == ["conflicting_duplicate"]
    assert sum(record.duplicates for record in await records(client)) == 3


async def test_the_index_going_bad_under_it_is_noticed_and_built_again(
    server: EmbeddedServer, client: Client, tmp_path: Path
) -> None:
    made = [event() for _ in range(2000)]
    async with running(attach, server, tmp_path):
        await send_batch(client, "acme", *made)
        await drained(client)
    path, failures = tmp_path / INDEX, LOOP_ERRORS.labels("validate.index")
    before = failures._value.get()
    async with running(attach, server, tmp_path):
        for file in path.glob("*.sst"):
            with file.open("r+b") as opened:
                opened.write(b"\xff" * (file.stat().st_size - 8000))
        await send_batch(client, "acme", *made, event())
        await drained(client)
    assert failures._value.get() > before
    assert len(await accepted(client)) == 2001


async def test_a_second_process_on_the_same_directory_waits_for_nobody_and_knows_every_duplicate(
    server: EmbeddedServer, client: Client, tmp_path: Path
) -> None:
    """The first may hang for ever with its index open."""
    made = [event() for _ in range(3)]
    async with running(attach, server, tmp_path):
        await send(client, *made)
        await drained(client)
    store = open_store(tmp_path / INDEX)
    async with running(attach, server, tmp_path, "second"):
        await send(client, *made)
        await drained(client)
    store.close()
    assert len(await accepted(client)) == 3
    assert (tmp_path / f"{INDEX}.1").exists()
