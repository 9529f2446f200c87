"""The cost ledger: what was spent, with everything needed to compute it again."""

from typing import Literal

from schemas.model import Identifier, Instant, Lenient, Name, Token, Tokens, UnitPrice, Usd

EntryKind = Literal["charge", "reversal", "adjustment"]
EntryReason = Literal["priced", "unpriced", "no_usage", "correction", "duplicate_call"]


class UnitPrices(Lenient):
    """US dollars per million tokens that applied to this call; absent means not priced apart."""

    input: UnitPrice | None = None
    output: UnitPrice | None = None
    cache_read: UnitPrice | None = None
    cache_write: UnitPrice | None = None
    reasoning: UnitPrice | None = None
    requests_k: UnitPrice | None = None
    """Per thousand requests."""


class LedgerEntry(Lenient):
    """One line of the ledger. Never changed; a correction is a new entry that names the old one."""

    entry_id: Identifier
    """Derived from tenant, event and kind, so that an entry can never stand twice."""
    kind: EntryKind
    reason: EntryReason
    corrects: Identifier | None = None
    tenant_id: Token
    workspace_id: Token | None = None
    project_id: Token | None = None
    agent_id: Token
    run_id: Identifier | None = None
    workflow_id: Identifier | None = None
    step_id: Identifier | None = None
    model_call_id: Identifier
    event_id: Identifier
    response_id: Identifier | None = None
    provider: Name
    model: Name
    """As the event named it."""
    service_tier: Name | None = None
    """As the event named it; some models cost more or less by it."""
    priced_as: Name | None = None
    """``provider/model`` of the price book that matched."""
    occurred_at: Instant
    """When the call happened; the price effective then applies."""
    received_at: Instant
    input_tokens: Tokens = 0
    output_tokens: Tokens = 0
    cache_read_tokens: Tokens = 0
    cache_write_tokens: Tokens = 0
    reasoning_tokens: Tokens = 0
    estimated: bool = False
    price_book_version: Name
    unit_prices: UnitPrices | None = None
    cost_usd: Usd
    currency: Literal["USD"] = "USD"
    client_cost_usd: Usd | None = None
    """What the client reported, kept beside ours."""
