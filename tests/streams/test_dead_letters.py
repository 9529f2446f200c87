"""Dead letters keep the original bytes exactly, can be read, and can be brought back."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nats.aio.client import Client

from schemas.dead_letters import DeadLetter
from streams import dead_letters
from streams.dead_letters import Kept, NotReplayableError, bury, encode, original, read, replay
from streams.messages import CONTENT_TYPE, NDJSON, Received


def source(data: bytes, subject: str = "telemetry.demo.chat.run") -> Received:
    return Received(subject, data, 7, 1, 1_770_000_000_000_000_000, 0, "", {CONTENT_TYPE: NDJSON})


def letter(raw: bytes, subject: str = "telemetry.demo.chat.run") -> DeadLetter:
    out = bury(source(raw, subject), "TELEMETRY", raw, processor="validate", reason="malformed_json", tenant="demo", kind="run")
    return DeadLetter.model_validate_json(out.data)


@given(st.binary(max_size=2000))
def test_any_bytes_come_back_exactly(raw: bytes) -> None:
    assert original(letter(raw)) == raw


def test_a_rejected_megabyte_fits_a_message_with_its_reason() -> None:
    raw = random.Random(1).randbytes(1_000_000)
    out = bury(source(raw), "TELEMETRY", raw, processor="validate", reason="malformed_json", tenant="demo", kind="run")
    assert len(out.data) < 2 * 1024 * 1024 - 10_000


def test_what_does_not_fit_keeps_its_hash() -> None:
    raw = random.Random(1).randbytes(1_900_000)
    assert encode(raw)[0] == "omitted"
    with pytest.raises(NotReplayableError, match="only the hash"):
        original(letter(raw))
    assert encode(b'{"a":1}' * 250_000)[0] == "zlib+base64"


def test_a_tenant_that_may_not_stand_in_a_subject_becomes_unknown() -> None:
    out = bury(source(b"x"), "TELEMETRY", b"x", processor="validate", reason="r", tenant="evil.>", kind="run")
    assert out.subject == "dead.unknown.run"
    assert DeadLetter.model_validate_json(out.data).tenant_id == "evil.>"


async def test_letters_are_listed_and_replayed_to_where_they_came_from(client: Client) -> None:
    assert [kept async for kept in read(client)] == []
    for number in range(3):
        raw = f"broken {number}".encode()
        out = bury(
            source(raw),
            "TELEMETRY",
            raw,
            processor="validate",
            reason="malformed_json",
            tenant="demo",
            kind="run",
            position=number,
        )
        await client.jetstream().publish(out.subject, out.data)
    found = [kept async for kept in read(client, tenant="demo")]
    assert [original(kept.letter) for kept in found] == [b"broken 0", b"broken 1", b"broken 2"]
    assert len({kept.letter.letter_id for kept in found}) == 3
    await replay(client, found[1])
    stored = await client.jetstream().get_last_msg("TELEMETRY", "telemetry.demo.chat.run")
    assert stored.data == b"broken 1"
    assert (stored.headers or {})[CONTENT_TYPE] == NDJSON


async def test_a_letter_from_an_unusable_subject_is_not_replayed(client: Client) -> None:
    with pytest.raises(NotReplayableError, match="cannot be published to"):
        await replay(client, Kept(1, letter(b"x", "telemetry.too.many.tokens.here")))
    assert dead_letters.__doc__
