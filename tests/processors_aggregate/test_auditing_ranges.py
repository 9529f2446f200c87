"""An audit of a part: by sequence, time, stream, stage and tenant; and what only a closer look tells apart."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nats.aio.client import Client

from schemas.coverage import CORRECTIONS
from schemas.events import AcceptedEvent
from schemas.ids import derived_id
from schemas.ledger import LedgerEntry
from streams import audit, subjects, topology
from streams.apply import apply
from streams.audit import AuditReport, Scope
from streams.auditing import gone, heads, summing, tenant_summing
from streams.auditing.accounts import CoverageBook, Findings, Stored
from streams.auditing.scope import Range, ScopeError
from streams.auditing.standing import Standing
from streams.covering import CoveredWriter, Outgoing
from tests.conftest import until
from tests.processors_aggregate.conftest import Running
from tests.processors_aggregate.test_auditing import alter, calls, history, problems
from tests.processors_aggregate.wire import Wire, accepted, charge, micro, record

__all__ = ["history"]


async def look(client: Client, **scope: Any) -> AuditReport:
    return await audit.run(client, scope=Scope(**scope))


def correction(of: LedgerEntry, kind: str, cost: str, **given: Any) -> LedgerEntry:
    return of.model_copy(
        update={
            "entry_id": str(derived_id(kind, of.entry_id, *map(str, given.values()))), "kind": kind, "reason": "correction",
            "corrects": of.entry_id, "cost_usd": Decimal(cost),
        } | given
    )  # fmt: skip


async def correct(client: Client, *entries: LedgerEntry) -> None:
    """Stores corrections the way cost does: in a covered batch of their own."""
    writer = CoveredWriter(client, topology.LEDGER, "cost", CORRECTIONS)
    position = await writer.resume()
    number, count = position.covered + 1, len(entries)
    lines = [entry.model_dump_json(exclude_none=True).encode() for entry in entries]
    told = record("cost", "corrections", number, number, messages=1, received=count, valid=count, dead=0, duplicates=0)
    await writer.commit(
        [micro(subjects.ledger_corrections(entries[0].tenant_id, "20261120"), lines)],
        told.model_copy(update={"partition": CORRECTIONS}),
    )


class TestRanges:
    async def test_only_the_sequences_asked_for_are_looked_at(self, history: Running, client: Client) -> None:
        await alter(history, "DELETE FROM steps WHERE stream_sequence = (SELECT min(stream_sequence) FROM steps)")
        [(first,)] = history.rows("SELECT min(sequence) FROM applied_messages WHERE subject = 'events.acme.step'")
        assert problems(await look(client, sequences={"EVENTS": (first, first)}, streams=("EVENTS",))) == ["EVENTS.rows"]
        after = await look(client, sequences={"EVENTS": (first + 1, None)}, streams=("EVENTS",))
        assert after.ok, after.of("error")
        assert after.counts["EVENTS"]["first"] == first + 1

    async def test_what_is_older_than_the_last_hour_is_left_out(self, history: Running, client: Client, wire: Wire) -> None:
        await alter(history, "DELETE FROM steps WHERE stream_sequence = (SELECT min(stream_sequence) FROM steps)")
        since = datetime.now(UTC)
        made = calls(2)
        await wire.events(*made)
        await wire.ledger(*map(charge, made))
        await history.caught_up()
        report = await look(client, since=since)
        assert report.ok, report.of("error")
        assert report.counts["EVENTS"]["events"] == 2
        assert report.counts["validate"]["records"] == 1
        assert problems(await look(client, until=since)) == ["EVENTS.rows"]
        assert (await look(client, since=datetime.now(UTC) + timedelta(hours=1))).ok

    async def test_a_gap_right_at_the_border_of_the_range_is_found(self, running: Running, wire: Wire, client: Client) -> None:
        await wire.events(accepted("run.started"))
        await running.caught_up()
        since = datetime.now(UTC)
        writer = CoveredWriter(client, topology.EVENTS, "validate")
        await writer.resume()
        counts = {"messages": 0, "received": 0, "valid": 0, "dead": 0, "duplicates": 0}
        await writer.commit([], record("validate", topology.TELEMETRY, 5, 6, **counts))
        await running.caught_up()
        report = await look(client, since=since)
        assert any(finding.message.startswith("gap: 3 messages of TELEMETRY") for finding in report.of("error"))

    async def test_the_newest_messages_alone_can_be_asked_for(self, history: Running, client: Client) -> None:
        report = await look(client, most=4)
        assert report.ok, report.of("error")
        assert report.counts["EVENTS"]["messages"] == 4

    async def test_each_stage_can_be_asked_alone(self, history: Running, client: Client) -> None:
        await alter(history, "DELETE FROM ledger WHERE entry_id = (SELECT min(entry_id) FROM ledger)")
        for stage, wrong in (("validate", []), ("cost", []), ("aggregate", ["LEDGER.rows"]), ("billing", ["billing.missing"])):
            assert problems(await look(client, stages=(stage,))) == wrong

    async def test_a_big_range_is_asked_in_parts(self, history: Running, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
        whole = await look(client)
        monkeypatch.setattr(summing, "MOST_ROWS", 1)
        monkeypatch.setattr("processors.aggregate.queries.auditing._BIN", 3)
        parts = await look(client)
        assert parts.ok, parts.of("error")
        assert {finding.check for finding in parts.findings} == {finding.check for finding in whole.findings}
        assert parts.counts == whole.counts
        await alter(history, "DELETE FROM ledger WHERE entry_id = (SELECT min(entry_id) FROM ledger)")
        assert problems(await look(client)) == ["LEDGER.rows", "billing.missing"]

    async def test_reading_every_message_finds_the_same(self, history: Running, client: Client) -> None:
        assert (await look(client, every_message=True)).ok
        await alter(history, "DELETE FROM steps WHERE stream_sequence = (SELECT min(stream_sequence) FROM steps)")
        await client.jsm().delete_msg(topology.EVENTS, 2)
        assert problems(await look(client)) == ["EVENTS.purged", "EVENTS.rows"]
        assert problems(await look(client, every_message=True)) == ["EVENTS.purged", "EVENTS.rows", "validate.outputs"]


class TestTenants:
    @pytest.fixture
    async def two(self, running: Running, wire: Wire) -> Running:
        """Two tenants' calls and steps."""
        made = [accepted("model_call.completed", tenant=tenant) for tenant in ("acme", "umbra") for _ in range(3)]
        await wire.events(*made, accepted("step.completed", tenant="acme"), accepted("step.completed", tenant="umbra"))
        await wire.ledger(*map(charge, made))
        await running.caught_up()
        return running

    async def test_each_has_its_figures(self, two: Running, client: Client) -> None:
        report = await look(client)
        assert report.ok, report.of("error")
        assert report.tenants["acme"] == {
            "events": 4, "dead": 0, "entries": 3, "charges": 3, "corrections": 0, "unpriced": 0, "cost_usd": "0.003703701",
        }  # fmt: skip
        one = await look(client, tenant="umbra")
        assert one.ok, one.of("error")
        assert list(one.tenants) == ["umbra"]
        assert one.counts["EVENTS"]["messages"] == 2

    async def test_one_is_audited_without_the_others(self, two: Running, client: Client) -> None:
        await alter(two, "DELETE FROM steps WHERE tenant_id = 'acme'")
        assert problems(await look(client, tenant="acme")) == ["EVENTS.rows"]
        assert (await look(client, tenant="umbra")).ok
        await client.jsm().purge_stream(topology.EVENTS, subject=subjects.events("umbra", "step"))
        assert problems(await look(client, tenant="umbra")) == ["EVENTS.purged"]
        assert problems(await look(client, tenant="acme")) == ["EVENTS.rows"]

    async def test_sums_and_headers_find_the_same_of_a_tenant(self, running: Running, wire: Wire, client: Client) -> None:
        """Whatever is wrong, and whosever: missing in the warehouse, gone from the stream, other rows, other counts."""
        for _ in range(3):
            await wire.events(
                *(accepted("step.completed", tenant=tenant) for _ in range(8) for tenant in ("acme", "umbra")), per_message=1
            )
        await running.caught_up()
        found = running.rows(
            "SELECT sequence, split_part(subject, '.', 2) FROM applied_messages WHERE subject LIKE 'events.%' ORDER BY 1"
        )
        of = {tenant: [row[0] for row in found if row[1] == tenant] for tenant in ("acme", "umbra")}
        missing = [*of["acme"][2:5], *of["umbra"][4:6], of["acme"][20], of["acme"][-1]]
        await alter(running, f"DELETE FROM applied_messages WHERE sequence IN ({', '.join(map(str, missing))})")
        await alter(running, f"DELETE FROM steps WHERE stream_sequence IN ({', '.join(map(str, [*missing, of['umbra'][9]]))})")
        await alter(running, f"UPDATE applied_messages SET events = 2 WHERE sequence = {of['acme'][10]}")
        await alter(running, f"UPDATE applied_messages SET unreadable = 1 WHERE sequence = {of['umbra'][12]}")
        for sequence in (of["acme"][7], of["acme"][8], of["umbra"][15], of["umbra"][5]):
            await client.jsm().delete_msg(topology.EVENTS, sequence)
        for tenant, wrong in (("acme", 8), ("umbra", 5)):
            told = {}
            for every in (False, True):
                report = await look(client, tenant=tenant, every_message=every, stages=("aggregate",))
                told[every] = {(one.severity, one.check, one.details.get("sequence")) for one in report.findings}
                assert len(report.of("error")) + len(report.of("warning")) == wrong
                assert report.counts["EVENTS"]["messages"] == 24 - 2
            assert told[False] == told[True]
            assert {check for _, check, _ in told[True]} >= {"EVENTS.applied", "EVENTS.purged"}

    @given(st.sets(st.integers(1, 200)), st.integers(0, 20))
    def test_what_is_near_is_read_together(self, sequences: set[int], near: int) -> None:
        apart = gone.runs(sequences)
        together = tenant_summing.spans(apart, near)
        assert all(any(one.after <= run.after and run.last <= one.last for one in together) for run in apart)
        assert all(second.after - first.last > near for first, second in pairwise(together))
        assert {one.after for one in together} <= {run.after for run in apart}

    async def test_a_row_given_to_another_tenant_is_found(self, two: Running, client: Client) -> None:
        await alter(two, "UPDATE steps SET tenant_id = 'umbra'")
        report = await look(client)
        assert problems(report) == ["EVENTS.tenants"]
        assert {finding.details["tenant_id"] for finding in report.of("error")} == {"acme", "umbra"}


class TestMoney:
    @pytest.fixture
    async def entries(self, running: Running, wire: Wire) -> list[LedgerEntry]:
        """Charges of three calls, stored and applied."""
        made = calls(3)
        found = [charge(call) for call in made]
        await wire.events(*made)
        await wire.ledger(*found)
        await running.caught_up()
        return found

    async def test_corrections_that_fit_are_no_error(
        self, running: Running, client: Client, entries: Sequence[LedgerEntry]
    ) -> None:
        first = entries[0]
        await correct(client, correction(first, "reversal", f"-{first.cost_usd}"), correction(first, "adjustment", "0.5"))
        await running.caught_up()
        report = await audit.run(client)
        assert report.ok, report.of("error")
        assert report.tenants["acme"]["corrections"] == 2

    async def test_corrections_that_do_not_fit_are_found(
        self, running: Running, client: Client, entries: Sequence[LedgerEntry]
    ) -> None:
        first, second, third = entries
        right = correction(first, "reversal", f"-{first.cost_usd}")
        await correct(client, right, right)
        await correct(client, correction(second, "reversal", "-7"))
        await correct(
            client,
            correction(third, "reversal", f"-{third.cost_usd}"),
            correction(third, "reversal", f"-{third.cost_usd}", note="again"),
        )
        await correct(client, correction(first, "adjustment", "1", corrects="nothing"))
        await running.caught_up()
        assert problems(await audit.run(client)) == [
            "billing.corrected_twice", "billing.corrects_nothing", "billing.entry_twice", "billing.other_amount",
        ]  # fmt: skip

    async def test_a_charge_for_no_call_is_found(self, running: Running, wire: Wire, client: Client) -> None:
        [call, other] = calls(2)
        await wire.events(call)
        await wire.ledger(charge(call), charge(other))
        await running.caught_up()
        assert problems(await audit.run(client)) == ["billing.stray"]

    async def test_a_charge_repeated_much_later_is_found(
        self, running: Running, wire: Wire, client: Client, entries: Sequence[LedgerEntry]
    ) -> None:
        since = datetime.now(UTC)
        again = entries[0].model_copy(update={"entry_id": str(derived_id("again"))})
        call = calls(1)
        await wire.events(*call)
        await wire.ledger(charge(call[0]), again)
        await running.caught_up()
        assert problems(await audit.run(client)) == ["billing.doubled"]
        assert problems(await look(client, since=since)) == ["billing.doubled"]

    async def test_sums_changed_by_hand_are_found(self, running: Running, client: Client, entries: Sequence[LedgerEntry]) -> None:
        assert running.processor._warehouse is not None
        await running.processor._in_thread(running.processor._warehouse.fold)
        assert (await audit.run(client)).ok
        await alter(running, "UPDATE rollups_day SET cost_usd = cost_usd + 1 WHERE kind = 'ledger'")
        report = await audit.run(client)
        assert problems(report) == ["sums"]
        assert "the sums by day of ledger hold $1.003703701 of $0.003703701" in report.of("error")[0].message

    @pytest.mark.parametrize(
        ("change", "told"),
        [
            ("UPDATE agents_hour SET runs_failed = runs_failed + 1", "1 of 1 sums of agents by hour"),
            ("UPDATE agents_hour SET cost_usd = cost_usd - 0.000000001", "1 of 1 sums of agents by hour"),
            ("UPDATE agents_day SET call_latencies = [{'bucket': 1, 'count': 1000}]", "1 of 1 sums of agents by day"),
            ("DELETE FROM agents_day", "1 of 1 sums of agents by day"),
            ("INSERT INTO agents_hour SELECT * FROM agents_hour", "1 of 1 sums of agents by hour"),
            ("UPDATE agents_seen SET last_at = last_at - INTERVAL 1 SECOND", "1 of 1 moments agents were last seen"),
            (
                "INSERT INTO agents_seen (tenant_id, agent_id, last_at) VALUES ('acme', 'nobody', now()::TIMESTAMP)",
                "1 of 2 moments",
            ),
        ],
    )
    async def test_sums_of_agents_changed_by_hand_are_found(
        self, running: Running, client: Client, entries: Sequence[LedgerEntry], change: str, told: str
    ) -> None:
        assert running.processor._warehouse is not None
        await running.processor._in_thread(running.processor._warehouse.fold)
        assert (await audit.run(client)).ok
        await alter(running, change)
        report = await audit.run(client)
        assert problems(report) == ["sums"]
        [finding] = report.of("error")
        assert finding.message.startswith(told)
        assert "acme/" in finding.message


class TestWhatIsGone:
    async def test_a_message_the_warehouse_forgot_is_found(self, history: Running, client: Client) -> None:
        await alter(history, "DELETE FROM applied_messages WHERE stream = 'EVENTS' AND sequence = 3")
        report = await audit.run(client)
        assert problems(report) == ["EVENTS.applied", "EVENTS.rows", "validate.outputs"]
        assert any("is missing in the warehouse" in f.message and "(events.acme." in f.message for f in report.of("error"))

    async def test_a_changed_record_in_the_warehouse_is_found(self, history: Running, client: Client) -> None:
        await alter(history, "UPDATE coverage SET duplicates = duplicates + 5 WHERE processor = 'validate'")
        assert problems(await audit.run(client)) == ["validate.records"]

    async def test_messages_gone_before_the_warehouse_had_them_are_told_so(
        self, history: Running, wire: Wire, client: Client
    ) -> None:
        await history.stop()
        last = (await client.jsm().stream_info(topology.EVENTS)).state.last_seq
        await wire.events(*(accepted("run.started") for _ in range(3)), per_message=1)
        await wire.events(accepted("run.started"))
        await client.jsm().delete_msg(topology.EVENTS, last + 2)
        await history.start()
        await history.caught_up()
        report = await audit.run(client)
        assert problems(report) == ["EVENTS.purged", "validate.outputs"]
        assert any("the warehouse never had 1 of them" in finding.message for finding in report.of("error"))

    async def test_everything_purged_is_told_as_such(self, history: Running, client: Client) -> None:
        await client.jsm().purge_stream(topology.EVENTS)
        report = await audit.run(client)
        assert problems(report) == ["EVENTS.head"]
        assert report.of("error")[0].details["purged"] == (await client.jsm().stream_info(topology.EVENTS)).state.last_seq

    async def test_input_purged_before_validate_came_to_it_is_found(self, history: Running, client: Client) -> None:
        last = (await client.jsm().stream_info(topology.TELEMETRY)).state.last_seq
        covered = 36
        for _ in range(covered + 3 - last):
            await client.jetstream().publish("telemetry.acme.a.run", b"{}")
        await client.jsm().purge_stream(topology.TELEMETRY)
        report = await audit.run(client)
        assert problems(report) == ["validate.purged"]
        assert report.of("error")[0].details == {"first": 37, "last": 39, "missing": 3}

    async def test_a_record_that_aged_out_makes_no_purge(self, history: Running, client: Client) -> None:
        """After thirty idle days validate finds no record, begins at 1 again, and everything it had covered is missing."""
        for _ in range(36):
            await client.jetstream().publish("telemetry.acme.a.run", b"{}")
        await client.jsm().purge_stream(topology.TELEMETRY)
        await client.jsm().purge_stream(topology.EVENTS)
        month = datetime.now(UTC) + topology.EVENTS_AGE + timedelta(hours=1)
        idle = await audit.run(client, month)
        assert idle.ok, idle.of("error")
        writer = CoveredWriter(client, topology.EVENTS, "validate")
        assert (await writer.resume()).covered == 0
        counts = {"messages": 0, "missing": 36, "received": 0, "valid": 0, "dead": 0, "duplicates": 0}
        await writer.commit([], record("validate", topology.TELEMETRY, 1, 36, **counts))
        await history.caught_up()
        report = await audit.run(client, month)
        assert report.ok, report.of("error")
        assert any("begins again at 1" in finding.message for finding in report.of("ok"))


class TestPartitions:
    def test_each_partitions_records_follow_one_another(self) -> None:
        findings = Findings()
        book = CoverageBook("validate", "events", from_the_start=True, findings=findings)
        ranges = [(0, 1, 4), (1, 1, 9), (0, 5, 7), (1, 10, 12), (1, 14, 20)]
        for number, (partition, first, last) in enumerate(ranges):
            book.see(Stored(2 * number + 1, "events.acme.run", 2))
            told = record("validate", "TELEMETRY", first, last, messages=2, received=2, valid=2, dead=0, duplicates=0)
            book.see(Stored(2 * number + 2, f"covered.validate.{partition}", 1, told.model_copy(update={"partition": partition})))
        assert [finding.message for finding in findings.all()] == [
            "gap: 1 message of TELEMETRY before coverage record 10 of validate of partition 1 not covered by any record"
        ]
        assert (book.valid, book.until) == (10, {0: 7, 1: 20})

    async def test_several_partitions_add_up_in_the_warehouse(self, running: Running, client: Client) -> None:
        """Their ranges are of the same sequences: what belongs to one lies between those of the other."""
        await apply(client, partitions=2)
        for partition, first in ((0, 1), (1, 1), (0, 5), (1, 5)):
            writer = CoveredWriter(client, topology.EVENTS, "validate", partition)
            await writer.resume()
            out: list[Outgoing] = [micro(subjects.events("acme", "run"), [line(accepted("run.started")) for _ in range(2)])]
            told = record("validate", "TELEMETRY", first, first + 3, messages=2, received=2, valid=2, dead=0, duplicates=0)
            await writer.commit(out, told.model_copy(update={"partition": partition}))
        await running.caught_up()
        report = await audit.run(client)
        assert report.ok, report.of("error")
        assert report.counts["validate"]["valid"] == 8
        assert (await look(client, sequences={"EVENTS": (5, None)}, streams=("EVENTS",))).ok
        await alter(
            running, "UPDATE coverage SET messages = 1 WHERE stream_sequence = (SELECT max(stream_sequence) FROM coverage)"
        )
        [finding] = (await audit.run(client)).of("error")
        assert finding.message.startswith("1 message of TELEMETRY between 1 and 8 gone before being covered by validate")


def line(one: AcceptedEvent) -> bytes:
    return one.model_dump_json(exclude_none=True).encode()


NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
MONTH = timedelta(days=30)


def standing(first: int, *, age: timedelta = MONTH, created: datetime = NOW - 2 * MONTH, began_at: int = 1) -> Standing:
    return Standing("EVENTS", ("events.>",), first, 1000, Range(0, 1000), created, age, began_at)


class TestHeads:
    @pytest.mark.parametrize(
        ("given", "known", "severity", "says"),
        [
            (standing(1), heads.Known(0, 0, 0), None, ""),
            (standing(101), heads.Known(100, 900, 0), "ok", "100 messages before 101 of EVENTS aged out"),
            (standing(101), heads.Known(100, 900, 30, 71, 100), "error", "30 messages before 101 of EVENTS were purged by hand"),
            (standing(101), heads.Known(100, 900, 30, 71, 100), "error", "the other 70 aged out"),
            (standing(101), heads.Known(0, 0, 0), "ok", "the warehouse never had what stood before"),
            (standing(101, created=NOW - timedelta(days=2)), heads.Known(0, 0, 0), "error", "younger than its age limit"),
            (standing(101, age=timedelta(0)), heads.Known(0, 0, 0), "error", "nothing in it ages out"),
            (standing(101, age=timedelta(0)), heads.Known(100, 100, 100, 1, 100), "error", "nothing in it ages out"),
            (standing(101, created=NOW, began_at=101), heads.Known(0, 0, 0), None, ""),
        ],
    )
    def test_what_aged_out_is_told_from_what_was_purged(
        self, given: Standing, known: heads.Known, severity: str | None, says: str
    ) -> None:
        found = heads.judge(given, known, NOW)
        assert [finding.severity for finding in found] == ([severity] if severity else [])
        assert all(says in finding.message for finding in found)


class TestScope:
    @pytest.mark.parametrize(
        ("given", "says"),
        [
            ({"streams": ("TELEMETRY",)}, "'TELEMETRY' is not audited: there are EVENTS, LEDGER, ALERTS"),
            ({"stages": ("pay",)}, "'pay' is no stage"),
            ({"since": NOW, "until": NOW - MONTH}, "ends before it begins"),
            ({"sequences": {"EVENTS": (7, 3)}}, "no range of sequences"),
            ({"tenant": "acme", "stages": ("validate",)}, "coverage records are of all tenants"),
        ],
    )
    def test_what_does_not_go_together_is_refused(self, given: dict[str, Any], says: str) -> None:
        with pytest.raises(ScopeError, match=says):
            Scope(**given)

    @given(
        after=st.integers(0, 50),
        sizes=st.lists(st.tuples(st.integers(1, 30), st.integers(0, 90)), max_size=20),
        most=st.integers(1, 100),
    )
    def test_windows_tile_the_range(self, after: int, sizes: list[tuple[int, int]], most: int) -> None:
        bins, last = [], after
        for messages, events in sizes:
            last += messages
            bins.append((last, messages, events))
        wanted = Range(after, last)
        found = wanted.windows(bins, most)
        assert (found == []) == wanted.empty
        if found:
            assert (found[0].after, found[-1].last) == (after, last)
            assert all(one.last == other.after for one, other in pairwise(found))
            assert all(not one.empty for one in found)


async def test_an_audit_beside_work_has_no_false_findings(running: Running, wire: Wire, client: Client) -> None:
    """What is written and applied while the audit reads is no error of it."""
    reports: list[AuditReport] = []

    async def more() -> bool:
        made = calls(5)
        await wire.events(*made, accepted("run.started"), per_message=2)
        await wire.ledger(*map(charge, made))
        reports.append(await audit.run(client))
        return len(reports) >= 8

    await until(more, "eight audits", 60)
    assert [report.of("error") for report in reports if not report.ok] == []
