"""Prices in force: kept in the bucket, changed through cost by a known user, picked up by the next call, found again for ever."""

import asyncio
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import uuid4

import orjson
import pytest
from nats.aio.client import Client

from processors.cost import snapshot
from processors.cost.app import attach
from processors.cost.changing import Change, Refused, Stays, change, moved_along
from processors.cost.prices import Prices
from schemas.commands import AuditRecord
from schemas.prices.book import Book, Model, Offer, Provider, Rule, StoredBook
from schemas.prices.overrides import Override, PriceChange, PriceChanged, Revision, revision_key
from streams import subjects
from streams.connect import connect
from streams.embedded import EmbeddedServer
from streams.kv import TypedBucket
from streams.prices import PriceShelf
from streams.publish import publish
from tests.conftest import until
from tests.processors_cost.test_cost import SUBJECT, priced
from tests.processors_cost.test_entries import accepted_line
from tests.processors_validate.running import ledger, messages, running

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
HALF = Override(override_id="half", provider="openai", discount_percent=Decimal(50))
OWN = Book(
    version="ours-1",
    providers=(Provider(id="openai", models=(Model(id="gpt-4o-mini", match=Rule(equals="gpt-4o-mini"), offers=(Offer(prices={"input": Decimal(7)}),)),)),),
)  # fmt: skip


def wanted(action: str, revision: int, **fields: Any) -> PriceChange:
    return PriceChange.model_validate(
        {"change_id": uuid4().hex, "action": action, "revision": revision, "reason": "why not"} | fields
    )


async def ask(client: Client, request: PriceChange, user: str = "operator") -> PriceChanged | str:
    message = await client.request(subjects.cost_prices(user), request.model_dump_json(exclude_none=True).encode(), timeout=10)
    if (message.headers or {}).get("Agentops-Error"):
        refused: str = orjson.loads(message.data)["message"]
        return refused
    return PriceChanged.model_validate_json(message.data)


async def made(client: Client, request: PriceChange) -> PriceChanged:
    answer = await ask(client, request)
    assert isinstance(answer, PriceChanged), answer
    return answer


async def newest(client: Client) -> Revision:
    found = await (await PriceShelf.open(client)).newest()
    assert found is not None
    return found


async def test_the_default_book_lies_in_the_bucket_once_cost_has_started_and_stays_as_it_is(
    server: EmbeddedServer, client: Client, tmp_path: Path
) -> None:
    for _ in range(2):
        async with running(attach, server, tmp_path, "one"), running(attach, server, tmp_path, "two"):
            pass
    shelf = await PriceShelf.open(client)
    default = snapshot.default()
    assert [book.version for book in await shelf.every_book()] == [default.version]
    assert [(one.number, one.version, one.by) for one in await shelf.every_revision()] == [(1, default.version, "cost")]
    assert await shelf.book(default.version) == default


async def test_a_change_is_picked_up_by_the_next_call_and_every_entry_names_the_version_that_priced_it(
    server: EmbeddedServer, client: Client, tmp_path: Path
) -> None:
    default = snapshot.default().version
    async with running(attach, server, tmp_path):
        await publish(client, SUBJECT, accepted_line())
        await priced(client)
        answer = await made(client, wanted("set", 1, override=HALF.model_dump()))
        assert (answer.revision, answer.version) == (2, f"{default}+r2")
        await publish(client, SUBJECT, accepted_line())
        await priced(client)
        await made(client, wanted("remove", 2, override_id="half"))
        await publish(client, SUBJECT, accepted_line())
        await priced(client)
    entries = await ledger(client)
    assert [(one.price_book_version, one.price_override) for one in entries] == [
        (default, None),
        (f"{default}+r2", "half"),
        (default, None),
    ]
    assert entries[1].cost_usd * 2 == entries[0].cost_usd == entries[2].cost_usd
    shelf = await PriceShelf.open(client)
    for entry in entries:
        book = await shelf.version(entry.price_book_version)
        assert bool(book.overrides) == (entry.price_override is not None)


async def test_another_instance_picks_the_change_up_from_the_bucket(server: EmbeddedServer, client: Client) -> None:
    others = [await connect(server.settings(), f"prices-{number}") for number in range(2)]
    one, two = (Prices(each) for each in others)
    await one.open()
    await two.open()
    following = asyncio.create_task(two.follow())

    async def told(_: PriceChanged) -> None:
        return

    for number in range(1, 4):
        answer = await one.make(
            wanted("set", number, override=HALF.model_dump() | {"override_id": f"o{number}", "service_tier": f"t{number}"}),
            "me",
            NOW,
            told,
        )
        assert isinstance(answer, PriceChanged)
    await until(lambda: two.revision is not None and two.revision.number == 4, "the other has the newest")
    assert two.book is not None
    assert [each.override_id for each in two.book.overrides] == ["o1", "o2", "o3"]
    following.cancel()
    await asyncio.wait([following])
    for each in others:
        await each.close()


async def test_of_two_changes_at_once_one_is_made_and_the_other_told_to_look_again(
    server: EmbeddedServer, client: Client, tmp_path: Path
) -> None:
    async with running(attach, server, tmp_path, "one"), running(attach, server, tmp_path, "two"):
        changes = [
            wanted(
                "set",
                1,
                override=HALF.model_copy(update={"override_id": f"o{number}", "service_tier": f"t{number}"}).model_dump(),
            )
            for number in range(6)
        ]
        answers = await asyncio.gather(*(ask(client, each) for each in changes))
    done = [answer for answer in answers if isinstance(answer, PriceChanged)]
    assert len(done) == 1
    assert all("look again" in answer for answer in answers if isinstance(answer, str))
    assert [one.override_id for one in (await newest(client)).overrides] == [done[0].change.split()[1]]


async def test_a_change_asked_again_after_a_lost_answer_is_made_once(
    server: EmbeddedServer, client: Client, tmp_path: Path
) -> None:
    request = wanted("set", 1, override=HALF.model_dump())
    async with running(attach, server, tmp_path):
        assert await made(client, request) == await made(client, request)
    assert (await newest(client)).number == 2


async def test_who_changed_what_and_why_is_audited_under_the_pinned_user(
    server: EmbeddedServer, client: Client, tmp_path: Path
) -> None:
    operator = await connect(server.settings("operator"), "op")
    async with running(attach, server, tmp_path):
        await made(operator, wanted("set", 1, override=HALF.model_copy(update={"tenant": "acme"}).model_dump()))
        with pytest.raises(Exception, match="imeout|permission"):
            await operator.request(subjects.cost_prices("root"), b"{}", timeout=0.5)
    await operator.close()
    (message,) = await messages(client, "AUDIT", "audit.>")
    record = AuditRecord.model_validate_json(message.data)
    assert message.subject == "audit.acme.prices"
    assert (record.actor, record.action, record.reason, record.outcome) == ("operator", "prices.set", "why not", "success")
    assert record.params["override"]["override_id"] == "half"
    assert (await newest(client)).by == "operator"


async def test_an_imported_book_prices_once_it_is_used_and_its_version_never_changes(
    server: EmbeddedServer, client: Client, tmp_path: Path
) -> None:
    stored = StoredBook.pack(OWN, at=NOW, by="me", reason="ours")
    other = StoredBook.pack(OWN.model_copy(update={"providers": ()}), at=NOW, by="me", reason="ours")
    async with running(attach, server, tmp_path):
        assert "imported" in (await made(client, wanted("import", 1, book=stored.model_dump()))).change
        assert (await newest(client)).number == 1
        assert "versions never change" in str(await ask(client, wanted("import", 1, book=other.model_dump())))
        assert "no price book 'ours-2'" in str(await ask(client, wanted("use", 1, version="ours-2")))
        await made(client, wanted("use", 1, version="ours-1"))
        await publish(client, SUBJECT, accepted_line())
        await priced(client)
    async with running(attach, server, tmp_path):
        await publish(client, SUBJECT, accepted_line())
        await priced(client)
        await made(client, wanted("use", 2))
    assert [(one.price_book_version, one.cost_usd) for one in await ledger(client)] == [("ours-1", Decimal("0.007"))] * 2
    assert (await newest(client)).follows_default


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b'{"action":"set"}', b'{"change_id":"x","action":"set","revision":1,"reason":"y"}']
)
async def test_a_request_that_is_none_is_refused_and_cost_goes_on(
    server: EmbeddedServer, client: Client, tmp_path: Path, data: bytes
) -> None:
    async with running(attach, server, tmp_path):
        message = await client.request(subjects.cost_prices("operator"), data, timeout=5)
        assert (message.headers or {})["Agentops-Error"] == "1"
        assert orjson.loads(message.data)["errors"]
        await made(client, wanted("set", 1, override=HALF.model_dump()))


async def test_a_revision_written_by_hand_that_names_no_book_changes_nothing(
    server: EmbeddedServer, client: Client, tmp_path: Path
) -> None:
    async with running(attach, server, tmp_path):
        bucket = await TypedBucket.open(client, "prices", Revision)
        await bucket.update(revision_key(2), Revision(number=2, book="nowhere", at=NOW, by="hand", reason="?"), 0)
        await publish(client, SUBJECT, accepted_line())
        await priced(client)
    (entry,) = await ledger(client)
    assert entry.price_book_version == snapshot.default().version


def test_the_default_moves_along_unless_a_book_was_chosen() -> None:
    first = moved_along(None, "d1", NOW, "cost")
    assert first is not None
    assert (first.number, first.book) == (1, "d1")
    assert moved_along(first, "d1", NOW, "cost") is None
    agreed = first.model_copy(update={"number": 5, "overrides": (HALF,), "change_id": "c"})
    second = moved_along(agreed, "d2", NOW, "cost")
    assert second is not None
    assert (second.number, second.book, second.overrides, second.change_id) == (6, "d2", (HALF,), None)
    assert moved_along(first.model_copy(update={"follows_default": False}), "d2", NOW, "cost") is None


def test_what_a_change_makes_of_what_is_in_force() -> None:
    first = Revision(number=1, book="d1", at=NOW, by="cost", reason="first")
    done = change(first, wanted("set", 1, override=HALF.model_dump()), "me", NOW, "d1")
    assert isinstance(done, Change)
    assert (done.revision.number, done.revision.overrides, done.revision.by, done.what) == (2, (HALF,), "me", "override half set")
    rival = HALF.model_copy(update={"override_id": "rival", "discount_percent": Decimal(60)})
    refused = change(done.revision, wanted("set", 2, override=rival.model_dump()), "me", NOW, "d1")
    assert isinstance(refused, Refused)
    assert "'half' holds for the same calls" in refused.why
    again = change(
        done.revision, wanted("set", 2, override=rival.model_copy(update={"override_id": "half"}).model_dump()), "me", NOW, "d1"
    )
    assert isinstance(again, Change)
    assert (len(again.revision.overrides), again.what) == (1, "override half changed")
    assert isinstance(change(first, wanted("remove", 1, override_id="none"), "me", NOW, "d1"), Refused)
    assert isinstance(change(first, wanted("use", 1, version="d1"), "me", NOW, "d1"), Change)
    assert isinstance(change(first, wanted("use", 1), "me", NOW, "d1"), Refused)
    assert isinstance(
        change(first, wanted("import", 1, book=StoredBook.pack(OWN, at=NOW, by="me", reason="r").model_dump()), "me", NOW, "d1"),
        Stays,
    )
    assert isinstance(change(first, wanted("set", 9, override=HALF.model_dump()), "me", NOW, "d1"), Refused)
