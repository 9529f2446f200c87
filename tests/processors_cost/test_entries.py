"""One accepted model call, one ledger entry that says everything needed to compute it again."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from processors.cost import snapshot
from processors.cost.entries import Charge, NotBillable, PoisonError, entry
from schemas.events import AcceptedEvent
from schemas.ledger import LedgerEntry, usage
from schemas.prices.finding import PriceBook
from schemas.prices.rates import Rates
from tests.processors_validate.running import event

TOLERANCE = timedelta(minutes=5)
RECEIVED = "2026-11-20T10:00:00.123456Z"


@pytest.fixture(scope="module")
def book() -> PriceBook:
    return PriceBook.of(snapshot.default())


def accepted_line(event_type: str = "model_call.completed", **changes: Any) -> bytes:
    """A line of ``events.acme.model_call``."""
    made = event(event_type, occurred_at="2026-11-20T09:59:00Z", **changes)
    return AcceptedEvent.model_validate_json(
        orjson.dumps(made | {"ingest": {"received_at": RECEIVED, "sequence": 1, "position": 0}})
    ).model_dump_json(exclude_none=True).encode()  # fmt: skip


def charged(raw: bytes, book: PriceBook) -> LedgerEntry:
    answer = entry(raw, "acme", book, TOLERANCE)
    assert isinstance(answer, Charge)
    return LedgerEntry.model_validate_json(answer.line)


FULL: dict[str, Any] = {
    "tenant": {"tenant_id": "acme", "workspace_id": "main", "project_id": "p1"},
    "run": {"agent_id": "a1", "run_id": "r1", "workflow_id": "w1"},
    "model_call": {
        "model_call_id": "mc1", "provider": "openai", "model": "gpt-4o-mini-2024-07-18", "step_id": "s1", "response_id": "resp_1",
        "service_tier": "default",
    },
    "resource_usage": {
        "input_tokens": 10_000, "output_tokens": 1000, "cache_read_tokens": 4000, "reasoning_tokens": 10, "estimated": True,
    },
    "cost": {"cost_usd": "0.5"},
}  # fmt: skip


def test_an_entry_says_who_spent_what_on_what_at_which_prices(book: PriceBook) -> None:
    found = charged(accepted_line(**FULL), book)
    assert (found.kind, found.reason, found.currency, found.estimated) == ("charge", "priced", "USD", True)
    assert (found.tenant_id, found.workspace_id, found.project_id) == ("acme", "main", "p1")
    assert (found.agent_id, found.run_id, found.workflow_id, found.step_id) == ("a1", "r1", "w1", "s1")
    assert (found.provider, found.model, found.priced_as) == ("openai", "gpt-4o-mini-2024-07-18", "openai/gpt-4o-mini")
    assert (found.response_id, found.service_tier, found.client_cost_usd) == ("resp_1", "default", Decimal("0.5"))
    assert found.price_book_version == snapshot.default().version
    assert found.occurred_at == datetime(2026, 11, 20, 9, 59, tzinfo=UTC)
    assert found.unit_prices is not None
    assert (found.unit_prices.input, found.unit_prices.cache_read) == (Decimal("0.15"), Decimal("0.075"))
    assert found.cost_usd == Decimal("0.0018")


def test_an_entry_can_be_computed_again_from_itself_alone(book: PriceBook) -> None:
    found = charged(accepted_line(**FULL), book)
    assert found.unit_prices is not None
    assert Rates.of(found.unit_prices.model_dump(exclude_none=True)).cost(usage(found)) == found.cost_usd


def test_an_unknown_model_is_an_entry_too_and_says_so(book: PriceBook) -> None:
    call = {"model_call_id": "mc1", "provider": "local", "model": "mine"}
    found = charged(accepted_line(model_call=call), book)
    assert (found.reason, found.cost_usd, found.unit_prices, found.priced_as) == ("unpriced", Decimal(0), None, None)
    assert found.input_tokens == 1000


def test_a_failed_call_is_billed_for_the_usage_it_reports_and_not_at_all_without(book: PriceBook) -> None:
    error = {"type": "Timeout", "message": "no answer"}
    billed = charged(accepted_line(event_type="model_call.failed", error=error), book)
    assert billed.cost_usd > 0
    without = accepted_line(event_type="model_call.failed", error=error, resource_usage=None)
    assert entry(without, "acme", book, TOLERANCE) == NotBillable()


def test_the_id_of_an_entry_follows_from_tenant_and_event(book: PriceBook) -> None:
    raw = accepted_line()
    assert charged(raw, book).entry_id == charged(raw, book).entry_id
    other = orjson.dumps(orjson.loads(raw) | {"tenant": {"tenant_id": "globex"}})
    answer = entry(other, "globex", book, TOLERANCE)
    assert isinstance(answer, Charge)
    assert LedgerEntry.model_validate_json(answer.line).entry_id != charged(raw, book).entry_id


def test_a_call_from_the_future_is_priced_as_of_its_arrival(book: PriceBook) -> None:
    """A clock that is wrong must not choose next year's prices; the entry keeps what the event said."""
    late = orjson.loads(accepted_line()) | {"occurred_at": "2100-01-01T00:00:00Z"}
    found = charged(orjson.dumps(late), book)
    assert found.cost_usd == charged(accepted_line(), book).cost_usd
    assert found.occurred_at.year == 2100


def test_a_cost_beyond_reason_is_unpriced_not_a_crash(book: PriceBook) -> None:
    call = {"model_call_id": "mc1", "provider": "openai", "model": "o1-pro"}
    usage = {"input_tokens": 10**12, "output_tokens": 10**12, "cache_read_tokens": 0}
    assert charged(accepted_line(model_call=call, resource_usage=usage), book).cost_usd < 10**9


@pytest.mark.parametrize(
    "raw",
    [
        b"", b"{", b"null", b"[]", b"{}", b"7",
        accepted_line().replace(b'"acme"', b'"globex"'),
        accepted_line().replace(b'"input_tokens":1000', b'"input_tokens":"many"'),
        accepted_line().replace(b'"input_tokens":1000', b'"input_tokens":-1'),
        accepted_line().replace(b'"input_tokens":1000', b'"input_tokens":true'),
        accepted_line().replace(b'"cache_read_tokens":0', b'"cache_read_tokens":5000'),
        accepted_line().replace(b'"provider":"openai"', b'"provider":7'),
        accepted_line().replace(RECEIVED.encode(), b"yesterday"),
        accepted_line().replace(b"2026-11-20T09:59:00Z", b"2026-11-20T09:59:00"),
        accepted_line().replace(b'"ingest"', b'"digest"'),
    ],
)  # fmt: skip
def test_what_validate_never_wrote_is_poison_and_never_a_wrong_entry(book: PriceBook, raw: bytes) -> None:
    with pytest.raises(PoisonError):
        entry(raw, "acme", book, TOLERANCE)


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(["openai", "anthropic", "google", "nobody"]),
    st.sampled_from(["gpt-4o", "claude-sonnet-4-5", "gemini-2.5-pro", "o1-pro", "\u2603"]),
    st.integers(0, 10**12), st.integers(0, 10**12), st.integers(0, 10**12),
)  # fmt: skip
def test_every_accepted_call_with_usage_becomes_a_valid_entry(
    provider: str, model: str, sent: int, answered: int, cached: int
) -> None:
    call = {"model_call_id": "mc1", "provider": provider, "model": model}
    usage = {"input_tokens": sent, "output_tokens": answered, "cache_read_tokens": min(cached, sent)}
    found = charged(accepted_line(model_call=call, resource_usage=usage), _BOOK)
    assert found.cost_usd >= 0
    assert (found.reason == "unpriced") == (found.unit_prices is None)


_BOOK = PriceBook.of(snapshot.default())
