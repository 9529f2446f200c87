"""One message as it stands in a stream, with the position it was read at."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from nats.aio.msg import Msg

NDJSON: Final = "application/x-ndjson"
JSON: Final = "application/json"
CONTENT_TYPE: Final = "Content-Type"
MESSAGE_ID: Final = "Nats-Msg-Id"
EVENT_COUNT: Final = "Agentops-Events"
"""How many events a micro-batch carries: lets a reader count without parsing."""
FAILED: Final = "Agentops-Error"
"""On the reply of a micro service: it is a QueryError."""

_V1_TOKENS: Final = 9


class UnreadablePositionError(ValueError):
    """A reply subject is not JetStream's. Trying again does not help."""


_MOST_DIGITS: Final = 18


@dataclass(frozen=True, slots=True)
class Received:
    """A message read from a stream."""

    subject: str
    data: bytes
    sequence: int
    """Its sequence in the stream."""
    delivery: int
    """Its number among this consumer's deliveries: a jump means some were lost on the way."""
    stored_ns: int
    """When the stream stored it, nanoseconds since 1970."""
    pending: int
    """How many matching messages were behind it."""
    reply: str
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def stored_at(self) -> datetime:
        """When the stream stored it."""
        return datetime.fromtimestamp(self.stored_ns / 1e9, UTC)


def promised(message: Received) -> int:
    """How many events a message says it carries; 1 where it says nothing that is a count."""
    told = message.headers.get(EVENT_COUNT, "1")
    return int(told) if told.isascii() and told.isdigit() and len(told) <= _MOST_DIGITS else 1


def received(message: Msg) -> Received:
    """``message`` with its position, read from the reply subject."""
    parts = message.reply.split(".")
    if len(parts) < _V1_TOKENS or parts[0] != "$JS" or parts[1] != "ACK":
        msg = f"not a JetStream reply subject: {message.reply!r}"
        raise UnreadablePositionError(msg)
    # $JS.ACK.stream.consumer.delivered.stream_seq.consumer_seq.time.pending, newer: domain and account before stream.
    tail = parts[4:] if len(parts) == _V1_TOKENS else parts[6:]
    return Received(
        subject=message.subject,
        data=message.data,
        sequence=int(tail[1]),
        delivery=int(tail[2]),
        stored_ns=int(tail[3]),
        pending=int(tail[4]),
        reply=message.reply,
        headers=message.headers or {},
    )
