"""A warehouse built from the streams is the live one, table by table; from a snapshot too, where the head of a stream is gone."""

import asyncio
import json
import os
import signal
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import duckdb
import pytest
from nats.aio.client import Client

from processors.aggregate.partial import BeingWrittenError, FileExistsAlreadyError, PartialFile
from processors.aggregate.replaying import Extent, Impossible, Read, decide, go_on
from processors.aggregate.warehouse import Offset
from schemas.alerts import AlertChange
from schemas.events import REQUIRED
from schemas.snapshots import SnapshotInfo, SnapshotProgress, SnapshotRequest
from streams import subjects, topology
from streams.dead_letters import bury
from streams.embedded import EmbeddedServer
from streams.messages import Received
from tests.conftest import until
from tests.processors_aggregate.conftest import Running
from tests.processors_aggregate.test_auditing_ranges import correct, correction
from tests.processors_aggregate.wire import Wire, accepted, charge, micro

LEFT_OUT: Final = {
    "applied_messages": "applied_at",  # when this warehouse applied the message, not the stream's doing
    "offsets": "applied_at",
    "schema_migrations": "applied_at",  # when this file was made
}
ROUNDED: Final = {"rollups_hour": "latency_sum_ms", "rollups_day": "latency_sum_ms"}
"""Sums of binary floats differ in the last bits by the order of addition."""


def tables(path: Path) -> dict[str, list[tuple[Any, ...]]]:
    """All rows of all tables, in an order of their own."""
    with duckdb.connect(str(path), read_only=True) as connection:
        names = [row[0] for row in connection.execute("SELECT table_name FROM duckdb_tables() ORDER BY table_name").fetchall()]
        found = {}
        for name in names:
            left_out = f"EXCLUDE ({LEFT_OUT[name]})" if name in LEFT_OUT else ""
            rounded = f"REPLACE (round({ROUNDED[name]}, 3) AS {ROUNDED[name]})" if name in ROUNDED else ""
            found[name] = connection.execute(f"SELECT * {left_out} {rounded} FROM {name} ORDER BY ALL").fetchall()
        return found


@dataclass(frozen=True)
class Said:
    """What a replay told."""

    code: int
    lines: list[dict[str, Any]]

    @property
    def last(self) -> dict[str, Any]:
        return self.lines[-1]


async def begin(server: EmbeddedServer, into: Path, *more: str, **environment: str) -> asyncio.subprocess.Process:
    nats = server.settings()
    assert nats.password is not None
    variables = os.environ | {
        "NATS_URL": nats.url,
        "NATS_USER": str(nats.user),
        "NATS_PASSWORD": nats.password.get_secret_value(),
    }
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "processors.aggregate.replay", "--into", str(into), *more, stdout=asyncio.subprocess.PIPE,
        env=variables | environment,
    )  # fmt: skip


async def replay(server: EmbeddedServer, into: Path, *more: str) -> Said:
    process = await begin(server, into, *more)
    out, _ = await process.communicate()
    assert process.returncode is not None
    return Said(process.returncode, [json.loads(line) for line in out.splitlines()])


async def snapshot(client: Client, name: str) -> SnapshotInfo:
    inbox = client.new_inbox()
    answers = await client.subscribe(inbox)
    await client.publish(subjects.WAREHOUSE_SNAPSHOT, SnapshotRequest(name=name).model_dump_json().encode(), reply=inbox)
    while True:
        told = SnapshotProgress.model_validate_json((await answers.next_msg(timeout=20)).data)
        assert told.state != "failed", told.message
        if told.snapshot is not None:
            return told.snapshot


async def more(wire: Wire, client: Client, number: int = 1) -> None:
    """A bit of everything: all kinds, late and odd times, dead letters, charges, corrections, alerts, an unreadable line."""
    for _ in range(number):
        calls = [accepted("model_call.completed", at=datetime.now(UTC) - timedelta(minutes=n)) for n in range(4)]
        events = [accepted(kind) for kind in REQUIRED]
        late = [
            accepted("step.completed", at=datetime(1970, 1, 2, tzinfo=UTC), flags=["late", "from_the_past"]),
            accepted("run.completed", at=datetime.now(UTC) - timedelta(days=3), flags=["late"], attributes={"team": "x", "n": 3}),
        ]
        source = Received("telemetry.acme.a.run", b"{", 7, 1, 1_700_000_000_000_000_000, 0, "")
        letter = bury(source, "TELEMETRY", b"{", processor="validate", reason="malformed_json", tenant="acme", kind="run")
        await wire.events(*calls, *events, *late, dead=[letter])
        priced = [one for one in (*calls, *events) if one.event_type == "model_call.completed"]
        entries = [charge(call, f"0.{number:09d}") for number, call in enumerate(priced, 1)]
        await wire.ledger(*entries)
        first = entries[0]
        await correct(
            client, correction(first, "reversal", f"-{first.cost_usd}"), correction(first, "adjustment", "123.456789123")
        )
        for state in ("firing", "resolved"):
            await wire.alert(
                AlertChange(
                    change_id=f"{first.entry_id}-{state}", alert_id=first.entry_id, rule="spend", severity="critical", state=state,
                    tenant_id="acme", metric="cost", value=1.5, started_at=first.occurred_at, at=datetime.now(UTC), summary="s",
                    labels={"team": "x", "it's": "y"},
                )
            )  # fmt: skip


@pytest.fixture
async def lived(running: Running, wire: Wire, client: Client) -> Running:
    """A warehouse that was filled while it lived: in several transactions, across a restart, folded in between."""
    await more(wire, client, 2)
    await running.caught_up()
    assert running.processor._warehouse is not None
    await running.processor._in_thread(running.processor._warehouse.fold)
    out = micro(
        subjects.events("acme", "run"),
        [b'{"event_id": "none"}', accepted("run.started").model_dump_json(exclude_none=True).encode()],
    )
    await client.jetstream().publish(out.subject, out.data, headers=dict(out.headers))
    await running.caught_up()
    await running.stop()
    await running.start()
    await more(wire, client, 2)
    await running.caught_up()
    return running


async def at_rest(running: Running) -> dict[str, list[tuple[Any, ...]]]:
    """The live warehouse's tables, with everything folded and the file closed."""
    await running.caught_up()
    assert running.processor._warehouse is not None
    await running.processor._in_thread(running.processor._warehouse.fold)
    await running.stop()
    found = tables(running.file)
    await running.start()
    return found


def same(live: dict[str, list[tuple[Any, ...]]], built: dict[str, list[tuple[Any, ...]]]) -> None:
    assert built.keys() == live.keys()
    for name, rows in live.items():
        assert built[name] == rows, name


async def test_a_replayed_warehouse_equals_the_live_one_table_by_table(
    server: EmbeddedServer, lived: Running, tmp_path: Path
) -> None:
    into = tmp_path / "new" / "built.duckdb"
    said = await replay(server, into)
    assert said.code == 0, said.lines
    live = await at_rest(lived)
    same(live, tables(into))
    filled = {name for name, rows in live.items() if rows}
    assert filled >= {
        "runs", "steps", "model_calls", "ledger", "alert_changes", "dead_letters", "coverage", "event_attributes", "rollups_hour",
        "rollups_day", "agents_hour", "agents_day", "agents_seen", "applied_messages", "offsets",
    }  # fmt: skip
    assert said.last["state"] == "done"
    assert said.last["messages"] == said.last["of"] > 0
    assert said.last["unreadable"] == 1
    assert said.last["events"] == sum(row[3] for row in live["applied_messages"])
    assert list(into.parent.iterdir()) == [into]


async def test_a_snapshot_and_the_rest_equal_the_live_one_where_the_head_is_gone(
    server: EmbeddedServer, lived: Running, client: Client, wire: Wire, tmp_path: Path
) -> None:
    taken = await snapshot(client, "before")
    assert Path(taken.path) == (lived.context.data_directory / "snapshots" / "before.duckdb").resolve()
    await more(wire, client)
    await client.jsm().purge_stream(topology.EVENTS, seq=taken.offsets["EVENTS"] + 1)
    into = tmp_path / "built.duckdb"
    refused = await replay(server, into)
    assert refused.code == 1
    assert refused.last["state"] == "failed"
    assert f"EVENTS begins at {taken.offsets['EVENTS'] + 1:,}" in refused.last["message"]
    assert "--snapshot FILE" in refused.last["advice"]
    assert not into.exists()
    said = await replay(server, into, "--snapshot", taken.path)
    assert said.code == 0, said.lines
    same(await at_rest(lived), tables(into))
    rest = await replay(server, tmp_path / "rest.duckdb", "--without-head")
    assert rest.code == 0
    assert any("are left out" in line.get("message", "") for line in rest.lines)
    assert len(tables(tmp_path / "rest.duckdb")["runs"]) < len(tables(into)["runs"])


async def test_a_snapshot_older_than_the_head_is_not_enough(
    server: EmbeddedServer, lived: Running, client: Client, wire: Wire, tmp_path: Path
) -> None:
    taken = await snapshot(client, "old")
    await more(wire, client)
    await client.jsm().purge_stream(topology.EVENTS, seq=taken.offsets["EVENTS"] + 3)
    said = await replay(server, tmp_path / "built.duckdb", "--snapshot", taken.path)
    assert said.code == 1
    assert "2 messages before that have aged out or were purged, and the snapshot ends at" in said.last["message"]
    assert "Take a newer snapshot" in said.last["advice"]


async def test_a_part_can_be_built(server: EmbeddedServer, running: Running, wire: Wire, client: Client, tmp_path: Path) -> None:
    await wire.events(accepted("run.started"))
    since = datetime.now(UTC)
    await wire.events(accepted("step.completed"), accepted("step.completed"))
    end = datetime.now(UTC)
    await wire.events(accepted("tool_call.completed"))
    said = await replay(server, tmp_path / "part.duckdb", "--from", since.isoformat(), "--until", end.isoformat())
    assert said.code == 0, said.lines
    found = tables(tmp_path / "part.duckdb")
    assert [len(found[name]) for name in ("runs", "steps", "tool_calls")] == [0, 2, 0]


async def test_a_file_that_exists_is_left_alone(server: EmbeddedServer, running: Running, tmp_path: Path) -> None:
    into = tmp_path / "mine.txt"
    into.write_text("mine")
    said = await replay(server, into)
    assert (said.code, said.last["state"]) == (1, "failed")
    assert "exists already: name another file" in said.last["message"]
    assert into.read_text() == "mine"


async def test_a_warehouse_in_use_is_no_snapshot(server: EmbeddedServer, lived: Running, tmp_path: Path) -> None:
    said = await replay(server, tmp_path / "built.duckdb", "--snapshot", str(lived.file))
    assert said.code == 1
    assert "agentops snapshot export" in said.last["advice"]
    assert list(tmp_path.glob("built*")) == []


async def killed_midway(server: EmbeddedServer, into: Path, messages: int, *more: str) -> int:
    """A replay killed without warning once it has read so many messages; returns how many there were to read."""
    for _ in range(10):
        process = await begin(server, into, *more, AGENTOPS_AGGREGATE_BATCH_EVENTS="1")
        assert process.stdout is not None
        line: dict[str, Any] = {"messages": 0}
        while line["messages"] < messages:
            line = {"messages": 0} | json.loads(await process.stdout.readline())
        process.send_signal(signal.SIGKILL)
        await process.wait()
        if not into.exists():
            break
        # This process slept while that one came to its end.
        into.unlink()
    assert not into.exists()
    assert into.with_name(f"{into.name}.partial").exists()
    total = line["of"]
    assert isinstance(total, int)
    return total


async def many(wire: Wire, number: int = 40) -> None:
    """As many transactions as there are messages, for a replay that takes one event at a time."""
    for _ in range(number):
        await wire.events(*(accepted("step.completed") for _ in range(20)), per_message=1)


async def test_a_replay_killed_twice_goes_on_and_equals_the_live_one_table_by_table(
    server: EmbeddedServer, lived: Running, wire: Wire, client: Client, tmp_path: Path
) -> None:
    """What came meanwhile is in it too."""
    await many(wire, 20)
    await wire.ledger(charge(accepted("model_call.completed")))
    into = tmp_path / "built.duckdb"
    total = await killed_midway(server, into, 30)
    await more(wire, client)
    await killed_midway(server, into, 20)
    await more(wire, client)
    said = await replay(server, into)
    assert said.code == 0, said.lines
    [note] = [line for line in said.lines if line["state"] == "note"]
    assert note["message"].startswith("goes on where it was stopped: ")
    assert note["held"] >= 50
    assert said.last["messages"] == said.last["of"] <= total - 50 + 100
    same(await at_rest(lived), tables(into))
    assert sorted(path.name for path in tmp_path.glob("built*")) == ["built.duckdb"]


async def test_a_replay_from_a_snapshot_goes_on_too(
    server: EmbeddedServer, lived: Running, wire: Wire, client: Client, tmp_path: Path
) -> None:
    taken = await snapshot(client, "before")
    await many(wire)
    await client.jsm().purge_stream(topology.EVENTS, seq=taken.offsets["EVENTS"] + 1)
    into = tmp_path / "built.duckdb"
    await killed_midway(server, into, 30, "--snapshot", taken.path)
    other = await replay(server, into, "--without-head")
    assert other.code == 1
    assert f"was begun with --snapshot {taken.path}, this one with --without-head" in other.last["message"]
    said = await replay(server, into, "--snapshot", taken.path)
    assert said.code == 0, said.lines
    assert said.last["of"] < 840
    same(await at_rest(lived), tables(into))


async def test_what_another_replay_left_is_refused_until_told_to_start_over(
    server: EmbeddedServer, running: Running, wire: Wire, client: Client, tmp_path: Path
) -> None:
    await many(wire)
    into = tmp_path / "built.duckdb"
    await killed_midway(server, into, 30)
    left = sorted(path.name for path in tmp_path.glob("built*") if path.suffix != ".lock")
    until_now = datetime.now(UTC).isoformat()
    said = await replay(server, into, "--until", until_now)
    assert said.code == 1
    assert f"was begun with no options, this one with --until {until_now}" in said.last["message"]
    assert "--start-over" in said.last["advice"]
    assert sorted(path.name for path in tmp_path.glob("built*")) == left
    await client.jsm().purge_stream(topology.EVENTS, seq=300)
    said = await replay(server, into)
    assert said.code == 1
    assert "EVENTS begins at 300 now: " in said.last["message"]
    assert into.with_name("built.duckdb.partial").exists()
    said = await replay(server, into, "--until", until_now, "--start-over", "--without-head")
    assert said.code == 0, said.lines
    assert len(tables(into)["applied_messages"]) == 840 - 299
    assert sorted(path.name for path in tmp_path.glob("built*")) == ["built.duckdb"]


async def test_what_has_no_note_is_begun_anew(server: EmbeddedServer, running: Running, wire: Wire, tmp_path: Path) -> None:
    """Killed before it had read anything; or somebody's leftovers."""
    await many(wire, 1)
    (tmp_path / "built.duckdb.partial").write_text("half a snapshot")
    said = await replay(server, tmp_path / "built.duckdb")
    assert said.code == 0, said.lines
    same(await at_rest(running), tables(tmp_path / "built.duckdb"))


async def test_a_replay_asked_to_stop_removes_what_it_wrote(
    server: EmbeddedServer, running: Running, wire: Wire, tmp_path: Path
) -> None:
    for _ in range(40):
        await wire.events(*(accepted("step.completed") for _ in range(20)), per_message=1)
    process = await begin(server, tmp_path / "built.duckdb", AGENTOPS_AGGREGATE_BATCH_EVENTS="1")
    assert process.stdout is not None
    await process.stdout.readline()
    process.terminate()
    assert await process.wait() == 130
    assert list(tmp_path.glob("built*")) == []


class TestSnapshots:
    async def test_one_taken_while_rows_come_in_is_of_one_moment(self, running: Running, wire: Wire, client: Client) -> None:
        stop = asyncio.Event()

        async def write() -> None:
            while not stop.is_set():
                await more(wire, client)

        writing = asyncio.create_task(write())
        try:
            for number in range(3):
                await until(lambda: bool(running.rows("SELECT count(*) FROM ledger")[0][0]), "rows are there")
                taken = await snapshot(client, f"s{number}")
                found = tables(Path(taken.path))
                for stream, sequence in taken.offsets.items():
                    applied = sorted(row[1] for row in found["applied_messages"] if row[0] == stream)
                    assert applied == list(range(1, sequence + 1))
                offsets = {row[0]: row for row in found["offsets"]}
                assert offsets["EVENTS"][3] == len([row for row in found["applied_messages"] if row[0] == "EVENTS"])
                entries = [row for row in found["applied_messages"] if row[2].startswith("ledger.")]
                assert len(found["ledger"]) == sum(row[4] for row in entries)
        finally:
            stop.set()
            await writing
        names = sorted(path.name for path in (running.context.data_directory / "snapshots").iterdir())
        assert names == ["s0.duckdb", "s0.json", "s1.duckdb", "s1.json", "s2.duckdb", "s2.json"]

    async def test_a_name_that_is_taken_or_a_path_is_refused(self, running: Running, client: Client) -> None:
        await snapshot(client, "one")
        with pytest.raises(AssertionError, match="exists already"):
            await snapshot(client, "one")
        reply = await client.request(subjects.WAREHOUSE_SNAPSHOT, json.dumps({"name": "../../etc/x"}).encode(), timeout=5)
        told = SnapshotProgress.model_validate_json(reply.data)
        assert told.state == "failed"
        assert told.message is not None
        assert told.message.startswith("$.name: ")

    async def test_stopping_gives_a_snapshot_up(self, lived: Running, client: Client) -> None:
        await client.publish(subjects.WAREHOUSE_SNAPSHOT, SnapshotRequest(name="half").model_dump_json().encode())
        await client.flush()
        directory = lived.context.data_directory / "snapshots"
        await until(lambda: any(directory.glob("half*")), "it has begun")
        await lived.stop()
        left = sorted(path.name for path in directory.iterdir())
        assert left in ([], ["half.duckdb", "half.json"], ["half.duckdb"])
        await lived.start()


NOW = datetime(2026, 11, 20, tzinfo=UTC)


def offset(applied: int, created: datetime = NOW) -> Offset:
    return Offset("EVENTS", created, applied, NOW, 0, 0, 0)


class TestDeciding:
    @pytest.mark.parametrize(
        ("extent", "held", "without_head", "answer"),
        [
            (Extent("EVENTS", 1, 90, NOW), None, False, Read("EVENTS", 0, 90)),
            (Extent("EVENTS", 1, 0, NOW), None, False, Read("EVENTS", 0, 0)),
            (Extent("EVENTS", 41, 90, NOW, began_at=41), None, False, Read("EVENTS", 0, 90)),
            (Extent("EVENTS", 41, 90, NOW), offset(40), False, Read("EVENTS", 40, 90)),
            (Extent("EVENTS", 41, 90, NOW), offset(70), False, Read("EVENTS", 70, 90)),
            (Extent("EVENTS", 41, 90, NOW), None, True, "EVENTS begins at 41: 40 messages before that are left out"),
            (Extent("EVENTS", 41, 90, NOW), None, False, "there is no snapshot"),
            (Extent("EVENTS", 41, 90, NOW), offset(30), False, "the snapshot ends at 30"),
            (Extent("EVENTS", 1, 90, NOW + timedelta(days=1)), offset(30), False, "the snapshot is not of this stream"),
            (Extent("EVENTS", 1, 20, NOW), offset(30), False, "the snapshot is not of this stream"),
            (Extent("EVENTS", 41, 90, NOW, since=60, until=80), None, False, Read("EVENTS", 60, 80)),
            (Extent("EVENTS", 41, 90, NOW, since=60), offset(30), False, "--from means nothing beside it"),
        ],
    )
    def test_what_is_read_of_a_stream(self, extent: Extent, held: Offset | None, without_head: bool, answer: Read | str) -> None:
        found = decide(extent, held, without_head=without_head)
        if isinstance(answer, Read):
            assert found == answer
        else:
            assert answer in str(found.reason if isinstance(found, Impossible) else found.note)

    @pytest.mark.parametrize(
        ("extent", "held", "without_head", "answer"),
        [
            (Extent("EVENTS", 1, 90, NOW), None, False, Read("EVENTS", 0, 90)),
            (Extent("EVENTS", 41, 90, NOW), None, False, "there is no snapshot"),
            (Extent("EVENTS", 1, 90, NOW), offset(30), False, Read("EVENTS", 30, 90)),
            (Extent("EVENTS", 31, 90, NOW), offset(30), False, Read("EVENTS", 30, 90)),
            (
                Extent("EVENTS", 32, 90, NOW),
                offset(30),
                True,
                "begins at 32 now: 1 messages that the unfinished replay had not read",
            ),
            (Extent("EVENTS", 1, 90, NOW, since=20, until=80), offset(30), False, Read("EVENTS", 30, 80)),
            (Extent("EVENTS", 1, 90, NOW, since=20, until=80), None, False, Read("EVENTS", 20, 80)),
            (Extent("EVENTS", 1, 90, NOW, until=30), offset(30), False, Read("EVENTS", 30, 30)),
            (Extent("EVENTS", 1, 90, NOW + timedelta(days=1)), offset(30), False, "the unfinished replay is not of this stream"),
            (Extent("EVENTS", 1, 20, NOW), offset(30), False, "the unfinished replay is not of this stream"),
        ],
    )
    def test_what_is_left_to_read_of_a_stream(
        self, extent: Extent, held: Offset | None, without_head: bool, answer: Read | str
    ) -> None:
        found = go_on(extent, held, without_head=without_head)
        if isinstance(answer, Read):
            assert found == answer
        else:
            assert isinstance(found, Impossible)
            assert answer in found.reason


class TestPartialFiles:
    def test_it_is_there_only_when_finished(self, tmp_path: Path) -> None:
        with PartialFile(tmp_path / "a") as file:
            file.partial.write_text("half")
        assert list(tmp_path.iterdir()) == []
        with PartialFile(tmp_path / "a") as file:
            file.partial.write_text("whole")
            file.finish()
        assert [path.name for path in tmp_path.iterdir()] == ["a"]
        assert (tmp_path / "a").read_text() == "whole"

    def test_two_never_write_the_same(self, tmp_path: Path) -> None:
        with PartialFile(tmp_path / "a") as file:
            file.partial.write_text("first")
            with pytest.raises(BeingWrittenError), PartialFile(tmp_path / "a"):
                pass
            assert file.partial.read_text() == "first"

    def test_what_appears_meanwhile_is_not_replaced(self, tmp_path: Path) -> None:
        with PartialFile(tmp_path / "a") as file:
            file.partial.write_text("mine")
            (tmp_path / "a").write_text("theirs")
            with pytest.raises(FileExistsAlreadyError):
                file.finish()
        assert (tmp_path / "a").read_text() == "theirs"
