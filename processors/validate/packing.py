"""From verdicts to covered batches: outputs grouped by tenant and kind, in order, few enough for one atomic batch."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import structlog

from privacy.letters import AsSent, Changed, Withheld, original, told
from privacy.rules import STRICTEST, Rules
from processors.validate.judging import MOST_LETTERS, Judged, Rejection, dead_kind
from processors.validate.quota import DeadQuota
from schemas.errors import FieldError
from streams import subjects, topology
from streams.covering import MAX_BATCH, Outgoing
from streams.dead_letters import bury
from streams.messages import CONTENT_TYPE, EVENT_COUNT, NDJSON, Received
from streams.micro_batches import MAX_BATCH_BYTES, MAX_BATCH_LINES, split

log = structlog.get_logger(__name__)

_FIRST_ERRORS: Final = 20
_WHOSE: Final = frozenset({"tenant_mismatch", "invalid_subject"})


@dataclass(slots=True)
class Batch:
    """What one atomic batch holds and accounts for: a contiguous run of messages."""

    messages: list[Received] = field(default_factory=list)
    outputs: list[Outgoing] = field(default_factory=list)
    rows: list[tuple[bytes, bytes]] = field(default_factory=list)
    """Key and payload hash of every accepted event, for the duplicate index."""
    received: int = 0
    duplicates: int = 0
    valid_by_kind: Counter[str] = field(default_factory=Counter)
    dead_by_reason: Counter[str] = field(default_factory=Counter)
    flagged: Counter[str] = field(default_factory=Counter)
    omitted: int = 0
    """Dead letters whose original was not kept."""

    @property
    def valid(self) -> int:
        """Accepted events."""
        return self.valid_by_kind.total()

    @property
    def dead(self) -> int:
        """Rejected events."""
        return self.dead_by_reason.total()


@dataclass(slots=True)
class _Group:
    """Lines of one tenant and kind, and how many micro-batches they will make."""

    lines: list[bytes] = field(default_factory=list)
    batches: int = 0
    size: int = 0
    count: int = 0

    def add(self, line: bytes) -> int:
        """Adds a line; returns by how much the number of micro-batches grew. Counts as ``split`` cuts."""
        self.lines.append(line)
        if self.count and self.size + 1 + len(line) <= MAX_BATCH_BYTES and self.count < MAX_BATCH_LINES:
            self.size += 1 + len(line)
            self.count += 1
            return 0
        self.batches, self.size, self.count = self.batches + 1, len(line), 1
        return 1


def _letters(judged: Judged, quota: DeadQuota, rules: Rules) -> tuple[list[Outgoing], int]:
    """The dead letters of one message, and how many of them keep no original."""
    where = judged.address
    tenant = where.tenant if where.valid else subjects.UNKNOWN
    rejections = judged.rejections
    if len(rejections) > MOST_LETTERS:
        errors: list[FieldError] = []
        for rejection in rejections:
            errors += rejection.errors
            if len(errors) >= _FIRST_ERRORS:
                break
        reasons = {rejection.reason for rejection in rejections}
        reason = reasons.pop() if len(reasons) == 1 else "many_reasons"
        whole = Rejection(0, reason, tuple(errors[:_FIRST_ERRORS]), judged.message.data)
        letter, kept = _letter(
            judged.message, whole, tenant, where.kind if where.valid else subjects.UNKNOWN, quota, len(rejections), rules
        )
        return [letter], 0 if kept else 1
    letters, omitted = [], 0
    for rejection in rejections:
        letter, kept = _letter(judged.message, rejection, tenant, dead_kind(rejection, where), quota, 1, rules)
        letters.append(letter)
        omitted += not kept
    return letters, omitted


def _letter(
    message: Received, rejection: Rejection, tenant: str, kind: str, quota: DeadQuota, events: int, rules: Rules
) -> tuple[Outgoing, bool]:
    keep = quota.take(tenant, len(rejection.raw), message.stored_ns)
    try:
        # Whose it is is in doubt: by the strictest rules.
        rules = STRICTEST if rejection.reason in _WHOSE else rules
        may_stand: AsSent | Changed | Withheld = original(rejection.raw, rules) if keep else AsSent()
        keep = keep and not isinstance(may_stand, Withheld)
        letter = bury(
            message, topology.TELEMETRY, rejection.raw, processor="validate", reason=rejection.reason, errors=told(rejection.errors, rules),
            instead=may_stand.raw if isinstance(may_stand, Changed) else None,
            privacy=None if isinstance(may_stand, AsSent) else may_stand.reason,
            tenant=tenant, kind=kind, position=rejection.position, events=events, event_id=rejection.event_id,
            event_type=rejection.event_type, keep=keep,
        )  # fmt: skip
        if len(letter.data) <= quota.largest_letter:
            return letter, keep
    except Exception as error:  # noqa: BLE001 - a letter that cannot be written as it is must not stop the stream
        log.warning("letter.reduced", sequence=message.sequence, error=repr(error)[:500])
    bare = Received(
        subject=f"{subjects.UNKNOWN}", data=b"", sequence=message.sequence, delivery=0, stored_ns=message.stored_ns, pending=0,
        reply="",
    )  # fmt: skip
    return (
        bury(
            bare, topology.TELEMETRY, rejection.raw, processor="validate", reason=rejection.reason, tenant=tenant, kind=kind,
            position=rejection.position, events=events, keep=False,
        ),
        False,
    )  # fmt: skip


def _begun(judged: Judged) -> int:
    """At most so many micro-batches a message can begin: its kinds, and its cuts by size and by lines."""
    kinds = len({candidate.kind for candidate in judged.accepted})
    size = sum(len(candidate.line) for candidate in judged.accepted)
    return kinds + 2 * size // MAX_BATCH_BYTES + len(judged.accepted) // MAX_BATCH_LINES


def pack(
    judged: Sequence[Judged], quota: DeadQuota, most: int = MAX_BATCH - 1, rules_of: Callable[[str], Rules] = lambda _: STRICTEST
) -> Iterator[Batch]:
    """The verdicts as batches of at most ``most`` outputs, each over a contiguous run of messages, in order."""
    batch, groups, count = Batch(), dict[tuple[str, str], _Group](), 0
    for one in judged:
        letters, omitted = _letters(one, quota, rules_of(one.address.tenant)) if one.rejections else ([], 0)
        # Certainly no more micro-batches than events; counted closely only where that might be too many.
        begun = len(one.accepted)
        if batch.messages and count + len(letters) + begun > most and count + len(letters) + _begun(one) > most:
            yield _closed(batch, groups)
            batch, groups, count = Batch(), {}, 0
        batch.messages.append(one.message)
        batch.received += one.received
        batch.duplicates += one.duplicates
        batch.omitted += omitted
        if one.flagged:
            batch.flagged.update(one.flagged)
        for rejection in one.rejections:
            batch.dead_by_reason[rejection.reason] += 1
        batch.outputs += letters
        count += len(letters)
        tenant = one.address.tenant
        for candidate in one.accepted:
            group = groups.get((tenant, candidate.kind))
            if group is None:
                group = groups[tenant, candidate.kind] = _Group()
            count += group.add(candidate.line)
            batch.rows.append((candidate.key, candidate.payload))
    if batch.messages:
        yield _closed(batch, groups)


def _closed(batch: Batch, groups: dict[tuple[str, str], _Group]) -> Batch:
    for (tenant, kind), group in groups.items():
        subject = subjects.events(tenant, kind)
        batch.valid_by_kind[kind] += len(group.lines)
        batch.outputs += [
            Outgoing(subject, part.data, {CONTENT_TYPE: NDJSON, EVENT_COUNT: str(part.count)}) for part in split(group.lines)
        ]
    return batch
