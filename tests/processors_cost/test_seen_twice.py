"""Cost at work on calls that several observers report: one standing charge each, through restarts, rivals, corrections and kills."""

import asyncio
import random
import shutil
from collections import Counter
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path

import pytest
from nats.aio.client import Client

from processors.cost.app import Cost, attach
from processors.cost.corrected import Corrected
from processors.covered_loop import StartOverError
from schemas.ledger import LedgerEntry
from streams.covering import Position
from streams.embedded import EmbeddedServer
from streams.messages import CONTENT_TYPE, NDJSON
from streams.publish import publish
from tests.conftest import until
from tests.processors_cost.test_corrections import done, in_force, references, request
from tests.processors_cost.test_cost import SUBJECT, priced
from tests.processors_cost.test_recognising import cost, seen
from tests.processors_validate.running import ledger, records, running
from tests.processors_validate.test_killed import child


async def say(client: Client, *events: bytes) -> None:
    """Stores ``events`` in EVENTS as one message, as validate would."""
    await publish(client, SUBJECT, b"\n".join(events), headers={CONTENT_TYPE: NDJSON})


def standing(entries: Sequence[LedgerEntry]) -> list[LedgerEntry]:
    """What counts today."""
    gone = {one.corrects for one in entries if one.kind == "reversal"}
    return [one for one in entries if one.kind != "reversal" and one.duplicate_of is None and one.entry_id not in gone]


def spent(entries: Sequence[LedgerEntry]) -> Decimal:
    return sum((one.cost_usd for one in entries), Decimal(0))


def no_id_twice(entries: Sequence[LedgerEntry]) -> None:
    assert max(Counter(one.entry_id for one in entries).values()) == 1


@pytest.mark.parametrize("lost", [False, True], ids=["index kept", "index lost"])
async def test_a_call_seen_before_a_restart_is_known_after_it(
    server: EmbeddedServer, client: Client, tmp_path: Path, lost: bool
) -> None:
    first, again = seen("proxy", "resp_1", "s1"), seen("otel", None, "s1")
    rough, exact = seen("proxy", "resp_2", estimated=True, sent=900), seen("otel", "resp_2")
    async with running(attach, server, tmp_path):
        await say(client, first, rough)
        await priced(client)
    if lost:
        shutil.rmtree(tmp_path / "index")
    async with running(attach, server, tmp_path):
        await say(client, again, exact)
        await priced(client)
    entries = await ledger(client)
    no_id_twice(entries)
    assert spent(entries) == cost(first) + cost(exact)
    assert [(one.kind, one.reason) for one in entries] == [
        ("charge", "priced"), ("charge", "priced"), ("charge", "duplicate_call"), ("charge", "priced"), ("reversal", "duplicate_call"),
    ]  # fmt: skip
    covered = await records(client, "cost")
    assert sum(one.valid for one in covered) == 5
    assert sum(one.valid_by_kind["model_call"] for one in covered) == 4


async def test_a_repriced_call_seen_again_by_who_knows_better_is_taken_back_as_it_counts_today(
    server: EmbeddedServer, client: Client, tmp_path: Path
) -> None:
    rough, exact = seen("otel", "resp_1", estimated=True, sent=900), seen("proxy", "resp_1")
    async with running(attach, server, tmp_path):
        await say(client, rough)
        await priced(client)
        version = await in_force(client)
        await done(client, request("reprice", await references(client), version))
        await say(client, exact)
        await priced(client)
        entries = await ledger(client)
        no_id_twice(entries)
        (counts,) = standing(entries)
        assert spent(entries) == counts.cost_usd == cost(exact) / 2, "by the agreement that is in force by now"
        answer = await done(client, request("reprice", await references(client), version))
    assert (answer.corrected, {one.outcome for one in answer.left}) == (0, {"already", "unchanged"})


async def test_what_a_person_has_taken_back_stays_so_whoever_saw_the_call_besides(
    server: EmbeddedServer, client: Client, tmp_path: Path
) -> None:
    async with running(attach, server, tmp_path):
        await say(client, seen("otel", "resp_1", estimated=True))
        await priced(client)
        await done(client, request("reverse", await references(client)))
        await say(client, seen("proxy", "resp_1"))
        await priced(client)
        entries = await ledger(client)
        answer = await done(client, request("reprice", await references(client), await in_force(client)))
    assert spent(entries) == 0
    assert entries[-1].reason == "duplicate_call"
    assert {one.outcome for one in answer.left} == {"already", "duplicate"}


async def test_a_correction_written_while_cost_takes_the_same_entry_back_is_noticed(
    server: EmbeddedServer, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(attach, server, tmp_path, "one"):
        await say(client, seen("otel", "resp_1", estimated=True))
        await priced(client)
        asked = request("reverse", await references(client))
        read, rivals = Corrected.of, [asked]

        async def slowly(self: Corrected, tenant: str, day: str) -> object:
            known = await read(self, tenant, day)
            if rivals and "_recognise" in str(asyncio.current_task().get_stack()):  # type: ignore[union-attr]
                await done(client, rivals.pop())
            return known

        monkeypatch.setattr(Corrected, "of", slowly)
        await say(client, seen("proxy", "resp_1"))
        await priced(client, 30)
    entries = await ledger(client)
    no_id_twice(entries)
    assert Counter(one.kind for one in entries)["reversal"] == 1


async def test_two_instances_charge_each_call_once(server: EmbeddedServer, client: Client, tmp_path: Path) -> None:
    pairs = [(seen("proxy", f"resp_{n}", sent=1000 + n), seen("otel", f"resp_{n}", sent=1000 + n)) for n in range(60)]
    async with running(attach, server, tmp_path / "a", "one"), running(attach, server, tmp_path / "b", "two"):
        for proxy, otel in pairs:
            await say(client, proxy)
            await say(client, otel)
        await priced(client, 30)
    entries = await ledger(client)
    no_id_twice(entries)
    assert spent(entries) == sum(cost(proxy) for proxy, _ in pairs)
    assert len(standing(entries)) == 60


async def test_kill_nine_while_calls_are_seen_twice_leaves_one_charge_a_call(
    server: EmbeddedServer, client: Client, tmp_path: Path
) -> None:
    chance, calls = random.Random(11), 400
    total, sightings = Decimal(0), []
    for n in range(calls):
        rough = n % 3 == 0
        first = seen("otel", f"resp_{n}", f"s{n}", sent=500 + n, estimated=rough)
        second = seen("proxy", f"resp_{n}" if n % 2 else None, f"s{n}", sent=600 + n if rough else 500 + n)
        total += cost(second)
        sightings += [(n + chance.random(), first), (n + chance.random() * 80, second)]
    every = [one for _, one in sorted(sightings)]
    log = tmp_path / "cost.log"
    process = await child(server, tmp_path, log, "cost")
    kills = 0
    for start in range(0, len(every), 20):
        await say(client, *every[start : start + 20])
        if start % 160 == 0:
            seen_so_far = len(await records(client, "cost"))

            async def gone_on(before: int = seen_so_far) -> bool:
                return len(await records(client, "cost")) > before

            await until(gone_on, "cost works", 60)
            await asyncio.sleep(chance.random() * 0.1)
            process.kill()
            await process.wait()
            kills += 1
            process = await child(server, tmp_path, log, "cost")
    await priced(client, 60)
    process.terminate()
    await process.wait()
    entries = await ledger(client)
    no_id_twice(entries)
    assert kills >= 4
    assert sum(one.kind == "charge" for one in entries) == 2 * calls
    assert len(standing(entries)) == calls
    assert spent(entries) == total


async def test_nothing_is_priced_while_less_is_known_than_the_record_it_goes_on_from(
    server: EmbeddedServer, client: Client, tmp_path: Path
) -> None:
    """As when the replica that was read lags behind the one that told of the record."""
    async with running(attach, server, tmp_path) as supervised:
        await say(client, seen("proxy", "resp_1"))
        await priced(client)
        processor = supervised.processor
        assert isinstance(processor, Cost)
        loop = processor._loop
        assert loop is not None
        await until(lambda: loop.writer.position.record_sequence > 0, "cost knows itself what it has covered")
        position = loop.writer.position
        loop.writer.position = Position(position.covered, position.record_sequence + 7)
        with pytest.raises(StartOverError, match="the newest record stands at"):
            await processor.open()
        loop.writer.position = position
        await processor.open()
