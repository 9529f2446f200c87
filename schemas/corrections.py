"""Asking cost to correct the ledger, and its answer."""

from typing import Annotated, Final, Literal, Self

from pydantic import Field, model_validator

from schemas.model import Count, Identifier, Lenient, Name, Text, Token, Usd, Wire

MOST_ENTRIES: Final = 500
"""Entries one request may name: their corrections fit one atomic batch and one answer."""


class EntryReference(Wire):
    """One ledger entry, and the message of the stream LEDGER it stands in."""

    sequence: Annotated[int, Field(ge=1, le=2**62)]
    entry_id: Identifier


class CorrectionRequest(Wire):
    """A request to ``cost.<user>.corrections``. Asked again it corrects nothing twice: an entry is corrected once."""

    correction_id: Identifier
    """The same for all requests of one correction."""
    tenant: Token
    action: Literal["reverse", "reprice"]
    """``reverse`` takes entries back; ``reprice`` takes them back and charges them anew by ``version``."""
    version: Name | None = None
    """The price book, with ``+r<revision>`` where agreements count, as ledger entries name it."""
    entries: Annotated[tuple[EntryReference, ...], Field(min_length=1, max_length=MOST_ENTRIES)]
    reason: Annotated[Text, Field(min_length=1)]
    duplicates: bool = False
    """The entries are of calls that others report too: the reversals say so."""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.action == "reprice" and self.version is None:
            raise ValueError("reprice needs version")
        return self


Outcome = Literal["corrected", "already", "unchanged", "unpriced", "missing", "reversal", "duplicate"]
"""What became of an entry: ``already`` corrected before, ``unchanged`` price, ``unpriced`` by that book, ``missing`` in the ledger,
or itself a ``reversal`` or one more sighting of a call (``duplicate``), which are never corrected.
"""


class Left(Lenient):
    """An entry that was not corrected, and why."""

    entry_id: Identifier
    outcome: Outcome
    why: Text


class CorrectionAnswer(Lenient):
    """What a request came to. What it says was stored before it was said."""

    correction_id: Identifier
    corrected: Count
    """Entries corrected now."""
    left: tuple[Left, ...] = ()
    before_usd: Usd
    """What the corrected entries came to."""
    after_usd: Usd
    """What they come to now."""
