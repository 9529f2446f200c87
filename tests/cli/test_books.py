"""``audit``, ``snapshot`` and ``replay`` as a person types them, beside a running aggregate."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from nats.aio.client import Client

from agent_manager.cli.auditing import Asked, scope
from agent_manager.cli.failure import CommandFailedError
from streams import topology
from streams.embedded import EmbeddedServer
from tests.cli.calling import agentops, operator
from tests.processors_aggregate.conftest import Running
from tests.processors_aggregate.wire import Wire, accepted, charge


@pytest.fixture
async def lived(server: EmbeddedServer, client: Client, tmp_path: Path) -> AsyncIterator[Running]:
    """An aggregate with two tenants' calls."""
    made, wire = Running(server, tmp_path / "data", client), Wire(client)
    await made.start()
    for tenant in ("acme", "umbra"):
        calls = [accepted("model_call.completed", tenant=tenant) for _ in range(3)]
        await wire.events(*calls, accepted("run.started", tenant=tenant))
        await wire.ledger(*map(charge, calls))
    await made.caught_up()
    yield made
    await made.stop()


async def test_an_audit_says_what_was_checked_and_what_each_tenant_has(server: EmbeddedServer, lived: Running) -> None:
    login = operator(server)
    said = await agentops("audit", "--last", "1h", variables=login)
    assert said.code == 0, said.err
    assert "2 coverage records of validate follow each other without a gap" in said.out
    assert "the accounts agree: nothing is missing, nothing was counted twice" in said.out
    assert [line.split() for line in said.out.splitlines() if line.startswith("umbra")] == [
        ["umbra", "4", "0", "3", "0", "0", "$0.003703701", "–"]
    ]
    told = (await agentops("audit", "--tenant", "acme", "--json", variables=login)).json()
    assert told["ok"]
    assert list(told["tenants"]) == ["acme"]


async def test_an_audit_that_fails_says_where_and_what_to_do(server: EmbeddedServer, lived: Running, client: Client) -> None:
    await client.jsm().delete_msg(topology.EVENTS, 2)
    said = await agentops("audit", "--stream", "events", "--from", "1", "--until", "4", variables=operator(server))
    told = said.failed()
    assert "message 2 of EVENTS is gone: purged or deleted by hand (events.acme." in said.out
    assert "the accounts do not agree: 1 error" in told
    assert "keep a snapshot" in told


async def test_a_snapshot_is_written_listed_and_replayed_from(
    server: EmbeddedServer, lived: Running, client: Client, tmp_path: Path
) -> None:
    login, data = operator(server), str(lived.context.data_directory)
    written = await agentops("snapshot", "export", "first", "--data", data, variables=login)
    assert written.code == 0, written.err
    assert str(lived.context.data_directory / "snapshots" / "first.duckdb") in written.out
    again = await agentops("snapshot", "export", "first", "--data", data, variables=login)
    assert "exists already" in again.failed()
    elsewhere = await agentops("snapshot", "export", str(tmp_path / "copy.duckdb"), "--json", variables=login)
    assert elsewhere.json()["offsets"]["EVENTS"] == (await client.jsm().stream_info(topology.EVENTS)).state.last_seq
    assert (tmp_path / "copy.duckdb").exists()
    listed = (await agentops("snapshot", "list", "--data", data, "--json", variables=login)).json()
    assert [one["name"] for one in listed] == ["first"]
    await client.jsm().purge_stream(topology.EVENTS, seq=3)
    refused = await agentops("replay", "--into", str(tmp_path / "built.duckdb"), "--data", data, variables=login)
    assert "EVENTS begins at 3: 2 messages before that have aged out or were purged" in refused.failed()
    assert "--snapshot FILE" in refused.err
    built = await agentops(
        "replay", "--into", str(tmp_path / "built.duckdb"), "--snapshot", "first", "--data", data, variables=login
    )
    assert built.code == 0, built.err
    assert "to use it: stop the system" in built.out
    assert (tmp_path / "built.duckdb").exists()


async def test_what_cannot_be_is_said_before_anything_is_done(server: EmbeddedServer, tmp_path: Path) -> None:
    login = operator(server)
    (tmp_path / "mine").write_text("mine")
    assert "exists already" in (await agentops("replay", "--into", str(tmp_path / "mine"), variables=login)).failed()
    assert "is a directory" in (await agentops("replay", "--into", str(tmp_path), variables=login)).failed()
    none = await agentops("replay", "--into", str(tmp_path / "new"), "--snapshot", "none", variables=login)
    assert "there is no snapshot none" in none.failed()
    nobody = await agentops("snapshot", "export", variables=login)
    assert "Start the aggregate" in nobody.failed()
    assert "is no name for a snapshot" in (await agentops("snapshot", "export", "wrong name", variables=login)).failed()
    assert "the warehouse does not answer yet" in (await agentops("audit", variables=login)).failed()


NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        (Asked(begin="7"), "each stream counts its own"),
        (Asked(last="1h", begin="2h"), "--last is a range already"),
        (Asked(last="soon"), "'soon' is not a duration"),
        (Asked(begin="yesterday-ish"), "is not a time"),
        (Asked(streams=("TELEMETRY",)), "'TELEMETRY' is not audited"),
        (Asked(stages=("pay",)), "'pay' is no stage"),
        (Asked(begin="9", end="3", streams=("EVENTS",)), "no range of sequences"),
    ],
)
def test_options_that_do_not_go_together_are_refused(asked: Asked, says: str) -> None:
    with pytest.raises(CommandFailedError, match=says):
        scope(asked, NOW)


def test_options_become_a_scope() -> None:
    found = scope(Asked(begin="7", end="9", streams=("events",)), NOW)
    assert (found.sequences, found.streams) == ({"EVENTS": (7, 9)}, ("EVENTS",))
    assert scope(Asked(tenant="acme"), NOW).stages == ("aggregate", "billing")
    assert scope(Asked(last="1h30m"), NOW).since == datetime(2026, 11, 20, 10, 30, tzinfo=UTC)
