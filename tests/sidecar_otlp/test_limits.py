"""Slow and huge requests are refused, and nothing of them is held for long."""

import asyncio
import gzip
import io
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import pytest

from schemas.events import Event
from schemas.reading import MAX_EVENT_BYTES, read_event
from service.instruments import CONNECTIONS_REFUSED
from sidecar.intake import SpoolIntake
from sidecar.listener import Listener
from sidecar.otlp import wire
from sidecar.otlp.doors import OtlpDoors
from sidecar.otlp.receiving import Receiver
from sidecar.otlp.sources import Source
from tests.conftest import until
from tests.sidecar.test_spool import drain
from tests.sidecar_otlp.spans import chat, key_values, request
from tests.sidecar_otlp.test_http import of_a1, opened

HUNDRED_MB = 100_000_000


async def test_a_hundred_megabytes_are_refused_however_they_come(tmp_path: Path) -> None:
    async def endless() -> AsyncIterator[bytes]:
        for _ in range(HUNDRED_MB // 65_536):
            yield bytes(65_536)

    before = psutil.Process().memory_info().rss
    for unpacks in (True, False):
        async with opened(tmp_path / str(unpacks), unpacks=unpacks) as here:
            assert await _refused(here, io.BytesIO(bytes(HUNDRED_MB)))
            assert await _refused(here, endless())
            bomb = gzip.compress(bytes(HUNDRED_MB), 1)
            assert len(bomb) < 1_000_000
            assert await _refused(here, bomb, Content_Encoding="gzip")
            assert (await here.post(request(chat(b"parent00")))).status == 200
    # The hundred megabytes of this test's own are among it.
    assert psutil.Process().memory_info().rss - before < 300_000_000


async def _refused(here: Any, body: Any, **headers: str) -> bool:
    try:
        return bool((await here.post(body, **headers)).status == 413)
    except aiohttp.ClientError:
        # The door may close before the client has sent what nobody reads.
        return True


async def test_a_call_with_megabytes_of_attributes_is_kept_small_enough_and_billed(tmp_path: Path) -> None:
    """Each attribute is short enough for itself; together they are three times what an event may have."""
    many = {f"note_{number:03}": "\x01" * 4_000 for number in range(124)}
    async with opened(tmp_path) as here:
        call = chat(b"parent00", agentops__why="kept " * 100)
        call.attributes.extend(key_values(many))
        assert (await here.post(request(call))).status == 200
        line = drain(here.spool)[-1].line
    assert len(line) <= MAX_EVENT_BYTES
    event = read_event(line)
    assert isinstance(event, Event)
    assert event.resource_usage is not None
    assert (event.event_type, event.resource_usage.input_tokens) == ("model_call.completed", 100)
    told = event.attributes
    assert (told["agentops.why"], told["agentops.observed_by"]) == ("kept " * 100, "otel")
    cut = [name for name in many if "TRUNCATED 4,000 characters" in str(told.get(name))]
    assert told["agentops.truncated"] == len(cut) > 0


async def test_a_body_that_dribbles_in_is_given_up(tmp_path: Path) -> None:
    async def dribbling() -> AsyncIterator[bytes]:
        while True:
            yield b"\x0a"
            await asyncio.sleep(0.05)

    async with opened(tmp_path, read_s=0.3) as here:
        with suppress(aiohttp.ClientError):
            assert (await here.post(dribbling())).status == 408
        assert here.spooled() == []


async def test_a_head_that_dribbles_in_is_given_up() -> None:
    application = OtlpDoors(SpoolIntake(None), of_a1).application()  # type: ignore[arg-type]
    listener = Listener(application, "127.0.0.1", 0, "door", keepalive_timeout=0.3)
    await listener.start()
    reading, writing = await asyncio.open_connection("127.0.0.1", listener.port)
    writing.write(b"POST /v1/traces HTTP/1.1\r\nHost: a\r\n")

    async def cut() -> bool:
        try:
            writing.write(b"a: b\r\n")
            await writing.drain()
        except ConnectionError:
            return True
        return reading.at_eof()

    await until(cut, "the connection was closed")
    writing.close()
    await listener.stop()


async def test_what_is_no_http_and_who_leaves_is_quoted_in_no_log(caplog: pytest.LogCaptureFixture) -> None:
    """A head that is too long may hold a key, and anybody may send one, or half a body, as often as he likes."""
    listener = Listener(OtlpDoors(SpoolIntake(None), of_a1).application(), "127.0.0.1", 0, "door")  # type: ignore[arg-type]
    await listener.start()
    refused = CONNECTIONS_REFUSED.labels("malformed")
    before = refused._value.get()
    for sent in (
        b"POST /v1/traces HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer " + b"sk-secret" * 2_000 + b"\r\n\r\n",
        b"sk-secret garbage\r\n\r\n",
        b"POST /v1/traces HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\nx",
    ):
        _, writing = await asyncio.open_connection("127.0.0.1", listener.port)
        writing.write(sent)
        await writing.drain()
        writing.write_eof()
        writing.close()
    await until(lambda: refused._value.get() >= before + 1, "the long head is refused")
    await listener.stop()
    assert "sk-secret" not in caplog.text
    assert "Traceback" not in caplog.text


async def test_requests_together_hold_no_more_than_they_may(tmp_path: Path) -> None:
    """A request that finds no room is told to come back, and the room is free again afterwards."""
    began, go_on = asyncio.Event(), asyncio.Event()

    async def halting() -> AsyncIterator[bytes]:
        yield request(chat(b"parent00", gen_ai__input__messages="x" * 60_000)).SerializeToString()
        began.set()
        await go_on.wait()

    async with opened(tmp_path, most_bytes_in_work=100_000) as here:
        first = asyncio.create_task(here.post(halting()))
        await began.wait()
        body = request(chat(b"parent00", gen_ai__input__messages="y" * 60_000))

        async def full() -> bool:
            return (await here.post(body)).status == 503

        await until(full, "there is no room for a second")
        go_on.set()
        assert (await first).status == 200
        assert (await here.post(body)).status == 200


async def test_a_long_request_lets_others_have_their_turn(tmp_path: Path) -> None:
    class Slow:
        async def take(self, *_: Any) -> Any:
            raise AssertionError("not before all is read")

    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    receiver = Receiver(Slow())
    body = request(*[chat(b"parent00") for _ in range(2000)]).SerializeToString()
    try:
        await receiver.traces(Source("acme", "a1"), wire.traces(body))
    except AssertionError:
        assert turns >= 10
    finally:
        counting.cancel()
