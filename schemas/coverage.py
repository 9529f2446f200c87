"""Coverage records: which input a processor has turned into which output."""

from typing import Final

from schemas.model import Count, Identifier, Instant, Lenient, Name

CORRECTIONS: Final = 9999
"""Not a share of the input: the partition of cost under which corrections of the ledger are covered."""


class TornPart(Lenient):
    """A message that stood already when the batch was completed it belongs to."""

    sequence: Count
    """Where it stands in the output stream: behind the record before, perhaps before records of other partitions."""
    events: Count
    """How many events it carries, or stands for."""
    dead: bool = False
    """Whether it is a dead letter."""


class Coverage(Lenient):
    """One atomic batch's account of itself: ``received = valid + dead + duplicates``."""

    batch_id: Identifier
    """The writer's own id of this batch: how it recognises its own record after a lost reply."""
    processor: Name
    partition: Count
    instance: Name
    input_stream: Name
    first_sequence: Count
    """The input range starts right after the previous record's last: no gap, no overlap."""
    last_sequence: Count
    messages: Count
    """Input messages read in that range."""
    missing: Count = 0
    """Input sequences that no longer existed when the range was read (purged or deleted by hand)."""
    received: Count
    valid: Count
    dead: Count
    duplicates: Count
    skipped: Count = 0
    """Events read that were none of this processor's business, not part of ``received``: calls without usage, for cost."""
    valid_by_kind: dict[str, int] = {}
    torn: tuple[TornPart, ...] | None = None
    """Outputs this record accounts for that an earlier attempt at its batch had left behind; none where nothing was torn."""
    at: Instant
