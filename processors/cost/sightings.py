"""What a ledger entry tells of the call it was made for: by what the call is known again, and how good its source is. Pure.

Two observers may see one call: a proxy before the provider, the agent's own OpenTelemetry, the agent itself. The provider's
response id is the same for all of them, and where one has none, the span that made the call is known to two of them.
"""

from collections.abc import Mapping
from decimal import Decimal
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Final, NamedTuple
from zlib import crc32

from schemas.prices.units import FIELDS
from schemas.response_ids import is_numbered

OTEL: Final = 0
DIRECT: Final = 1
PROXY: Final = 2
"""Who saw a call. The greater is believed where two tell different things: a proxy reads what the provider itself has sent."""
_CODES: Final = {"otel": OTEL, "proxy": PROXY}
OBSERVERS: Final = frozenset(_CODES)
OBSERVED_BY: Final = "agentops.observed_by"
"""The attribute of an event in which a door says who saw the call."""
_RARE: Final = frozenset(FIELDS.values())


class Sighting(NamedTuple):
    """One event's view of a call."""

    entry: bytes
    """The id of the entry made for it."""
    by_id: bytes | None
    """Key of the provider's response id."""
    own_span: bytes | None
    """Key under which whoever sees the call from the other end looks for it by its span."""
    other_span: bytes | None
    """Key under which the other end would have put it."""
    observer: int
    reported: bool
    """Whether the provider reported the counts; else they are an estimate."""
    priced: bool
    tokens: int
    nanos: int
    """Billionths of a dollar."""
    said: int
    """Checksum of everything the price depends on."""
    version: int
    """Checksum of the price book's."""

    @property
    def rank(self) -> tuple[bool, bool, int, int, int, int]:
        """Of two sightings the one with the greater rank stands: the order in which they come does not matter."""
        return self.priced, self.reported, self.observer, self.tokens, self.nanos, self.said


def _key(tenant: str, what: str, told: str) -> bytes:
    return blake2b(f"{tenant}\x00{what}\x00{told}".encode(), digest_size=16).digest()


def _by_id(tenant: str, entry: Mapping[str, Any]) -> bytes | None:
    told: str | None = entry.get("response_id")
    if told is None:
        return None
    if is_numbered(told):
        if entry.get("duplicate_of") is not None:
            # It counts nothing itself; the entry it belongs to has the key.
            return None
        return _key(tenant, "n", f"{told} {entry['input_tokens']} {entry['output_tokens']} {entry['occurred_at'][:10]}")
    # Not by provider: a router, a cloud and the maker of a model are names of the same one.
    return _key(tenant, "r", told)


def nanos(text: str) -> int:
    """Billionths of a dollar; exact, for amounts have nine digits at most."""
    whole, _, parts = text.partition(".")
    # As cost writes them; a tenth of what a decimal takes.
    return int(whole + parts) if len(parts) == 9 else int(Decimal(text).scaleb(9))


@lru_cache(maxsize=64)
def _version(text: str) -> int:
    return crc32(text.encode())


def sighting(entry: Mapping[str, Any]) -> Sighting | None:
    """What ``entry``, a charge as JSON has it, tells; None where the call could not be known again."""
    tenant = entry["tenant_id"]
    by_id = _by_id(tenant, entry)
    own_span = other_span = None
    observer = _CODES.get(entry.get("observed_by", ""), DIRECT)
    span = entry.get("span_id")
    if observer != DIRECT and span is not None:
        told = f"{entry['trace_id']} {span}"
        own, other = ("p", "o") if observer == PROXY else ("o", "p")
        own_span, other_span = _key(tenant, own, told), _key(tenant, other, told)
    if by_id is None and own_span is None:
        return None
    get = entry.get
    sent, answered = entry["input_tokens"], entry["output_tokens"]
    rare = "" if _RARE.isdisjoint(entry) else [(name, entry[name]) for name in sorted(_RARE.intersection(entry))]
    said = (
        f"{sent} {answered} {entry['cache_read_tokens']} {entry['cache_write_tokens']} {entry['reasoning_tokens']} {rare} "
        f"{entry['estimated']} {get('priced_as')} {get('service_tier')} {get('price_override')}"
    )
    return Sighting(
        bytes.fromhex(entry["entry_id"].replace("-", "")), by_id, own_span, other_span, observer, not entry["estimated"],
        "priced_as" in entry, sent + answered, nanos(entry["cost_usd"]), crc32(said.encode()),
        _version(entry["price_book_version"]),
    )  # fmt: skip


def id_text(entry: bytes) -> str:
    """An entry's id as it is written."""
    digits = entry.hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
