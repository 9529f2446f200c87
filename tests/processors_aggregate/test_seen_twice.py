"""A call seen by two observers is one call in every sum, folded or not; its run shows both sightings and says which counts."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from nats.aio.client import Client

from schemas.events import AcceptedEvent
from schemas.ids import derived_id
from schemas.ledger import LedgerEntry
from tests.processors_aggregate.conftest import Running
from tests.processors_aggregate.wire import Wire, accepted, ask, charge

AT = datetime.now(UTC).replace(minute=10, second=0, microsecond=0) - timedelta(hours=2)
USAGE = {"input_tokens": 1000, "output_tokens": 20, "cache_read_tokens": 10}


def call(name: str, response: str, **usage: int) -> AcceptedEvent:
    return accepted(
        "model_call.completed", at=AT, run={"agent_id": "planner", "run_id": "run-1"}, resource_usage=USAGE | usage,
        model_call={"model_call_id": name, "provider": "openai", "model": "gpt-4o", "response_id": response},
    )  # fmt: skip


def one_more(event: AcceptedEvent, of: LedgerEntry) -> LedgerEntry:
    nothing = dict.fromkeys(("input_tokens", "output_tokens", "cache_read_tokens"), 0)
    more: dict[str, Any] = {"reason": "duplicate_call", "duplicate_of": of.entry_id, "observed_by": "otel", "unit_prices": None}
    return charge(event, "0", **nothing, **more)


def reversal(of: LedgerEntry, instead: LedgerEntry) -> LedgerEntry:
    return of.model_copy(
        update={
            "entry_id": str(derived_id("reversal", of.entry_id)), "kind": "reversal", "reason": "duplicate_call", "corrects": of.entry_id,
            "cost_usd": -of.cost_usd, "duplicate_of": instead.entry_id, "corrected_by": "cost",
        }
    )  # fmt: skip


@pytest.mark.parametrize("folded", [False, True], ids=["as rows", "folded"])
async def test_a_call_seen_twice_counts_once_everywhere_and_both_sightings_are_shown(
    running: Running, wire: Wire, client: Client, folded: bool
) -> None:
    proxy, otel = call("seen-by-proxy", "resp_1"), call("seen-by-otel", "resp_1")
    rough, exact = call("rough", "resp_2", input_tokens=900), call("exact", "resp_2")
    stands = charge(proxy, "0.25", priced_as="openai/gpt-4o")
    early, better = (
        charge(rough, "0.20", estimated=True, priced_as="openai/gpt-4o"),
        charge(exact, "0.30", priced_as="openai/gpt-4o"),
    )
    await wire.events(proxy, otel, rough, exact)
    await wire.ledger(stands, one_more(otel, stands), early, better, reversal(early, better))
    await running.caught_up()
    if folded:
        assert running.processor._warehouse is not None
        running.processor._warehouse.fold()
    day = {"since": (AT - timedelta(hours=3)).isoformat(), "limit": 1000}
    for by in ([], ["agent"], ["model"], ["hour"]):
        (spent,) = (await ask(client, "spend", by=by, **day)).rows
        figures = (
            Decimal(spent["cost_usd"]),
            spent["entries"],
            spent["input_tokens"],
            spent["output_tokens"],
            spent["cache_read_tokens"],
        )
        assert figures == (Decimal("0.55"), 2, 2000, 40, 20), by
        assert spent["unpriced"] == 0
    (days,) = (await ask(client, "ledger_days", since=day["since"])).rows
    assert (days["entries"], days["seen_again"], days["input_tokens"]) == (2, 1, 2000)
    for bucket in ("minute", "hour"):
        told = [row for row in (await ask(client, "timeseries", metric="tokens", bucket=bucket, **day)).rows if row["value"]]
        assert [(row["value"], row["count"]) for row in told] == [(2040, 2)], bucket
    (agent,) = (await ask(client, "fleet")).rows
    assert agent["tokens_24h"] == 2040
    (run,) = (await ask(client, "runs")).rows
    assert (run["model_calls"], run["input_tokens"], Decimal(run["cost_usd"])) == (2, 2000, Decimal("0.55"))
    spans = {row["event_id"]: row for row in (await ask(client, "run", run_id="run-1")).rows}
    assert {event: (Decimal(row["cost_usd"]), row["duplicate_of"]) for event, row in spans.items()} == {
        str(proxy.event_id): (Decimal("0.25"), None), str(otel.event_id): (Decimal(0), stands.entry_id),
        str(rough.event_id): (Decimal(0), better.entry_id), str(exact.event_id): (Decimal("0.30"), None),
    }  # fmt: skip
    assert spans[str(otel.event_id)]["observed_by"] == "otel"
    assert (await ask(client, "ledger_duplicates", since=day["since"])).rows == ()
    assert (await ask(client, "ledger_problems", since=day["since"])).rows == ()
    counting = (await ask(client, "ledger", since=day["since"], open=True)).rows
    assert {row["entry_id"] for row in counting} == {stands.entry_id, better.entry_id}
    assert (await ask(client, "audit", check="billing", stream="EVENTS")).rows == ()
    assert (await ask(client, "audit", check="corrections", stream="LEDGER")).rows == ()
    assert (await ask(client, "audit", check="sums")).rows == ()


async def test_what_was_charged_twice_all_the_same_is_found_by_what_proves_it_is_one_call(
    running: Running, wire: Wire, client: Client
) -> None:
    """Whatever a router calls the provider; and never for an id that a server draws out of a thousand, alone."""
    once, again = call("once", "resp_1"), call("again", "resp_1")
    numbered = [call(f"numbered-{n}", "chatcmpl-417", input_tokens=1000 + n) for n in (1, 2, 3, 3)]
    other = charge(again, "0.25", provider="azure", response_id="resp_1")
    await wire.events(once, again, *numbered)
    await wire.ledger(charge(once, "0.25", response_id="resp_1"))
    await wire.ledger(other)
    for one in numbered:
        # Each in a message of its own: what comes first is kept.
        await wire.ledger(charge(one, "0.1", response_id="chatcmpl-417"))
    await running.caught_up()
    found = (await ask(client, "ledger_duplicates", since=(AT - timedelta(hours=1)).isoformat())).rows
    assert [row["entry_id"] for row in found] == [other.entry_id, charge(numbered[3]).entry_id]
