"""Dead letters: written with their original bytes, listed, shown, and brought back."""

import base64
import hashlib
import zlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from nats.aio.client import Client

from schemas.dead_letters import DeadLetter
from schemas.errors import FieldError
from schemas.ids import derived_id
from streams import subjects, topology
from streams.covering import Outgoing
from streams.messages import CONTENT_TYPE, EVENT_COUNT, JSON, Received
from streams.publish import publish
from streams.reader import OrderedReader, Source

MAX_ORIGINAL: Final = 1_400_000
"""Encoded original bytes above this do not fit a message with their reason: they are omitted, their hash stays."""


_OMITTED: Final[tuple["Encoding", str]] = ("omitted", "")


class NotReplayableError(ValueError):
    """A dead letter's original is not kept, or its subject is unusable. Trying again does not help."""


Encoding = Literal["base64", "zlib+base64", "omitted"]


def encode(original: bytes) -> tuple[Encoding, str]:
    """``(encoding, text)`` of the original bytes, compressed where they would not fit otherwise."""
    plain = base64.b64encode(original).decode()
    if len(plain) <= MAX_ORIGINAL:
        return "base64", plain
    packed = base64.b64encode(zlib.compress(original, 6)).decode()
    return ("zlib+base64", packed) if len(packed) <= MAX_ORIGINAL else ("omitted", "")


def original(letter: DeadLetter) -> bytes:
    """The rejected bytes, exactly; raises NotReplayableError where they were not kept."""
    if letter.encoding == "base64":
        return base64.b64decode(letter.original)
    if letter.encoding == "zlib+base64":
        return zlib.decompress(base64.b64decode(letter.original))
    msg = f"letter {letter.letter_id}: only the hash of its {letter.original_bytes:,} bytes was kept"
    raise NotReplayableError(msg)


def _fit(text: str, most: int) -> str:
    """Foreign text as a letter's field may hold it: short, without NUL."""
    return text.replace("\x00", "\ufffd")[:most]


def bury(
    source: Received, stream: str, raw: bytes, *, processor: str, reason: str, errors: tuple[FieldError, ...] = (),
    tenant: str, kind: str, position: int = 0, events: int = 1, event_id: str | None = None, event_type: str | None = None,
    keep: bool = True, instead: bytes | None = None, privacy: str | None = None,
) -> Outgoing:  # fmt: skip
    """The message that parks ``raw``. ``keep=False`` keeps metadata and hash only; ``instead`` is kept in its place, and ``privacy`` says why."""
    encoding, text = encode(raw if instead is None else instead) if keep else _OMITTED
    letter = DeadLetter(
        letter_id=str(derived_id("dead", processor, stream, str(source.sequence), str(position))),
        processor=processor,
        reason=reason,
        errors=errors,
        events=events,
        tenant_id=_fit(tenant, 128),
        kind=_fit(kind, 128),
        event_id=_fit(event_id, 128) if event_id else None,
        event_type=_fit(event_type, 128) if event_type else None,
        source_subject=_fit(source.subject, 1024),
        source_stream=stream,
        source_sequence=source.sequence,
        position=position,
        received_at=source.stored_at,
        encoding=encoding,
        original=text,
        original_bytes=len(raw),
        original_sha256=hashlib.sha256(raw).hexdigest(),
        content_type=_fit(source.headers.get(CONTENT_TYPE, ""), 256) or None,
        privacy=privacy,
    )
    headers = {CONTENT_TYPE: JSON, EVENT_COUNT: str(events)}
    return Outgoing(subjects.dead(tenant, kind), letter.model_dump_json(exclude_none=True).encode(), headers)


@dataclass(frozen=True, slots=True)
class Kept:
    """A dead letter with its place in EVENTS."""

    sequence: int
    letter: DeadLetter


async def read(client: Client, *, tenant: str | None = None, after: int = 0) -> AsyncIterator[Kept]:
    """Every dead letter now in EVENTS after sequence ``after``, oldest first."""
    wanted = subjects.dead_of(tenant) if tenant else subjects.ALL_DEAD
    info = await client.jsm().stream_info(topology.EVENTS, subjects_filter=wanted)
    left = sum((info.state.subjects or {}).values())
    if not left:
        return
    reader = OrderedReader(client, Source(topology.EVENTS, (wanted,)), after)
    try:
        while messages := await reader.fetch(200, 2.0):
            for message in messages:
                yield Kept(message.sequence, DeadLetter.model_validate_json(message.data))
            if messages[-1].pending == 0:
                return
    finally:
        await reader.close()


async def replay(client: Client, kept: Kept, headers: Mapping[str, str] | None = None) -> int:
    """Publishes the original bytes again where they came from; returns the new TELEMETRY sequence."""
    letter = kept.letter
    subject = letter.source_subject
    if not subjects.is_telemetry(subject):
        msg = f"letter {letter.letter_id}: its source subject {letter.source_subject!r} cannot be published to"
        raise NotReplayableError(msg)
    sent = dict(headers or {})
    if letter.content_type:
        sent[CONTENT_TYPE] = letter.content_type
    return await publish(client, subject, original(letter), headers=sent)
