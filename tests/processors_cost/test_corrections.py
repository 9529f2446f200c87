"""Corrections of the ledger: compensating entries, each entry corrected once, whoever asks how often, whoever is killed when."""

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal
from uuid import uuid4

import nats.errors
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from nats.aio.client import Client

from processors.cost import corrections, snapshot
from processors.cost.app import attach
from processors.cost.corrected import Day
from processors.cost.correcting import Correction, correct
from processors.cost.corrections import Corrections
from processors.cost.entries import Charge, entry
from schemas.commands import AuditRecord
from schemas.corrections import CorrectionAnswer, CorrectionRequest, EntryReference, Left
from schemas.coverage import CORRECTIONS, Coverage
from schemas.ledger import LedgerEntry, usage
from schemas.prices.book import StoredBook, book_key
from schemas.prices.finding import PriceBook
from schemas.prices.overrides import Override, Revision, revision_key
from schemas.prices.rates import Rates
from streams import subjects
from streams.connect import connect
from streams.embedded import EmbeddedServer
from streams.kv import TypedBucket
from streams.messages import CONTENT_TYPE, NDJSON
from streams.micro_batches import lines
from streams.publish import publish
from tests.conftest import until
from tests.processors_cost.test_cost import SUBJECT, priced
from tests.processors_cost.test_entries import RECEIVED, TOLERANCE, accepted_line
from tests.processors_validate.running import ledger, messages, running
from tests.processors_validate.test_killed import child
from tests.streams.tearing import Tearing

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
DEFAULT = snapshot.default()
HALF = Override(override_id="half", provider="openai", discount_percent=Decimal(50))
REVISION = Revision(number=9, book=DEFAULT.version, overrides=(HALF,), at=NOW, by="me", reason="why")
OLD, NEW = PriceBook.of(DEFAULT), PriceBook.of(DEFAULT, REVISION)


def request(
    action: Literal["reverse", "reprice"], references: Sequence[EntryReference], version: str | None = None, **more: Any
) -> CorrectionRequest:  # fmt: skip
    fields = {
        "correction_id": uuid4().hex,
        "tenant": "acme",
        "action": action,
        "version": version,
        "entries": tuple(references),
        "reason": "contract",
    }
    return CorrectionRequest(**(fields | more))


def charged(**changes: Any) -> LedgerEntry:
    answer = entry(accepted_line(**changes), "acme", OLD, TOLERANCE)
    assert isinstance(answer, Charge)
    return LedgerEntry.model_validate_json(answer.line)


def corrected(original: LedgerEntry, action: Literal["reverse", "reprice"] = "reprice", **more: Any) -> Correction | Left:
    asked = request(action, [EntryReference(sequence=1, entry_id=original.entry_id)], NEW.version)
    return correct(original, asked, more.pop("book", NEW), more.pop("known", {}), "me", NOW)


def test_a_reversal_takes_back_exactly_what_its_entry_cost_and_the_adjustment_costs_what_the_book_says() -> None:
    original = charged()
    found = corrected(original)
    assert isinstance(found, Correction)
    reversal, adjustment = found.entries()
    assert (reversal.kind, reversal.corrects, reversal.cost_usd) == ("reversal", original.entry_id, -original.cost_usd)
    assert (adjustment.kind, adjustment.corrects, adjustment.cost_usd * 2) == ("adjustment", original.entry_id, original.cost_usd)
    assert (adjustment.price_book_version, adjustment.price_override, adjustment.note) == (NEW.version, "half", "contract")
    assert {one.occurred_at for one in found.entries()} == {original.occurred_at}, "sums of the call's own day change"
    assert {(one.corrected_by, one.received_at, one.client_cost_usd) for one in found.entries()} == {("me", NOW, None)}
    assert adjustment.unit_prices is not None
    assert Rates.of(adjustment.unit_prices.model_dump(exclude_none=True)).cost(usage(adjustment)) == adjustment.cost_usd


def test_ids_of_corrections_follow_from_what_they_correct_and_a_correction_can_be_corrected_again() -> None:
    original = charged()
    first, again = corrected(original), corrected(original)
    assert isinstance(first, Correction)
    assert isinstance(again, Correction)
    assert [one.entry_id for one in first.entries()] == [one.entry_id for one in again.entries()]
    assert first.adjustment is not None
    second = corrected(first.adjustment, book=OLD)
    assert isinstance(second, Correction)
    assert second.adjustment is not None
    ids = {one.entry_id for each in (first, second) for one in each.entries()}
    assert len(ids | {original.entry_id}) == 5
    assert original.cost_usd + sum(one.cost_usd for each in (first, second) for one in each.entries()) == original.cost_usd


def test_what_is_not_corrected_says_why() -> None:
    original = charged()
    once = corrected(original)
    assert isinstance(once, Correction)
    unknown = charged(model_call={"model_call_id": "m", "provider": "local", "model": "mine"})
    found = [
        corrected(original, known={original.entry_id: "earlier"}), corrected(once.reversal), corrected(original, book=OLD), corrected(unknown),
    ]  # fmt: skip
    assert [one.outcome for one in found if isinstance(one, Left)] == ["already", "reversal", "unchanged", "unpriced"]
    assert isinstance(found[0], Left)
    assert "earlier" in found[0].why


def test_an_unpriced_entry_gets_its_price_later_and_is_no_longer_counted_as_unpriced() -> None:
    mine = REVISION.model_copy(
        update={"overrides": (Override(override_id="mine", provider="local", prices={"input": Decimal(2)}),)}
    )
    unknown = charged(model_call={"model_call_id": "m", "provider": "local", "model": "mine"})
    assert (unknown.reason, unknown.note) == ("unpriced", "unknown provider 'local'")
    found = corrected(unknown, book=PriceBook.of(DEFAULT, mine))
    assert isinstance(found, Correction)
    assert found.adjustment is not None
    assert found.reversal.cost_usd == 0
    assert found.reversal.priced_as is None
    assert found.adjustment.cost_usd == Decimal("0.002")


def test_a_call_from_the_future_is_repriced_as_of_the_moment_it_was_priced_at() -> None:
    late = orjson.dumps(orjson.loads(accepted_line()) | {"occurred_at": "2100-01-01T00:00:00Z"})
    answer = entry(late, "acme", OLD, TOLERANCE)
    assert isinstance(answer, Charge)
    original = LedgerEntry.model_validate_json(answer.line)
    assert original.priced_at == datetime.fromisoformat(RECEIVED) + TOLERANCE
    later = REVISION.model_copy(update={"overrides": (HALF.model_copy(update={"since": datetime(2027, 1, 1, tzinfo=UTC)}),)})
    left = corrected(original, book=PriceBook.of(DEFAULT, later))
    assert isinstance(left, Left)
    assert left.outcome == "unchanged"


@given(
    st.lists(st.sampled_from(["reprice-new", "reprice-old", "reverse"]), max_size=6), st.integers(0, 10**6), st.integers(0, 10**6)
)
def test_however_often_an_entry_is_corrected_its_chain_sums_to_what_counts_last(
    steps: list[str], sent: int, answered: int
) -> None:
    every = [charged(resource_usage={"input_tokens": sent, "output_tokens": answered})]
    counting: LedgerEntry | None = every[0]
    for step in steps:
        if counting is None:
            break
        action: Literal["reverse", "reprice"] = "reverse" if step == "reverse" else "reprice"
        found = corrected(counting, action, book=NEW if step == "reprice-new" else OLD)
        if isinstance(found, Correction):
            every += found.entries()
            counting = found.adjustment
    assert sum(one.cost_usd for one in every) == (counting.cost_usd if counting else 0)
    assert len({one.entry_id for one in every}) == len(every)


async def in_force(client: Client) -> str:
    """Puts the half-price agreement into the bucket as cost would, and names its version."""
    bucket = await TypedBucket.open(client, "prices", Revision)
    stored = await TypedBucket.open(client, "prices", StoredBook)
    if await stored.get(book_key(DEFAULT.version)) is None:
        await stored.put(book_key(DEFAULT.version), StoredBook.pack(DEFAULT, at=NOW, by="me", reason="test"))
    await bucket.put(revision_key(9), REVISION)
    return REVISION.version


async def references(client: Client) -> list[EntryReference]:
    """Every charge in LEDGER."""
    return [
        EntryReference(sequence=message.sequence, entry_id=one["entry_id"])
        for message in await messages(client, "LEDGER", "ledger.*")
        for one in map(orjson.loads, lines(message.data))
    ]


async def charges(server: EmbeddedServer, client: Client, data: Path, count: int) -> list[EntryReference]:
    """So many charges, written by cost."""
    async with running(attach, server, data):
        for number in range(0, count, 50):
            made = [accepted_line(event_id=str(uuid4())) for _ in range(min(50, count - number))]
            await publish(client, SUBJECT, b"\n".join(made), headers={CONTENT_TYPE: NDJSON})
        await priced(client)
    return await references(client)


async def ask(client: Client, asked: CorrectionRequest, timeout_s: float = 10) -> CorrectionAnswer | str:
    message = await client.request(
        subjects.cost_corrections("operator"), asked.model_dump_json(exclude_none=True).encode(), timeout=timeout_s
    )
    if (message.headers or {}).get("Agentops-Error"):
        refused: str = orjson.loads(message.data)["message"]
        return refused
    return CorrectionAnswer.model_validate_json(message.data)


async def done(client: Client, asked: CorrectionRequest) -> CorrectionAnswer:
    answer = await ask(client, asked)
    assert isinstance(answer, CorrectionAnswer), answer
    return answer


async def total(client: Client) -> Decimal:
    return sum((one.cost_usd for one in await ledger(client)), Decimal(0))


def once_each(entries: Sequence[LedgerEntry], wanted: int) -> None:
    """Every id stands once; so many were reversed and adjusted."""
    assert max(Counter(one.entry_id for one in entries).values()) == 1
    assert Counter(one.kind for one in entries if one.kind != "charge") == {"reversal": wanted, "adjustment": wanted}


async def test_corrections_are_stored_before_they_are_answered_covered_audited_and_never_made_twice(
    server: EmbeddedServer, client: Client, tmp_path: Path
) -> None:
    every = await charges(server, client, tmp_path, 20)
    before, version = await total(client), await in_force(client)
    asked = request("reprice", every, version)
    async with running(attach, server, tmp_path):
        answer = await done(client, asked)
        assert (answer.corrected, answer.before_usd, answer.after_usd * 2, answer.left) == (20, before, before, ())
        assert await total(client) * 2 == before
        again = await done(client, asked)
        assert (again.corrected, {one.outcome for one in again.left}) == (0, {"already"})
        other = await done(client, request("reverse", every[:3]))
        assert (other.corrected, [one.outcome for one in other.left]) == (0, ["already"] * 3)
    once_each(await ledger(client), 20)
    assert {m.subject for m in await messages(client, "LEDGER", "ledger.*.>")} == {"ledger.acme.corrections.20261120"}
    (record,) = [Coverage.model_validate_json(m.data) for m in await messages(client, "LEDGER", f"covered.cost.{CORRECTIONS}")]
    assert (record.valid, record.first_sequence, record.last_sequence, record.input_stream) == (40, 1, 1, "corrections")
    told = [AuditRecord.model_validate_json(m.data) for m in await messages(client, "AUDIT", "audit.>")]
    assert {(one.actor, one.action, one.reason, one.tenant_id, one.agent_id) for one in told[:2]} == {
        ("operator", "ledger.reprice", "contract", "acme", "ledger")
    }
    assert told[0].params["corrected"] == 20
    assert told[0].params["version"] == version


async def test_a_restarted_cost_knows_what_was_corrected_before(server: EmbeddedServer, client: Client, tmp_path: Path) -> None:
    every, version = await charges(server, client, tmp_path, 6), await in_force(client)
    for part in (every[:3], every, every):
        async with running(attach, server, tmp_path):
            await done(client, request("reprice", part, version))
    once_each(await ledger(client), 6)


async def test_two_people_and_two_instances_at_once_correct_every_entry_once(
    server: EmbeddedServer, client: Client, tmp_path: Path
) -> None:
    every, version = await charges(server, client, tmp_path, 60), await in_force(client)
    async with running(attach, server, tmp_path, "one"), running(attach, server, tmp_path, "two"):
        chance = random.Random(1)
        asked = [request("reprice", chance.sample(every, 40), version) for _ in range(8)]
        answers = await asyncio.gather(*(ask(client, each, 30) for each in asked))
        left = await done(client, request("reprice", every, version))
    made = [answer for answer in answers if isinstance(answer, CorrectionAnswer)]
    assert len(made) == 8, answers
    once_each(await ledger(client), 60)
    assert sum(answer.corrected for answer in made) + left.corrected == 60


async def test_a_rival_that_corrects_between_look_and_write_is_noticed_by_the_fence(
    server: EmbeddedServer, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    every = await charges(server, client, tmp_path, 4)
    one, two = Corrections(client, "one"), Corrections(client, "two")
    read = one._corrected.of
    asked = request("reprice", every, NEW.version)
    rivals = [two]

    async def slowly(tenant: str, day: str) -> Day:
        known = replace(await read(tenant, day))
        if rivals:
            await rivals.pop().carry_out(asked, NEW, "two", NOW)
        return known

    monkeypatch.setattr(one._corrected, "of", slowly)
    answer = await one.carry_out(asked, NEW, "one", NOW)
    assert (answer.corrected, {left.outcome for left in answer.left}) == (0, {"already"})
    once_each(await ledger(client), 4)


async def test_kill_nine_of_cost_while_it_corrects_and_asking_again_corrects_everything_once(
    server: EmbeddedServer, client: Client, tmp_path: Path
) -> None:
    every, version = await charges(server, client, tmp_path, 1000), await in_force(client)
    before, log = await total(client), tmp_path / "cost.log"
    parts = [request("reprice", every[start : start + 100], version) for start in range(0, len(every), 100)]
    chance = random.Random(5)
    process = await child(server, tmp_path, log, "cost")
    kills = 0
    for part in parts:
        while True:
            asking = asyncio.create_task(ask(client, part, 2.0))
            if kills < 5 and chance.random() < 0.6:
                await asyncio.sleep(chance.random() * 0.06)
                process.kill()
                await process.wait()
                kills += 1
                process = await child(server, tmp_path, log, "cost")
            try:
                answer = await asking
            except (nats.errors.NoRespondersError, nats.errors.TimeoutError, TimeoutError):
                await asyncio.sleep(0.1)
                continue
            assert isinstance(answer, CorrectionAnswer), answer
            break
    process.terminate()
    await process.wait()
    assert kills >= 3
    once_each(await ledger(client), 1000)
    assert await total(client) * 2 == before


@pytest.mark.parametrize(("whole", "stand"), [(False, 9), (True, 20)], ids=["half of it stands", "its record lacks"])
async def test_a_torn_batch_leaves_no_entry_reversed_and_not_charged_anew_and_asking_again_completes_it(
    whole: bool, stand: int, server: EmbeddedServer, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    every = await charges(server, client, tmp_path, 20)
    before, own = await total(client), await connect(server.settings(), "writer")
    monkeypatch.setattr(corrections, "_MOST", 3)
    tearing = Tearing("cost", deadly=True, partition=CORRECTIONS, whole=whole)
    tearing.install(monkeypatch)
    dying = asyncio.create_task(Corrections(own, "one").carry_out(request("reprice", every, NEW.version), NEW, "one", NOW))
    await asyncio.wait_for(tearing.happened.wait(), 10)
    await until(lambda: own.is_closed, "the writer is gone")
    dying.cancel()
    once_each(await ledger(client), stand)
    assert await total(client) == before * (40 - stand) / 40, "what stands costs half"
    answer = await Corrections(client, "two").carry_out(request("reprice", every, NEW.version), NEW, "two", NOW)
    assert (answer.corrected, Counter(left.outcome for left in answer.left)) == (20 - stand, {"already": stand})
    once_each(await ledger(client), 20)
    assert await total(client) * 2 == before
    (record,) = [Coverage.model_validate_json(m.data) for m in await messages(client, "LEDGER", f"covered.cost.{CORRECTIONS}")]
    assert (record.valid, sum(part.events for part in record.torn or ())) == (40, 2 * stand)


async def test_what_is_not_in_the_ledger_or_another_tenants_is_missing_and_the_rest_is_corrected(
    server: EmbeddedServer, client: Client, tmp_path: Path
) -> None:
    every, version = await charges(server, client, tmp_path, 2), await in_force(client)
    strange = [EntryReference(sequence=9999, entry_id="x"), EntryReference(sequence=every[0].sequence, entry_id="y")]
    async with running(attach, server, tmp_path):
        answer = await done(client, request("reprice", [*every, *strange], version))
        assert (answer.corrected, [one.outcome for one in answer.left]) == (2, ["missing", "missing"])
        other = await done(client, request("reverse", every, tenant="globex"))
        assert (other.corrected, [one.outcome for one in other.left]) == (0, ["missing", "missing"])
        assert "no revision 77" in str(await ask(client, request("reprice", every, f"{DEFAULT.version}+r77")))
        bad = await client.request(subjects.cost_corrections("operator"), b'{"entries":[]}', timeout=5)
        assert (bad.headers or {})["Agentops-Error"] == "1"
    once_each(await ledger(client), 2)


async def test_charges_go_on_while_corrections_are_written_and_neither_fences_the_other(
    server: EmbeddedServer, client: Client, tmp_path: Path
) -> None:
    every, version = await charges(server, client, tmp_path, 100), await in_force(client)
    async with running(attach, server, tmp_path):

        async def produce() -> None:
            for _ in range(100):
                await publish(client, SUBJECT, accepted_line(event_id=str(uuid4())))

        producing = asyncio.create_task(produce())
        for start in range(0, 100, 10):
            await done(client, request("reprice", every[start : start + 10], version))
        await producing
        await priced(client)
    entries = await ledger(client)
    once_each(entries, 100)
    assert sum(one.kind == "charge" for one in entries) == 200
    for partition in (0, CORRECTIONS):
        found = [Coverage.model_validate_json(m.data) for m in await messages(client, "LEDGER", f"covered.cost.{partition}")]
        assert [one.first_sequence for one in found] == [1, *(one.last_sequence + 1 for one in found[:-1])]
