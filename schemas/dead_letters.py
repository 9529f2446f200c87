"""Dead letters: what can never succeed, kept with its reason and its original bytes."""

from typing import Literal

from schemas.errors import FieldError
from schemas.model import Count, Identifier, Instant, Lenient, Name, Text


class DeadLetter(Lenient):
    """One rejected event, or one rejected message where it cannot be taken apart."""

    letter_id: Identifier
    """Derived from source stream, sequence and position."""
    processor: Name
    reason: Name
    """A stable word: ``malformed_json``, ``contract_violation``, ``tenant_mismatch``, ``conflicting_duplicate`` …"""
    errors: tuple[FieldError, ...] = ()
    events: Count = 1
    """How many rejected events this letter stands for."""
    tenant_id: Text
    kind: Text
    event_id: Text | None = None
    event_type: Text | None = None
    source_subject: Text
    source_stream: Name
    source_sequence: Count
    position: Count = 0
    received_at: Instant
    encoding: Literal["base64", "zlib+base64", "omitted"]
    original: str = ""
    original_bytes: Count
    original_sha256: str
    """Of the bytes as they were sent, whatever was kept of them."""
    content_type: Name | None = None
    privacy: Name | None = None
    """Why ``original`` is not what was sent, or not there: something in it may not be kept."""
