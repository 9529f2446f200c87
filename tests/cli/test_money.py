"""Prices and the ledger from the command line, with a real server, a real cost and a real warehouse behind it."""

import asyncio
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import uuid4

import orjson
import pytest
from nats.aio.client import Client

from agent_manager.cli.query.asking import ask
from processors.aggregate.app import attach as attach_aggregate
from processors.cost import snapshot
from processors.cost.app import attach as attach_cost
from schemas.ledger import LedgerEntry
from streams.embedded import EmbeddedServer
from streams.messages import CONTENT_TYPE, EVENT_COUNT, NDJSON
from streams.publish import publish
from tests.cli.calling import ROOT, Said, agentops, environment, operator
from tests.conftest import until
from tests.processors_cost.test_cost import SUBJECT, priced
from tests.processors_cost.test_entries import accepted_line
from tests.processors_validate.running import ledger, running

DEFAULT = snapshot.default().version
TODAY = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0)
DAY = TODAY - timedelta(days=2)


def call(
    model: str, provider: str = "openai", at: datetime = DAY, *, sent: int = 100_000, answered: int = 10_000, **more: Any
) -> bytes:
    """A line of ``events.acme.model_call``."""
    made = orjson.loads(
        accepted_line(
            event_id=str(uuid4()),
            model_call={"model_call_id": uuid4().hex, "provider": provider, "model": model} | more.pop("of_call", {}),
            resource_usage={"input_tokens": sent, "output_tokens": answered} | more.pop("usage", {}),
            **more,
        )
    )
    return orjson.dumps(made | {"occurred_at": at.isoformat()})


class Money:
    """A running system, and a command line that stays for several commands."""

    def __init__(self, client: Client, shell: asyncio.subprocess.Process) -> None:
        self.client = client
        self._shell = shell
        self._one = asyncio.Lock()

    async def say(self, *arguments: str) -> Said:
        assert self._shell.stdin is not None
        assert self._shell.stdout is not None
        async with self._one, asyncio.timeout(60):
            self._shell.stdin.write(orjson.dumps(arguments) + b"\n")
            return Said(**orjson.loads(await self._shell.stdout.readline()))

    async def json(self, *arguments: str) -> Any:
        return (await self.say(*arguments, "--json")).json()

    async def applied(self) -> None:
        """Waits until the warehouse has all of LEDGER."""

        async def whole() -> bool:
            last = (await self.client.jsm().stream_info("LEDGER")).state.last_seq
            page = await ask(self.client, "status", {})
            return any(row["stream"] == "LEDGER" and row["applied_sequence"] >= last for row in page.rows)

        await until(whole, "the warehouse has applied the ledger", 20)

    async def happened(self, *calls: bytes) -> None:
        """Calls that are charged and in the warehouse when this returns."""
        await publish(self.client, SUBJECT, b"\n".join(calls), headers={CONTENT_TYPE: NDJSON, EVENT_COUNT: str(len(calls))})
        await priced(self.client)
        await self.applied()

    async def spent(self) -> Decimal:
        return sum((one.cost_usd for one in await ledger(self.client)), Decimal(0))


@pytest.fixture
async def money(server: EmbeddedServer, client: Client, tmp_path: Path) -> AsyncIterator[Money]:
    async with running(attach_cost, server, tmp_path, "cost"), running(attach_aggregate, server, tmp_path, "aggregate"):
        shell = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "tests.cli.shell", env=environment(**operator(server)), cwd=ROOT, limit=2**26,
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            yield Money(client, shell)
        finally:
            shell.kill()
            await shell.wait()


async def test_an_agreement_is_set_shown_and_in_the_history_and_wrong_ones_are_refused_by_name(money: Money) -> None:
    said = await money.say("prices", "set", "-p", "OpenAI", "-m", "gpt-4o", "--discount", "12.5", "-r", "contract", "-t", "acme")
    assert f"override acme-openai-gpt-4o set. In force: {DEFAULT}+r2 (revision 2)" in said.out, said.err
    overview, shown, other, history = await asyncio.gather(
        money.json("prices", "list"), money.json("prices", "show", "openai/gpt-4o", "-t", "acme"), money.json("prices", "show", "openai/gpt-4o"),
        money.json("prices", "history"),
    )  # fmt: skip
    assert [one["override_id"] for one in overview["agreements"]] == ["acme-openai-gpt-4o"]
    assert Decimal(shown["steps"][0]["prices"]["input"]) == Decimal(other["steps"][0]["prices"]["input"]) * Decimal("0.875")
    assert (shown["agreement"], other["agreement"]) == ("acme-openai-gpt-4o", None)
    assert [(one["revision"], one["by"], one["reason"]) for one in history["revisions"]] == [
        (1, "cost", "the first prices"),
        (2, "operator", "contract"),
    ]
    refusals = await asyncio.gather(
        money.say("prices", "set", "-p", "openai", "--price", "toks=1", "-r", "x"), money.say("prices", "set", "-p", "openai", "--discount", "much", "-r", "x"),
        money.say("prices", "set", "-p", "openai", "-r", "x"), money.say("prices", "set", "-p", "openai", "--discount", "5", "--from", "soon", "-r", "x"),
        money.say("prices", "show", "gpt-4o"), money.say("prices", "list", "-p", "nobody"),
    )  # fmt: skip
    wanted = [
        "'toks=1' is not UNIT=USD",
        "--discount: 'much' is not a number",
        "say either --discount or --price",
        "--from: 'soon'",
        "is not PROVIDER/MODEL",
        "knows no provider 'nobody'",
    ]
    for one, text in zip(refusals, wanted, strict=True):
        assert text in one.failed(2)
    assert "no override 'none'" in (await money.say("prices", "remove", "none", "-r", "x")).failed()
    assert "unpriced" in (await money.say("prices", "show", "openai/nothing")).failed()


async def test_a_book_is_exported_changed_imported_used_and_compared(money: Money, tmp_path: Path) -> None:
    book = orjson.loads((await money.say("prices", "export")).out)
    assert book["version"] == DEFAULT
    openai = next(one for one in book["providers"] if one["id"] == "openai")
    mini = next(one for one in openai["models"] if one["id"] == "gpt-4o-mini")
    mini["offers"][-1]["prices"]["input"] = "99"
    file = tmp_path / "book.json"
    file.write_bytes(orjson.dumps(book))
    assert "versions never change" in (await money.say("prices", "import", str(file), "-r", "x")).failed()
    file.write_bytes(orjson.dumps(book | {"version": "ours-1"}))
    said = await money.say("prices", "import", str(file), "-r", "ours", "--use")
    assert f"book {DEFAULT} → ours-1. In force: ours-1" in said.out
    found = await money.json("prices", "diff", DEFAULT)
    assert [one["what"] for one in found["differences"]] == ["openai/gpt-4o-mini"]
    assert "input 99" in found["differences"][0]["after"]
    file.write_bytes(orjson.dumps(book | {"version": "ours 2"}))
    assert "$.version" in (await money.say("prices", "import", str(file), "-r", "x")).failed(2)
    file.write_bytes(b'{"version":"v","providers":[{"id":"a","models":[{"id":"m","match":{}}]}]}')
    assert "$.providers[0].models[0].match" in (await money.say("prices", "import", str(file), "-r", "x")).failed(2)


async def test_what_was_charged_is_verified_repriced_after_a_look_and_right_again(money: Money) -> None:
    calls = [call("gpt-4o"), call("gpt-4o", at=TODAY - timedelta(days=1)), call("gpt-4o-mini"), call("mine", "local")]
    await money.happened(*calls)
    before = await money.spent()
    assert "4 entries (0 of them corrections, 1 unpriced)" in (await money.say("ledger", "verify")).out
    await money.say("prices", "set", "-p", "openai", "-m", "gpt-4o", "--discount", "50", "-r", "contract")
    await money.say("prices", "set", "-p", "local", "-m", "mine", "--price", "input=1", "--price", "output=2", "-r", "own")
    look = await money.json("ledger", "reprice", "--from", "30d", "-r", "contract came late")
    assert (look["written"], look["total"]["entries"]) == (False, 3)
    assert await money.spent() == before
    wrote = await money.json("ledger", "reprice", "--from", "30d", "-r", "contract came late", "--yes")
    assert (wrote["corrected"], wrote["total"]) == (3, look["total"])
    after = await money.spent()
    assert after - before == Decimal(look["total"]["difference_usd"])
    assert Decimal(wrote["after_usd"]) - Decimal(wrote["before_usd"]) == after - before
    await money.applied()
    again = await money.json("ledger", "reprice", "--from", "30d", "-r", "contract came late", "--yes")
    assert (again["written"], again["total"]["entries"]) == (False, 0)
    assert await money.spent() == after
    verified, spend, days, unpriced = await asyncio.gather(
        money.json("ledger", "verify"), money.json("query", "spend", "--since", "30d"), money.json("query", "ledger_days", "--since", "30d"),
        money.json("ledger", "list", "--open"),
    )  # fmt: skip
    assert (verified["ok"], verified["entries"], verified["corrections"]) == (True, 10, 6)
    assert Decimal(spend["rows"][0]["cost_usd"]) == sum(Decimal(row["cost_usd"]) for row in days["rows"]) == after
    assert sum(row["entries"] for row in days["rows"]) == 4
    assert sum(row["unpriced"] for row in days["rows"]) == 0
    assert sum(Decimal(row["cost_usd"]) for row in unpriced) == after
    assert len(unpriced) == 4


async def test_an_entry_is_shown_with_its_prices_and_reversed_once_after_a_look(money: Money) -> None:
    await money.happened(call("gpt-4o", cost={"cost_usd": "0.3"}), call("gpt-4o"))
    rows = await money.json("ledger", "list")
    first = next(row for row in rows if row["client_cost_usd"] is not None)
    assert (first["client_cost_usd"], first["client_difference_usd"]) == ("0.300000000", "0.050000000")
    assert "nothing is written yet" in (await money.say("ledger", "reverse", first["entry_id"][:12], "-r", "test call")).err
    done = await money.json("ledger", "reverse", first["entry_id"][:12], "-r", "test call", "--yes")
    assert (done["written"], done["corrected"]) == (True, 1)
    await money.applied()
    assert await money.spent() == Decimal("0.35")
    shown = await money.json("ledger", "show", first["entry_id"])
    assert [(one["kind"], one["note"], one["corrected_by"]) for one in shown["same_call"]] == [
        ("reversal", "test call", "operator")
    ]
    assert "is reversed already" in (await money.say("ledger", "reverse", first["entry_id"], "-r", "again", "--yes")).failed(2)
    reversal = shown["same_call"][0]["entry_id"]
    assert "is itself a reversal" in (await money.say("ledger", "reverse", reversal, "-r", "no", "--yes")).failed(2)
    assert "has no entry 'nonsense'" in (await money.say("ledger", "show", "nonsense")).failed(2)
    assert (await money.json("ledger", "verify"))["ok"]


async def test_verify_finds_every_kind_of_wrong_entry_and_exits_with_one(money: Money) -> None:
    await money.happened(call("gpt-4o"))
    (good,) = await ledger(money.client)
    wrong = [
        good.model_copy(update={"entry_id": "too-dear", "cost_usd": good.cost_usd + Decimal("0.000000001")}),
        good.model_copy(update={"entry_id": "other-prices", "unit_prices": good.unit_prices.model_copy(update={"input": Decimal(1)}) if good.unit_prices else None, "cost_usd": Decimal("0.2")}),
        good.model_copy(update={"entry_id": "other-tokens", "input_tokens": 99_999}),
        good.model_copy(update={"entry_id": "no-such-book", "price_book_version": "gone-1"}),
        good.model_copy(update={"entry_id": "not-unpriced", "reason": "unpriced", "unit_prices": None, "priced_as": None, "cost_usd": Decimal(0)}),
        good.model_copy(update={"entry_id": "takes-too-much", "kind": "reversal", "corrects": good.entry_id, "cost_usd": -good.cost_usd * 2}),
        good.model_copy(update={"entry_id": "of-nothing", "kind": "adjustment", "corrects": "nothing"}),
    ]  # fmt: skip
    await publish(
        money.client,
        "ledger.acme",
        b"\n".join(one.model_dump_json(exclude_none=True).encode() for one in wrong),
        headers={CONTENT_TYPE: NDJSON, EVENT_COUNT: "7"},
    )
    await money.applied()
    said = await money.say("ledger", "verify", "--json")
    assert said.code == 1
    told = {one["entry_id"]: one["problem"] for one in orjson.loads(said.out)["problems"]}
    assert set(told) == {one.entry_id for one in wrong}
    for entry_id, text in {
        "too-dear": "unit prices and tokens give", "other-prices": "was charged 1 for input", "other-tokens": "tokens give",
        "no-such-book": "names the price book 'gone-1'", "not-unpriced": "is unpriced; by", "takes-too-much": "", "of-nothing": "corrects no entry there is",
    }.items():  # fmt: skip
        assert text in told[entry_id]
    assert LedgerEntry.model_validate_json(wrong[0].model_dump_json()).entry_id == "too-dear"


async def test_what_if_prices_history_otherwise_and_writes_nothing(money: Money) -> None:
    await money.happened(call("claude-sonnet-4-5", "anthropic"), call("claude-sonnet-4-5-20250929", "anthropic"), call("gpt-4o"))
    before = await ledger(money.client)
    found = await money.json(
        "ledger", "what-if", "--map", "claude-sonnet-4-5=claude-haiku-4-5", "--from", "30d", "--by", "day,model"
    )
    assert (found["total"]["before_usd"], found["total"]["after_usd"], found["untouched"]) == ("0.900000000", "0.300000000", 1)
    assert sum(Decimal(row["after_usd"]) for row in found["rows"]) == Decimal("0.3")
    await money.say("prices", "set", "-p", "openai", "--discount", "10", "-r", "maybe")
    other = await money.json("ledger", "what-if", "--book", f"{DEFAULT}+r2", "--from", "30d")
    assert Decimal(other["total"]["difference_usd"]) == Decimal("-0.035")
    across = await money.json(
        "ledger",
        "what-if",
        "--map",
        "gpt-4o=anthropic/claude-haiku-4-5",
        "--from",
        "30d",
        "--model",
        "gpt-4o",
        "--model",
        "openai/gpt-4o",
    )
    assert across["total"]["after_usd"] == "0.150000000"
    assert await ledger(money.client) == before
    assert "what if what?" in (await money.say("ledger", "what-if", "--from", "1d")).failed(2)
    assert "no model 'nix' at openai" in (
        await money.say("ledger", "what-if", "--from", "1d", "--map", "gpt-4o=openai/nix")
    ).failed(2)
    nobody = (await money.say("ledger", "what-if", "--from", "30d", "--map", "gpt-4o=nix-9")).failed(2)
    assert "no provider has a price for a model 'nix-9'" in nobody
    never = await money.say("ledger", "what-if", "--from", "30d", "--map", "gpt-5o=gpt-4o-mini")
    assert "nothing was called as 'gpt-5o'" in never.err


async def test_a_call_reported_by_two_events_is_charged_once_and_every_command_knows(money: Money) -> None:
    twice = {"response_id": "resp_1"}
    await money.happened(call("gpt-4o", of_call=twice), call("gpt-4o", of_call={"response_id": "resp_2"}), call("gpt-4o"))
    await money.happened(call("gpt-4o", of_call=twice), call("gpt-4o", "azure", of_call=twice, sent=90_000))
    assert await money.spent() == Decimal("0.35") * 3
    assert (await money.json("ledger", "duplicates"))["duplicates"] == []
    verified = await money.json("ledger", "verify")
    assert (verified["ok"], verified["entries"], verified["seen_again"]) == (True, 5, 2)
    listed = (await money.say("ledger", "list")).out
    assert listed.count("seen again: ") == 1
    assert "seen again, differs" in listed
    repriced = await money.json("ledger", "reprice", "--from", "30d", "--reason", "why", "--yes")
    assert repriced["total"]["entries"] == 0, "one more sighting is left alone"
    across = await money.json("ledger", "what-if", "--from", "30d", "--map", "gpt-4o=gpt-4o-mini")
    assert across["total"]["entries"] == 3


async def test_what_was_charged_twice_all_the_same_is_found_and_taken_back(money: Money) -> None:
    await money.happened(call("gpt-4o", of_call={"response_id": "resp_1"}), call("gpt-4o"))
    # As it was charged when calls were not recognised, or beyond the horizon.
    (first,) = [one for one in await ledger(money.client) if one.response_id == "resp_1"]
    again = first.model_copy(update={"entry_id": str(uuid4()), "event_id": str(uuid4())})
    await publish(
        money.client,
        "ledger.acme",
        again.model_dump_json(exclude_none=True).encode(),
        headers={CONTENT_TYPE: NDJSON, EVENT_COUNT: "1"},
    )
    await money.applied()
    found = await money.json("ledger", "duplicates")
    assert [one["response_id"] for one in found["duplicates"]] == ["resp_1"]
    done = await money.json("ledger", "duplicates", "--yes")
    assert done["corrected"] == 1
    await money.applied()
    assert (await money.json("ledger", "duplicates"))["duplicates"] == []
    assert await money.spent() == Decimal("0.35") * 2
    reversals = [one for one in await ledger(money.client) if one.kind == "reversal"]
    assert [(one.reason, one.response_id) for one in reversals] == [("duplicate_call", "resp_1")]
    assert (await money.json("ledger", "verify"))["ok"]


async def test_a_statement_is_held_against_the_ledger(money: Money, tmp_path: Path) -> None:
    await money.happened(call("gpt-4o-2024-08-06"), call("gpt-4o"), call("gpt-4o", "azure"))
    file = tmp_path / "plain.csv"
    file.write_text(f"day,model,cost_usd\n{DAY.date()},gpt-4o,0.7\n")
    agreed = await money.say("ledger", "reconcile", str(file), "--provider", "openai")
    assert agreed.code == 0, agreed.err
    assert "both sides agree" in agreed.out
    file.write_text(f"day,model,cost_usd\n{DAY.date()},gpt-4o,0.71\n")
    apart = await money.say("ledger", "reconcile", str(file), "--provider", "openai", "--json")
    assert apart.code == 1
    assert orjson.loads(apart.out)["drift_usd"] == "-0.010000000"
    assert (await money.say("ledger", "reconcile", str(file), "--provider", "openai", "--tolerance", "2")).code == 0
    assert "does not say whose statement" in (await money.say("ledger", "reconcile", str(file))).failed(2)
    file.write_text("day,cost_usd\nyesterday,1\n")
    assert "row 2, column day, value 'yesterday'" in (await money.say("ledger", "reconcile", str(file), "-p", "openai")).failed(2)
    assert "cannot be read" in (await money.say("ledger", "reconcile", str(tmp_path / "none.csv"))).failed(2)


async def test_without_cost_a_change_is_refused_with_what_to_do(server: EmbeddedServer, client: Client, tmp_path: Path) -> None:
    login = operator(server)
    said = await agentops("prices", "list", variables=login)
    assert "there are no prices yet" in said.failed()
    async with running(attach_cost, server, tmp_path):
        pass
    said = await agentops("prices", "set", "-p", "openai", "--discount", "5", "-r", "x", variables=login)
    assert "cost is not there to answer" in said.failed()
