"""What makes two payloads the same event, whatever privacy took out of either of them meanwhile.

The hash of an event has two parts. The head is everything that is counted, billed and joined: envelope, trace, step, calls, usage,
cost, budget. What follows is text. Of an event privacy has touched the second part is left open: sent again under another policy
it says something else there, and is the same event.
"""

import re
from hashlib import sha256
from typing import Final

from schemas.content import MARKS

INGEST: Final = b',"ingest":{'
_TEXT: Final = re.compile(rb',"(?:attributes|error|health|log|policy|alert|metrics|agent|evaluation|fault)":').search
"""Where the head ends: within it no field is so called, and in a JSON string a quote stands behind a backslash."""
_NOTHING: Final = b',"attributes":{}}'
_HEAD_BYTES: Final = 5
_OPEN: Final = bytes(3)
_NO_TEXT: Final = b"\x01\x00\x00"
_MARKED: Final = re.compile(rb'"(?:' + b"|".join(re.escape(mark.encode()) for mark in MARKS) + rb')":').search


def payload_hash(normalised: bytes) -> bytes:
    """Eight bytes that stand for an event's normalised JSON, without what validate added."""
    found = _TEXT(normalised)
    if found is None:
        return sha256(normalised).digest()[:_HEAD_BYTES] + _NO_TEXT
    head = sha256(normalised[: found.start()]).digest()[:_HEAD_BYTES]
    text = normalised[found.start() :]
    if text == _NOTHING:
        return head + _NO_TEXT
    if b'"agentops.' in text and _MARKED(text) is not None:
        return head + _OPEN
    rest = sha256(text).digest()[:3]
    return head + (rest if rest != _OPEN else _NO_TEXT)


def same(one: bytes, other: bytes) -> bool:
    """Whether two payload hashes may be of one event."""
    if one == other:
        return True
    return one[:_HEAD_BYTES] == other[:_HEAD_BYTES] and _OPEN in {one[_HEAD_BYTES:], other[_HEAD_BYTES:]}


def without_ingest(line: bytes) -> bytes:
    """A line of ``events.`` without what validate added: what its payload hash was made of."""
    # Nothing the producer chose stands behind the last mark: ingest holds numbers, a moment and flags only.
    cut = line.rfind(INGEST)
    return line if cut < 0 else line[:cut] + b"}"
