"""The cost ledger: what was spent, with everything needed to compute it again."""

from datetime import datetime
from typing import Literal

from schemas.model import Identifier, Instant, Lenient, Name, Text, Token, Tokens, UnitPrice, Usd
from schemas.prices.units import FIELDS, rarities
from schemas.prices.units import Tokens as Usage

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
    cache_write_1h: UnitPrice | None = None
    citation: UnitPrice | None = None
    input_audio: UnitPrice | None = None
    cache_read_audio: UnitPrice | None = None
    output_audio: UnitPrice | None = None
    input_image: UnitPrice | None = None
    cache_read_image: UnitPrice | None = None
    output_image: UnitPrice | None = None
    input_video: UnitPrice | None = None
    output_video: UnitPrice | None = None
    web_searches_k: UnitPrice | None = None
    """Per thousand searches."""
    file_searches_k: UnitPrice | None = None


class LedgerEntry(Lenient):
    """One line of the ledger. Never changed; a correction is a new entry that names the old one."""

    entry_id: Identifier
    """Derived from tenant, event and kind, so that an entry can never stand twice."""
    kind: EntryKind
    reason: EntryReason
    corrects: Identifier | None = None
    """The entry a ``reversal`` takes back, or an ``adjustment`` stands in for."""
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
    observed_by: Name | None = None
    """Who saw the call, where that was told: ``proxy`` or ``otel``."""
    trace_id: Identifier | None = None
    span_id: Identifier | None = None
    """The call's own span of OpenTelemetry, by which its sightings are recognised: of a proxy's sighting the caller's span."""
    duplicate_of: Identifier | None = None
    """The entry that stands for the same call. With it a ``charge`` charges nothing and counts no tokens: its event was one more
    sighting. Of a ``reversal`` the entry that took its place, because that sighting knew better."""
    differs: bool | None = None
    """Of one more sighting: it told other counts than the one that stands, or came to another price; ``note`` says which."""
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
    cache_write_1h_tokens: Tokens | None = None
    citation_tokens: Tokens | None = None
    input_audio_tokens: Tokens | None = None
    cache_read_audio_tokens: Tokens | None = None
    output_audio_tokens: Tokens | None = None
    input_image_tokens: Tokens | None = None
    cache_read_image_tokens: Tokens | None = None
    output_image_tokens: Tokens | None = None
    input_video_tokens: Tokens | None = None
    output_video_tokens: Tokens | None = None
    web_searches: Tokens | None = None
    file_searches: Tokens | None = None
    estimated: bool = False
    priced_at: Instant | None = None
    """The moment whose price applies, where it is not ``occurred_at``: the call claims to be from the future."""
    price_book_version: Name
    """The book, and ``+r<revision>`` where the user's own agreements were in force."""
    price_override: Token | None = None
    """The agreement that made the price what it is."""
    unit_prices: UnitPrices | None = None
    cost_usd: Usd
    currency: Literal["USD"] = "USD"
    client_cost_usd: Usd | None = None
    """What the client reported, kept beside ours."""
    correction_id: Identifier | None = None
    """Of a reversal or an adjustment: the correction it belongs to."""
    corrected_by: Name | None = None
    """Who asked for it."""
    note: Text | None = None
    """Why, in their words; of an unpriced entry why it has no price."""


def usage(entry: LedgerEntry) -> Usage:
    """The token split an entry was priced by."""
    return Usage(
        entry.input_tokens, entry.output_tokens, entry.cache_read_tokens, entry.cache_write_tokens, entry.reasoning_tokens,
        rarities({field: getattr(entry, field) for field in FIELDS.values()}),
    )  # fmt: skip


def moment(entry: LedgerEntry) -> datetime:
    """The moment whose price applies to it."""
    return entry.priced_at or entry.occurred_at
