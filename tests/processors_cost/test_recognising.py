"""A call seen several times is charged once: whichever sighting comes first, however they are batched, whatever is forgotten between."""

from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processors.cost import snapshot
from processors.cost.charging import charge
from processors.cost.correcting import taken_back
from processors.cost.entries import Charge, entry
from processors.cost.recognising import Recognition
from processors.cost.sightings import id_text, sighting
from schemas.ledger import LedgerEntry
from schemas.prices.finding import PriceBook
from tests.processors_cost.test_entries import TOLERANCE, accepted_line

BOOK = PriceBook.of(snapshot.default())
NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


def seen(
    by: str | None = None, response: str | None = None, span: str | None = None, *, sent: int = 1000, answered: int = 20,
    model: str = "gpt-4o-mini", provider: str = "openai", estimated: bool = False,
) -> bytes:  # fmt: skip
    """An event in which ``by`` tells of a call."""
    more: dict[str, Any] = {}
    if by is not None:
        more["attributes"] = {"agentops.observed_by": by}
    if span is not None:
        more["trace"] = (
            {"trace_id": TRACE, "span_id": "of-the-proxy", "parent_span_id": span}
            if by == "proxy"
            else {"trace_id": TRACE, "span_id": span}
        )
    call = {"model_call_id": "m", "provider": provider, "model": model} | ({"response_id": response} if response else {})
    usage = {"input_tokens": sent, "output_tokens": answered, "estimated": estimated}
    return accepted_line(model_call=call, resource_usage=usage, **more)


class Books:
    """A ledger and its index, as cost keeps them: every batch judged by what is stored, the index lost now and then."""

    def __init__(self) -> None:
        self.entries: list[LedgerEntry] = []
        self._index: dict[bytes, bytes] = {}

    def add(self, batch: Sequence[bytes]) -> None:
        charges = [
            (orjson.loads(raw)["tenant"]["tenant_id"], answer)
            for raw in batch
            if isinstance(answer := entry(raw, "acme", BOOK, TOLERANCE), Charge)
        ]
        recognition = Recognition(self._index)
        found = charge(charges, recognition)
        made = [LedgerEntry.model_validate_json(line) for lines in found.lines.values() for line in lines]
        by_id = {one.entry_id: one for one in (*self.entries, *made)}
        self.entries += made
        for _, one in found.taken:
            original = by_id[id_text(one.entry)]
            self.entries.append(taken_back(original, original.entry_id, id_text(one.stands), "cost", NOW))
        self._index |= dict(recognition.rows({}))

    def lose_the_index(self) -> None:
        self._index = {}
        for one in self.entries:
            if one.kind == "charge":
                told = sighting(orjson.loads(one.model_dump_json(exclude_none=True)))
                if told is not None:
                    stands = None if one.duplicate_of is None else bytes.fromhex(one.duplicate_of.replace("-", ""))
                    recognition = Recognition(self._index)
                    recognition.remember(told, stands, 1, differs=bool(one.differs))
                    self._index |= dict(recognition.rows({}))

    def total(self) -> Decimal:
        return sum((one.cost_usd for one in self.entries), Decimal(0))

    def standing(self) -> list[LedgerEntry]:
        reversed_ = {one.corrects for one in self.entries if one.kind == "reversal"}
        return [
            one for one in self.entries if one.kind == "charge" and one.duplicate_of is None and one.entry_id not in reversed_
        ]


def cost(raw: bytes) -> Decimal:
    answer = entry(raw, "acme", BOOK, TOLERANCE)
    assert isinstance(answer, Charge)
    return answer.cost


def booked(*batches: Sequence[bytes]) -> Books:
    books = Books()
    for batch in batches:
        books.add(batch)
    return books


def test_the_same_response_seen_by_the_proxy_and_by_opentelemetry_is_charged_once_and_both_are_visible() -> None:
    proxy, otel = seen("proxy", "resp_1", "s1"), seen("otel", "resp_1", "s1", provider="azure")
    books = booked([proxy], [otel])
    first, second = books.entries
    assert (first.cost_usd, first.observed_by, first.reason) == (cost(proxy), "proxy", "priced")
    assert (second.cost_usd, second.observed_by, second.reason) == (Decimal(0), "otel", "duplicate_call")
    assert (second.kind, second.duplicate_of, second.event_id) == ("charge", first.entry_id, orjson.loads(otel)["event_id"])
    assert (second.input_tokens, second.output_tokens, second.unit_prices, second.priced_as) == (0, 0, None, None)


@pytest.mark.parametrize("order", [("proxy", "otel"), ("otel", "proxy")])
def test_without_a_response_id_the_span_that_called_the_proxy_is_the_opentelemetry_span(order: tuple[str, str]) -> None:
    books = booked(*([seen(by, span="s1")] for by in order))
    assert len(books.standing()) == 1
    assert books.total() == cost(seen())


def test_another_tenants_call_of_the_same_response_id_is_another_call() -> None:
    mine = seen(response="resp_1")
    theirs = orjson.loads(seen(response="resp_1")) | {"tenant": {"tenant_id": "globex"}}
    one, other = entry(mine, "acme", BOOK, TOLERANCE), entry(orjson.dumps(theirs), "globex", BOOK, TOLERANCE)
    assert isinstance(one, Charge)
    assert isinstance(other, Charge)
    found = charge([("acme", one), ("globex", other)], Recognition({}))
    assert found.again == 0


@pytest.mark.parametrize("apart", [True, False], ids=["in batches", "at once"])
def test_an_estimate_gives_way_to_what_the_provider_reported(apart: bool) -> None:
    rough, exact = seen("proxy", "resp_1", sent=900, estimated=True), seen("otel", "resp_1", sent=1000)
    books = booked([rough], [exact]) if apart else booked([rough, exact])
    charge_, charged, reversal = books.entries
    assert (charge_.cost_usd, charged.cost_usd, reversal.cost_usd) == (cost(rough), cost(exact), -cost(rough))
    assert (reversal.kind, reversal.reason, reversal.corrects, reversal.duplicate_of) == (
        "reversal",
        "duplicate_call",
        charge_.entry_id,
        charged.entry_id,
    )
    assert books.total() == cost(exact)


def test_an_unpriced_sighting_gives_way_to_a_priced_one() -> None:
    books = booked([seen("otel", "resp_1", model="deployment-7")], [seen("proxy", "resp_1")])
    assert [one.entry_id for one in books.standing()] == [books.entries[1].entry_id]
    assert books.total() == cost(seen())


def test_the_proxy_is_believed_where_counts_differ_and_the_difference_is_flagged() -> None:
    proxy, otel = seen("proxy", "resp_1", answered=25), seen("otel", "resp_1", answered=20)
    books = booked([proxy], [otel])
    assert (books.total(), books.entries[1].differs) == (cost(proxy), True)
    assert (
        books.entries[1].note
        == f"told 1,020 tokens, {cost(otel)} USD by openai/gpt-4o-mini; what stands counts 1,025 tokens, {cost(proxy)} USD"
    )
    assert booked([otel], [proxy]).total() == cost(proxy)


def test_two_calls_under_one_span_are_two_calls() -> None:
    once, again, told = (
        seen("proxy", "resp_1", "s1"),
        seen("proxy", "resp_2", "s1", sent=500),
        seen("otel", "resp_2", "s1", sent=500),
    )
    for order in ([once, again, told], [told, once, again], [once, told, again], [again, told, once]):
        books = booked(*([one] for one in order))
        assert books.total() == cost(once) + cost(again), order


def test_one_who_knows_both_the_response_and_the_span_joins_what_looked_like_two_calls() -> None:
    by_span, by_id, both = seen("proxy", span="s1"), seen(None, "resp_1"), seen("otel", "resp_1", "s1")
    books = booked([by_span], [by_id], [both])
    assert len(books.standing()) == 1
    assert books.total() == cost(both)


def test_an_id_that_a_server_draws_out_of_a_thousand_is_no_proof() -> None:
    books = booked(
        [seen("proxy", "chatcmpl-17")], [seen("proxy", "chatcmpl-17", sent=700)], [seen("otel", "chatcmpl-17", sent=700)]
    )
    assert len(books.standing()) == 2


def test_a_sighting_after_the_horizon_of_what_stands_still_charges_nothing_where_another_was_seen_within_it() -> None:
    books = booked([seen("proxy", "resp_1")], [seen("otel", "resp_1")])
    first = books.entries.pop(0)
    books.lose_the_index()
    books.entries.insert(0, first)
    books.add([seen(None, "resp_1", sent=5000)])
    assert books.total() == first.cost_usd


@st.composite
def calls(draw: st.DrawFn) -> list[list[bytes]]:
    """The sightings of some calls; each call has some one thing that all who see it know."""
    made = []
    for number in range(draw(st.integers(1, 4))):
        by_id, span = f"resp_{number}", f"span-{number}"
        sightings = []
        shared = draw(st.sampled_from(["id", "span", "both"]))
        observers = [None, "proxy", "otel"] if shared == "id" else ["proxy", "otel"]
        for by in draw(st.lists(st.sampled_from(observers), min_size=1, max_size=4, unique=shared != "id")):
            sent, answered = draw(st.sampled_from([1000, 1200])), draw(st.sampled_from([20, 40]))
            model = draw(st.sampled_from(["gpt-4o-mini", "gpt-4o", "nobody-knows"]))
            sightings.append(
                seen(
                    by,
                    by_id if shared != "span" else None,
                    span if shared != "id" else None,
                    model=model,
                    estimated=draw(st.booleans()),
                    sent=sent,
                    answered=answered,
                )
            )
        made.append(sightings)
    return made


def best(sightings: Sequence[bytes]) -> Decimal:
    """What a call must cost, said anew: priced before unpriced, reported before estimated, the proxy, the agent, OpenTelemetry; then the more."""

    def rank(raw: bytes) -> tuple[Any, ...]:
        event = orjson.loads(raw)
        answer = entry(raw, "acme", BOOK, TOLERANCE)
        assert isinstance(answer, Charge)
        usage = event["resource_usage"]
        observer = {"proxy": 2, None: 1, "otel": 0}[event.get("attributes", {}).get("agentops.observed_by")]
        return (
            answer.unpriced is None,
            not usage.get("estimated", False),
            observer,
            usage["input_tokens"] + usage["output_tokens"],
            answer.cost,
        )

    return cost(max(sightings, key=rank))


@settings(max_examples=300, deadline=None)
@given(calls(), st.randoms(use_true_random=False), st.data())
def test_any_order_and_any_batching_of_sightings_leaves_one_charge_a_call_and_the_same_total(
    made: list[list[bytes]], chance: Any, data: st.DataObject
) -> None:
    every = [one for sightings in made for one in sightings]
    chance.shuffle(every)
    books = Books()
    while every:
        size = data.draw(st.integers(1, len(every)))
        books.add(every[:size])
        every = every[size:]
        if data.draw(st.booleans()):
            books.lose_the_index()
    assert len(books.standing()) == len(made)
    assert books.total() == sum(map(best, made))
    ids = [one.entry_id for one in books.entries]
    assert len(ids) == len(set(ids))
    assert sum(one.kind == "charge" for one in books.entries) == sum(map(len, made)), "one entry for each event"
    tokens = sum((-1 if one.kind == "reversal" else 1) * (one.input_tokens + one.output_tokens) for one in books.entries)
    assert tokens == sum(one.input_tokens + one.output_tokens for one in books.standing())
