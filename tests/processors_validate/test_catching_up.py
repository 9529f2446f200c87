"""The index is derived: EVENTS alone is enough to have it back, and it says how far it is."""

from pathlib import Path

import orjson
from nats.aio.client import Client

from processors.duplicates.index import DuplicateIndex
from processors.validate.app import attach
from processors.validate.catching_up import catch_up, newest_event
from schemas.ids import event_key
from streams import subjects
from streams.embedded import EmbeddedServer
from streams.messages import EVENT_COUNT
from streams.publish import publish
from tests.processors_validate.running import drained, event, running, send_batch


async def test_what_validate_indexed_while_running_is_what_events_gives_back(
    server: EmbeddedServer, client: Client, tmp_path: Path
) -> None:
    made = [event(agent=f"a{number}", tenant=("acme", "globex")[number % 2], attributes={"n": number}) for number in range(300)]
    async with running(attach, server, tmp_path):
        for tenant in ("acme", "globex"):
            await send_batch(client, tenant, *(one for one in made if one["tenant"]["tenant_id"] == tenant))
        await drained(client)
    keys = [event_key(one["tenant"]["tenant_id"], one["event_id"]) for one in made]
    kept = DuplicateIndex(tmp_path / "index" / "validate-0")
    kept.open(str((await client.jsm().stream_info("EVENTS")).created))
    told: list[str] = []
    rebuilt = DuplicateIndex(tmp_path / "rebuilt")
    rebuilt.open("anything")
    assert await catch_up(client, rebuilt, told.append) > 0
    assert rebuilt.applied == await newest_event(client)
    assert len(rebuilt.known(keys)) == 300
    assert rebuilt.known(keys) == kept.known(keys)
    assert told[0].startswith("catching up with EVENTS: at 0 of ")
    kept.close()
    rebuilt.close()


async def test_a_message_that_cannot_be_read_and_an_event_written_otherwise_do_not_stop_it(
    client: Client, tmp_path: Path
) -> None:
    before, otherwise, after = event(), event(), event()
    headers = {EVENT_COUNT: "1"}
    await publish(client, subjects.events("acme", "run"), orjson.dumps(before), headers=headers)
    await publish(client, subjects.events("acme", "run"), b"not JSON\n[1]", headers=headers)
    await publish(client, subjects.events("acme", "run"), orjson.dumps(otherwise, option=orjson.OPT_SORT_KEYS), headers=headers)
    await publish(client, subjects.events("acme", "run"), orjson.dumps(after), headers=headers)
    index = DuplicateIndex(tmp_path / "index")
    index.open("anything")
    assert await catch_up(client, index, lambda _: None) == 4
    assert len(index.known([event_key("acme", one["event_id"]) for one in (before, otherwise, after)])) == 3
    assert await catch_up(client, index, lambda _: None) == 0
    index.close()
