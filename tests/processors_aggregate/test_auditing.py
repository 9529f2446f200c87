"""The audit finds what is wrong, and nothing where nothing is."""

from datetime import UTC, datetime, timedelta

import pytest
from nats.aio.client import Client

from schemas.events import AcceptedEvent
from schemas.ids import derived_id
from streams import audit, topology
from streams.audit import AuditImpossibleError, AuditReport
from tests.processors_aggregate.conftest import Running
from tests.processors_aggregate.wire import Wire, accepted, charge


def calls(number: int = 10) -> list[AcceptedEvent]:
    return [accepted("model_call.completed", run={"agent_id": "a", "run_id": "r"}) for _ in range(number)]


def problems(report: AuditReport) -> list[str]:
    return sorted({finding.check for finding in report.of("error")})


async def alter(running: Running, sql: str) -> None:
    """Changes the warehouse by hand."""
    processor = running.processor
    assert processor._warehouse is not None
    connection = processor._warehouse._connection
    await processor._in_thread(lambda: connection.execute(sql))


@pytest.fixture
async def history(running: Running, wire: Wire) -> Running:
    """Three batches, priced and applied."""
    for _ in range(3):
        made = calls()
        await wire.events(*made, accepted("run.started"), accepted("step.completed"), per_message=4)
        await wire.ledger(*(charge(call) for call in made))
    await running.caught_up()
    return running


async def test_a_sound_system_has_no_errors_and_says_what_was_checked(history: Running, client: Client) -> None:
    report = await audit.run(client)
    assert report.ok, report.of("error")
    assert report.of("warning") == ()
    assert {finding.check for finding in report.of("ok")} >= {
        "validate.coverage",
        "cost.coverage",
        "EVENTS.rows",
        "LEDGER.rows",
        "billing",
    }
    assert report.counts["validate"]["valid"] == 36
    assert report.counts["EVENTS"]["events"] == 36


async def test_an_empty_system_is_sound(running: Running, client: Client) -> None:
    assert (await audit.run(client)).ok


async def test_a_row_deleted_by_hand_is_found(history: Running, client: Client) -> None:
    await alter(history, "DELETE FROM steps WHERE stream_sequence = (SELECT min(stream_sequence) FROM steps)")
    report = await audit.run(client)
    assert problems(report) == ["EVENTS.rows"]
    [finding] = report.of("error")
    assert (finding.details["expected"], finding.details["found"]) == (1, 0)


async def test_a_missing_ledger_entry_is_found(running: Running, wire: Wire, client: Client) -> None:
    made = calls()
    await wire.events(*made)
    await wire.ledger(*(charge(call) for call in made[:-1]))
    await running.caught_up()
    report = await audit.run(client)
    assert problems(report) == ["billing.missing"]
    assert report.of("error")[0].details["event_id"] == str(made[-1].event_id)


async def test_a_call_not_priced_yet_is_no_error(running: Running, wire: Wire, client: Client) -> None:
    made = calls()
    await wire.events(*made)
    await wire.ledger(*(charge(call) for call in made))
    await wire.events(*calls())
    await running.caught_up()
    assert (await audit.run(client)).ok


async def test_a_failed_call_without_usage_owes_nothing(running: Running, wire: Wire, client: Client) -> None:
    await wire.events(accepted("model_call.failed"))
    await wire.ledger()
    await running.caught_up()
    assert (await audit.run(client)).ok


async def test_a_doubled_ledger_entry_is_found(running: Running, wire: Wire, client: Client) -> None:
    made = calls()
    await wire.events(*made)
    again = charge(made[0]).model_copy(update={"entry_id": str(derived_id("again"))})
    await wire.ledger(*(charge(call) for call in made), again)
    await running.caught_up()
    report = await audit.run(client)
    assert problems(report) == ["billing.doubled"]
    assert report.of("error")[0].details["entries"] == 2


async def test_a_ledger_row_deleted_by_hand_is_found_twice(history: Running, client: Client) -> None:
    """As a row of its message, and as a charge of its call."""
    await alter(history, "DELETE FROM ledger WHERE entry_id = (SELECT min(entry_id) FROM ledger)")
    assert problems(await audit.run(client)) == ["LEDGER.rows", "billing.missing"]


async def test_a_message_purged_by_hand_is_found(history: Running, client: Client) -> None:
    await client.jsm().delete_msg(topology.EVENTS, 2)
    report = await audit.run(client)
    assert problems(report) == ["EVENTS.purged"]
    [finding] = report.of("error")
    assert finding.details["sequence"] == 2
    assert "the warehouse had applied it" in finding.message


async def test_a_head_purged_by_hand_is_told_from_one_that_aged_out(history: Running, client: Client) -> None:
    await client.jsm().purge_stream(topology.EVENTS, seq=7)
    report = await audit.run(client)
    assert problems(report) == ["EVENTS.head"]
    later = await audit.run(client, datetime.now(UTC) + topology.EVENTS_AGE + timedelta(hours=1))
    assert later.ok, later.of("error")
    assert "6 messages before 7 of EVENTS aged out" in next(f for f in later.of("ok") if f.check == "EVENTS.head").message


async def test_gaps_overlaps_and_wrong_sums_of_coverage_are_found(running: Running, wire: Wire, client: Client) -> None:
    from streams import subjects
    from streams.covering import CoveredWriter
    from tests.processors_aggregate.wire import record

    await wire.events(accepted("run.started"))
    writer = CoveredWriter(client, topology.EVENTS, "validate")
    await writer.resume()
    counts = {"messages": 1, "received": 0, "valid": 0, "dead": 0, "duplicates": 0}
    await writer.commit([], record("validate", topology.TELEMETRY, 5, 6, **counts))
    await writer.commit([], record("validate", topology.TELEMETRY, 6, 8, **{**counts, "received": 3, "missing": 1}))
    await running.caught_up()
    report = await audit.run(client)
    texts = [finding.message for finding in report.of("error")]
    assert any(text.startswith("gap: 3 messages of TELEMETRY") for text in texts)
    assert any(text.startswith("overlap") for text in texts)
    assert any("does not add up" in text for text in texts)
    assert any(text.startswith("1 message of TELEMETRY between 6 and 8 gone before being read") for text in texts)
    assert subjects.covered("validate") == "covered.validate.0"


async def test_what_waits_is_told_and_is_no_error(running: Running, wire: Wire, client: Client) -> None:
    await wire.events(accepted("run.started"))
    await running.caught_up()
    await client.jetstream().publish("telemetry.acme.a.run", b"{}")
    await client.jetstream().publish("telemetry.acme.a.run", b"{}")
    report = await audit.run(client)
    assert report.ok
    assert [finding.message for finding in report.of("warning")] == ["1 message of TELEMETRY waits for validate"]


async def test_without_a_warehouse_it_says_what_is_missing(client: Client) -> None:
    with pytest.raises(AuditImpossibleError, match="the warehouse does not answer yet"):
        await audit.run(client)


def _fold(history: Running) -> None:
    assert history.processor._warehouse is not None
    history.processor._warehouse.fold()


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE ledger SET cost_usd = cost_usd + 1 WHERE entry_id = (SELECT min(entry_id) FROM ledger)",
        "UPDATE rollups_day SET cost_usd = cost_usd + 1 WHERE kind = 'ledger'",
        "UPDATE rollups_hour SET name = 'another-model' WHERE kind = 'ledger'",
    ],
)
async def test_dollars_changed_by_hand_do_not_fit_the_sums(history: Running, client: Client, sql: str) -> None:
    """Also where the whole comes to the same."""
    _fold(history)
    await alter(history, sql)
    assert problems(await audit.run(client)) == ["sums"]


async def test_dollars_moved_from_one_tenant_to_another_do_not_fit_the_sums(history: Running, wire: Wire, client: Client) -> None:
    other = accepted("model_call.completed", tenant="globex")
    await wire.events(other)
    await wire.ledger(charge(other))
    await history.caught_up()
    _fold(history)
    await alter(
        history,
        "UPDATE ledger SET cost_usd = cost_usd + CASE tenant_id WHEN 'acme' THEN 0.001 ELSE -0.001 END "
        "WHERE entry_id IN (SELECT min(entry_id) FROM ledger GROUP BY tenant_id)",
    )
    report = await audit.run(client)
    assert problems(report) == ["sums"]
    assert {finding.details["kind"] for finding in report.of("error")} == {"money"}


async def test_dollars_changed_by_hand_before_they_were_summed_up_are_found_by_reading_every_message(
    history: Running, client: Client
) -> None:
    await alter(history, "UPDATE ledger SET cost_usd = cost_usd + 1 WHERE entry_id = (SELECT min(entry_id) FROM ledger)")
    [(sequence,)] = history.rows("SELECT stream_sequence FROM ledger ORDER BY cost_usd DESC LIMIT 1")
    report = await audit.run(client, scope=audit.Scope(every_message=True))
    assert "LEDGER.money" in problems(report)
    [finding] = [one for one in report.of("error") if one.check == "LEDGER.money"]
    assert finding.details["sequence"] == sequence
    assert "comes to $0.012345670, its rows in the warehouse to $1.012345670" in finding.message
