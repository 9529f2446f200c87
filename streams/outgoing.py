"""One message of a batch that is stored together or not at all."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

MAX_BATCH: Final = 1000
"""Messages in one atomic batch, the coverage record included; the server's limit."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One message of a batch."""

    subject: str
    data: bytes
    headers: Mapping[str, str] = field(default_factory=dict)
