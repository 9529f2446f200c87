"""What corrects one ledger entry: never a change of it, always new entries that name it. No clock, no network."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from schemas.corrections import CorrectionRequest, Left
from schemas.ids import derived_text
from schemas.ledger import EntryReason, LedgerEntry, UnitPrices, moment, usage
from schemas.prices.finding import PriceBook, Unpriced
from schemas.prices.pricing import price
from schemas.prices.rates import ZERO


@dataclass(frozen=True, slots=True)
class Correction:
    """A reversal of ``original`` and, where it is charged anew, the adjustment. Their ids follow from the original's."""

    original: LedgerEntry
    reversal: LedgerEntry
    adjustment: LedgerEntry | None = None

    def entries(self) -> tuple[LedgerEntry, ...]:
        """What is to be written."""
        return (self.reversal,) if self.adjustment is None else (self.reversal, self.adjustment)


def day_of(entry: LedgerEntry) -> str:
    """The day, as subjects have it, whose sums a correction of ``entry`` changes."""
    return f"{entry.occurred_at:%Y%m%d}"


def adjustment_id(tenant: str, entry_id: str) -> str:
    """The id of the adjustment of an entry, should there be one."""
    return derived_text("ledger", tenant, entry_id, "adjustment")


def _common(original: LedgerEntry, correction_id: str, by: str, note: str, now: datetime) -> dict[str, Any]:
    return {
        "corrects": original.entry_id, "received_at": now, "client_cost_usd": None, "correction_id": correction_id,
        "corrected_by": by, "note": note, "priced_at": original.priced_at, "differs": None,
    }  # fmt: skip


def _reversal(original: LedgerEntry, reason: EntryReason, common: Mapping[str, Any]) -> LedgerEntry:
    own = {
        "entry_id": derived_text("ledger", original.tenant_id, original.entry_id, "reversal"), "kind": "reversal",
        "reason": reason, "cost_usd": -original.cost_usd if original.cost_usd else ZERO,
    }  # fmt: skip
    return original.model_copy(update={**common, **own})


def recognition_id(tenant: str, entry_id: str, stands: str) -> str:
    """The correction that takes ``entry_id`` back because ``stands`` is of the same call."""
    return derived_text("recognised", tenant, entry_id, stands)


def taken_back(original: LedgerEntry, charged: str, stands: str, by: str, now: datetime) -> LedgerEntry:
    """The reversal of ``original``, which counts for the entry ``charged``, because another entry stands for its call."""
    note = "the same call was seen by another, who knew better"
    common = _common(original, recognition_id(original.tenant_id, charged, stands), by, note, now)
    return _reversal(original, "duplicate_call", {**common, "duplicate_of": stands})


def correct(
    original: LedgerEntry,
    request: CorrectionRequest,
    book: PriceBook | None,
    corrected: Mapping[str, str],
    by: str,
    now: datetime,
) -> Correction | Left:
    """What ``request`` makes of ``original``; ``corrected`` are the entries corrected before, with the correction each is of."""
    if original.kind == "reversal":
        return Left(entry_id=original.entry_id, outcome="reversal", why="a reversal is never corrected")
    if original.entry_id in corrected:
        before = corrected[original.entry_id]
        return Left(entry_id=original.entry_id, outcome="already", why=f"already corrected, by correction {before}")
    if original.kind == "charge" and original.reason == "duplicate_call":
        return Left(
            entry_id=original.entry_id,
            outcome="duplicate",
            why=f"one more sighting of a call: {original.duplicate_of} stands for it",
        )
    reason: EntryReason = "duplicate_call" if request.duplicates else "correction"
    common = _common(original, request.correction_id, by, request.reason, now)
    reversal = _reversal(original, reason, common)
    if request.action == "reverse":
        return Correction(original, reversal)
    assert book is not None
    found = price(
        book, provider=original.provider, model=original.model, service_tier=original.service_tier, tenant=original.tenant_id,
        moment=moment(original), tokens=usage(original),
    )  # fmt: skip
    if isinstance(found, Unpriced):
        return Left(entry_id=original.entry_id, outcome="unpriced", why=f"no price by {book.version}: {found.why}"[:8000])
    if found.cost == original.cost_usd and original.unit_prices is not None:
        return Left(entry_id=original.entry_id, outcome="unchanged", why=f"costs the same by {book.version}")
    adjustment = original.model_copy(
        update=common
        | {
            "entry_id": adjustment_id(original.tenant_id, original.entry_id), "kind": "adjustment",
            "reason": reason, "cost_usd": found.cost, "price_book_version": book.version, "priced_as": found.priced_as,
            "unit_prices": UnitPrices.model_validate(found.rates.by_name()), "price_override": found.override,
        }
    )  # fmt: skip
    return Correction(original, reversal, adjustment)
