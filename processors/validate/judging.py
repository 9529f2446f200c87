"""Judging: which events of a message are accepted, which are dead and why. No clock, no network, no files."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

import orjson
import structlog

from privacy.concern import concerns
from privacy.rules import STRICTEST, Rules
from privacy.treatment import Large, treat
from processors.validate.identity import INGEST, payload_hash, same
from processors.validate.messages import Address, address, raw_events
from schemas.errors import FieldError, shown
from schemas.events import KIND_OF, Event
from schemas.ids import event_key
from schemas.reading import MAX_EVENT_BYTES, Rejected, read_event
from schemas.shortcut import plainly
from streams.messages import Received
from streams.subjects import UNKNOWN

log = structlog.get_logger(__name__)

BATCH: Final = "batch"
"""The kind of a subject whose message mixes kinds and agents of one tenant."""

MOST_LETTERS: Final = 100
"""A message with more rejected events than this becomes one dead letter of the whole message."""

SHORTEST_EVENT: Final = 100
"""No event has fewer bytes: past ``MOST_LETTERS`` rejections shorter lines are refused unread, so that a megabyte of ``{}`` costs little."""

_SORTED: Final = orjson.OPT_SORT_KEYS
_OPEN: Final = {"attributes"}
_SECOND: Final = 19
"""Characters of a moment up to its seconds."""
_to_json: Final = Event.__pydantic_serializer__.to_json


@dataclass(frozen=True, slots=True)
class Limits:
    """When an event's own time is worth a flag."""

    late_after: timedelta = timedelta(hours=1)
    future_tolerance: timedelta = timedelta(minutes=5)
    past_before: datetime = datetime(2000, 1, 1, tzinfo=UTC)
    duplicate_horizon: timedelta = timedelta(days=30)


class Candidate(NamedTuple):
    """A well-formed event, accepted unless its id is known."""

    position: int
    key: bytes
    payload: bytes
    """Eight bytes that differ when the event differs."""
    kind: str
    line: bytes
    """The event as it will stand on ``events.``."""
    raw: bytes
    large: tuple[Large, ...] = ()
    """Content the line refers to, to be kept before the line is."""


@dataclass(frozen=True, slots=True)
class Rejection:
    """One event that will never be accepted."""

    position: int
    reason: str
    errors: tuple[FieldError, ...]
    raw: bytes
    event_id: str | None = None
    event_type: str | None = None


@dataclass(slots=True)
class Spared:
    """What privacy took out of a message's events."""

    dropped: int = 0
    dropped_bytes: int = 0
    truncated: int = 0
    found: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class Opened:
    """One message, taken apart; duplicates not yet looked for."""

    message: Received
    address: Address
    received: int = 0
    candidates: list[Candidate] = field(default_factory=list)
    rejections: list[Rejection] = field(default_factory=list)
    flagged: dict[str, int] = field(default_factory=dict)
    spared: Spared | None = None


@dataclass(slots=True)
class Judged:
    """What becomes of one message: ``received = accepted + dead + duplicates``."""

    message: Received
    address: Address
    received: int
    accepted: list[Candidate]
    rejections: list[Rejection]
    duplicates: int
    flagged: dict[str, int]

    @property
    def dead(self) -> int:
        """Rejected events."""
        return len(self.rejections)


def normalised(event: Event) -> bytes:
    """The event as JSON in one form: fields in the contract's order, attributes sorted, nothing absent spelled out."""
    if not event.attributes:
        # The usual case; leaving a field out costs a third of writing all of them.
        whole: bytes = _to_json(event, exclude_none=True)
        return whole
    head: bytes = _to_json(event, exclude_none=True, exclude=_OPEN)
    return head[:-1] + b',"attributes":%b}' % orjson.dumps(event.attributes, option=_SORTED)


class _Claims(NamedTuple):
    """What a valid event says of itself."""

    tenant: str
    agent: str
    event_type: str
    event_id: str


def _mismatch(event: _Claims, told: Address, position: int, raw: bytes) -> Rejection:
    """Which of the subject's claims the event contradicts; one it does."""
    own = KIND_OF[event.event_type]
    if event.tenant != told.tenant:
        reason, loc, value = "tenant_mismatch", "$.tenant.tenant_id", event.tenant
        msg = f"the subject says tenant {told.tenant!r}"
    elif event.agent != told.agent:
        reason, loc, value = "agent_mismatch", "$.run.agent_id", event.agent
        msg = f"the subject says agent {told.agent!r}; only kind 'batch' may carry several"
    else:
        reason, loc, value = "kind_mismatch", "$.event_type", event.event_type
        msg = f"its kind is {own!r}, the subject says {told.kind!r}; only kind 'batch' may mix them"
    error = FieldError(loc=loc, msg=msg, value=shown(value, loc.rsplit(".", 1)[-1]))
    return Rejection(position, reason, (error,), raw, event.event_id, event.event_type)


class _Times:
    """The flags of one message's events, from the moment it was stored."""

    __slots__ = ("_future", "_horizon", "_late", "_past", "_usual_from", "_usual_until")

    def __init__(self, received_at: datetime, limits: Limits) -> None:
        self._late = received_at - limits.late_after
        self._future = received_at + limits.future_tolerance
        self._horizon = received_at - limits.duplicate_horizon
        self._past = limits.past_before
        # Moments as the normal form writes them stand in the order of time, down to the second.
        self._usual_from = (self._late + timedelta(seconds=1)).isoformat()[:_SECOND]
        self._usual_until = self._future.isoformat()[:_SECOND]

    def flags_of(self, written: str) -> tuple[str, ...]:
        """The flags of an event whose normal form says ``written``."""
        return () if self._usual_from <= written < self._usual_until else self.flags(datetime.fromisoformat(written))

    def flags(self, occurred_at: datetime) -> tuple[str, ...]:
        if self._late <= occurred_at <= self._future:
            return ()
        if occurred_at > self._future:
            return ("from_the_future",)
        found = ["late"]
        if occurred_at < self._horizon:
            found.append("beyond_duplicate_horizon")
        if occurred_at < self._past:
            found.append("from_the_past")
        return tuple(found)


def _whole(opened: Opened, reason: str, msg: str) -> Opened:
    """Nothing of the message can be used: one rejection stands for it."""
    opened.received = 1
    opened.candidates.clear()
    error = FieldError(loc="$", msg=msg)
    opened.rejections = [Rejection(0, reason, (error,), opened.message.data)]
    return opened


def _private(plain: bytes, rules: Rules, opened: Opened) -> tuple[bytes, tuple[Large, ...]]:
    """The normal form of an event as its tenant's rules let it stand, and content it refers to."""
    treated = treat(orjson.loads(plain), rules, large="refer")
    if not treated.touched:
        return plain, ()
    spared = opened.spared = opened.spared or Spared()
    spared.dropped += treated.dropped
    spared.dropped_bytes += treated.dropped_bytes
    spared.truncated += treated.truncated
    for kind, count in treated.found.items():
        spared.found[kind] = spared.found.get(kind, 0) + count
    attributes = orjson.Fragment(orjson.dumps(treated.event.get("attributes", {}), option=_SORTED))
    return orjson.dumps(treated.event | {"attributes": attributes}), treated.large


def take_apart(message: Received, limits: Limits, rules_of: Callable[[str], Rules] = lambda _: STRICTEST) -> Opened:
    """Reads every event of ``message``. Never raises: what surprises it is dead, ``internal_error``."""
    opened = Opened(message, address(message.subject))
    try:
        return _take_apart(opened, limits, rules_of(opened.address.tenant))
    except Exception as error:  # noqa: BLE001 - one message must never stop the stream
        log.warning("message.surprised", sequence=message.sequence, error=repr(error)[:500])
        return _whole(Opened(message, opened.address), "internal_error", f"{type(error).__name__}: {str(error)[:500]}")


def _take_apart(opened: Opened, limits: Limits, rules: Rules) -> Opened:
    message, told = opened.message, opened.address
    if len(message.data) > MAX_EVENT_BYTES:
        return _whole(
            opened, "too_large", f"a message may have at most {MAX_EVENT_BYTES:,} bytes, this has {len(message.data):,}"
        )
    if not told.valid:
        return _whole(opened, "invalid_subject", "the subject must be telemetry.<tenant>.<agent>.<kind> with valid ids")
    raws = raw_events(message)
    if not raws:
        return _whole(opened, "empty", "the message holds no event")
    opened.received = len(raws)
    received_at = message.stored_at
    times = _Times(received_at, limits)
    moment = received_at.isoformat(timespec="microseconds").replace("+00:00", "Z")
    before = INGEST + f'"received_at":"{moment}","sequence":{message.sequence},"position":'.encode()
    candidates, rejections = opened.candidates, opened.rejections
    tenant, agent, kind, mixed = told.tenant, told.agent, told.kind, told.kind == BATCH
    for position, raw in enumerate(raws):
        if len(rejections) > MOST_LETTERS and len(raw) < SHORTEST_EVENT:
            rejections.append(Rejection(position, "contract_violation", (), raw))
            continue
        if (found := plainly(raw)) is not None:
            claims = found["tenant"]["tenant_id"], found["run"]["agent_id"], found["event_type"], found["event_id"]
            plain = orjson.dumps(found)
            flags = times.flags_of(found["occurred_at"])
            closer = bool(rules.own) or concerns(found)
        else:
            event = read_event(raw)
            if isinstance(event, Rejected):
                rejections.append(Rejection(position, event.reason, event.errors, raw, event.event_id, event.event_type))
                continue
            claims = event.tenant.tenant_id, event.run.agent_id, event.event_type, str(event.event_id)
            plain = normalised(event)
            flags = times.flags(event.occurred_at)
            closer = True
        own = KIND_OF[claims[2]]
        if claims[0] != tenant or not (mixed or (own == kind and claims[1] == agent)):
            rejections.append(_mismatch(_Claims(*claims), told, position, raw))
            continue
        large: tuple[Large, ...] = ()
        if closer:
            plain, large = _private(plain, rules, opened)
        if flags:
            ending = b'%d,"flags":%b}}' % (position, orjson.dumps(flags))
            for flag in flags:
                opened.flagged[flag] = opened.flagged.get(flag, 0) + 1
        else:
            ending = b"%d}}" % position
        key = event_key(tenant, claims[3])
        candidates.append(Candidate(position, key, payload_hash(plain), own, plain[:-1] + before + ending, raw, large))
    return opened


def _conflict(candidate: Candidate) -> Rejection:
    claimed = orjson.loads(candidate.line)
    event_id = claimed["event_id"]
    msg = "another event with this id and different content was accepted before"
    error = FieldError(loc="$.event_id", msg=msg, value=event_id)
    return Rejection(candidate.position, "conflicting_duplicate", (error,), candidate.raw, event_id, claimed["event_type"])


def judge(opened: Iterable[Opened], known: Mapping[bytes, bytes]) -> list[Judged]:
    """Each message's verdict, in order. ``known`` are the payload hashes of ids accepted before; repeats among these count too."""
    seen: dict[bytes, bytes] = {}
    judged = []
    for one in opened:
        accepted, rejections, duplicates = [], one.rejections, 0
        for candidate in one.candidates:
            before = seen.get(candidate.key) or known.get(candidate.key)
            if before is None:
                seen[candidate.key] = candidate.payload
                accepted.append(candidate)
            elif same(before, candidate.payload):
                duplicates += 1
            else:
                rejections.append(_conflict(candidate))
        if len(rejections) > 1:
            rejections.sort(key=_position)
        judged.append(Judged(one.message, one.address, one.received, accepted, rejections, duplicates, one.flagged))
    return judged


def _position(rejection: Rejection) -> int:
    return rejection.position


def dead_kind(rejection: Rejection, told: Address) -> str:
    """The kind a rejected event is filed under: its own where it names one, else the subject's."""
    return KIND_OF.get(rejection.event_type or "", told.kind if told.valid else UNKNOWN)
