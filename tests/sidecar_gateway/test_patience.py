"""Who sends slowly, too much or too often costs little and is let go; against a gateway and a sidecar's door, by raw sockets."""

import asyncio
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import psutil
import pytest

from service.door import HealthDoor
from sidecar.door import Door
from sidecar.intake import SpoolIntake
from sidecar.listener import Listener
from sidecar.patience import Patience
from sidecar.shipping import Shipper
from sidecar.spool import Spool
from streams.embedded import EmbeddedServer
from streams.settings import NatsSettings
from streams.waiting import Nats
from tests.conftest import until
from tests.sidecar.running import Sidecar, Telemetry
from tests.sidecar_gateway.running import Gateway, event, lines

HUNDRED_MB = 100_000_000


async def said(reader: asyncio.StreamReader) -> bytes:
    """Everything until the connection is closed, a reset included."""
    found = b""
    try:
        async with asyncio.timeout(60):
            while piece := await reader.read(65_536):
                found += piece
    except ConnectionError:
        pass
    return found


async def connect(port: int, sent: bytes = b"") -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(sent)
    await writer.drain()
    return reader, writer


def head(key: str, length: int | str) -> bytes:
    how = "Transfer-Encoding: chunked" if length == "chunked" else f"Content-Length: {length}"
    return f"POST /v1/events HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nX-Api-Key: {key}\r\n{how}\r\n\r\n".encode()


async def test_a_head_or_body_that_does_not_come_is_not_waited_for(stopped_gateway: Gateway, key: str) -> None:
    await stopped_gateway.start(AGENTOPS_GATEWAY_HEAD_S="0.5", AGENTOPS_GATEWAY_BODY_S="0.5", AGENTOPS_GATEWAY_IDLE_S="1")
    port = stopped_gateway.port
    for begun in (b"", b"POST /v1/events HTTP/1.1\r\nHost:", b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nGET /hea"):
        reader, writer = await connect(port, begun)
        answer = await said(reader)
        # Half of a next head that came with a whole request is an idle connection: closed without a word.
        assert (b" 408 " in answer) == (b"healthz" not in begun), (begun, answer)
        writer.close()
    for begun in (head(key, 1000) + b'{"a', head(key, "chunked") + b"3\r\n{  \r\n"):
        reader, writer = await connect(port, begun)
        answer = await said(reader)
        assert answer.startswith(b"HTTP/1.1 408 "), answer
        assert b"did not arrive" in answer
        writer.close()
    text = await stopped_gateway.metrics()
    assert 'agentops_connections_refused_total{reason="slow_head"} 2.0' in text
    assert (await stopped_gateway.post(lines(event()), key))[0] == 202


async def test_a_drip_of_bytes_does_not_keep_a_head_alive(stopped_gateway: Gateway, key: str) -> None:
    await stopped_gateway.start(AGENTOPS_GATEWAY_HEAD_S="1")
    reader, writer = await connect(stopped_gateway.port, b"POST /v1/events HTTP/1.1\r\n")
    answering = asyncio.create_task(said(reader))

    async def dripped() -> bool:
        if not writer.is_closing():
            writer.write(b"X: y\r\n")
        return answering.done()

    await until(dripped, "it is let go all the same")
    assert b" 408 " in await answering
    writer.close()


async def test_one_connection_too_many_is_told_so_and_there_is_room_when_others_go(stopped_gateway: Gateway, key: str) -> None:
    await stopped_gateway.start(AGENTOPS_GATEWAY_MAX_CONNECTIONS="5")
    others = [await connect(stopped_gateway.port) for _ in range(5)]

    async def refused() -> bool:
        reader, writer = await connect(stopped_gateway.port)
        answer = await said(reader)
        writer.close()
        return answer.startswith(b"HTTP/1.1 503 ")

    await until(refused, "no more than five")
    for _, writer in others:
        writer.close()

    async def room() -> bool:
        return await stopped_gateway.answers("/healthz")

    await until(room, "there is room again")


async def test_a_hundred_megabytes_are_refused_and_fifty_such_at_once_cost_no_memory(
    gateway: Gateway, key: str, telemetry: Telemetry
) -> None:
    before = gateway.rss_bytes
    status, answer = await gateway.post(io.BytesIO(b"x" * HUNDRED_MB), key)
    assert (status, answer["error"]["type"]) == (413, "too_large")

    async def pour(length: int | str) -> bytes:
        """Until it is told to stop."""
        reader, writer = await connect(gateway.port, head(key, length))
        answering = asyncio.create_task(said(reader))
        piece = b"x" * 65_536
        framed = b"10000\r\n" + piece + b"\r\n" if length == "chunked" else piece
        try:
            for _ in range(HUNDRED_MB // len(piece)):
                if answering.done():
                    break
                writer.write(framed)
                await writer.drain()
        except ConnectionError:
            pass
        writer.close()
        return await answering

    answers = await asyncio.gather(*(pour(HUNDRED_MB if number % 2 else "chunked") for number in range(50)))
    # A reset may overtake the answer; what is told is told right.
    told = [answer.split(b" ")[1] for answer in answers if answer]
    assert set(told) <= {b"413", b"503"}
    assert len(told) > 25
    assert gateway.rss_bytes - before < 120_000_000
    assert (await gateway.post(lines(event()), key))[0] == 202
    assert len(await telemetry.read()) == 1


@asynccontextmanager
async def patient_door(bears: Patience, tmp_path: Path) -> AsyncIterator[Listener]:
    spool = Spool.open(tmp_path / "spool", 4_000_000)
    shipper = Shipper(spool, Nats(NatsSettings(), "test"), "acme", "a", tmp_path / "refused")
    listener = Listener(
        Door("acme", "a", SpoolIntake(shipper), HealthDoor("sidecar")).application(),
        "127.0.0.1",
        0,
        "door",
        bears=bears,
        keepalive_timeout=0.5,
    )
    await listener.start()
    yield listener
    await listener.stop()
    spool.close()


async def test_a_sidecars_door_is_no_more_patient(tmp_path: Path) -> None:
    async with patient_door(Patience(connections=3, head_s=0.3), tmp_path) as listener:
        for begun in (b"", b"POST /v1/events HTTP/1.1\r\nHost:", b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\nGET /hea"):
            reader, writer = await connect(listener.port, begun)
            answer = await said(reader)
            assert answer.count(b"HTTP/1.1") == begun.count(b"\r\n\r\n")
            writer.close()
    async with patient_door(Patience(connections=3, head_s=30), tmp_path) as listener:
        others = [await connect(listener.port) for _ in range(3)]

        async def asked() -> bytes:
            reader, writer = await connect(listener.port, b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            found = await said(reader)
            writer.close()
            return found

        assert await asked() == b""
        for _, writer in others:
            writer.close()

        async def room() -> bool:
            return b"200 OK" in await asked()

        await until(room, "there is room again")


async def test_fifty_large_bodies_cost_a_sidecar_no_memory(sidecar_with_door: Sidecar) -> None:
    running = sidecar_with_door
    before = psutil.Process(running.run["pid"]).memory_info().rss
    port = int(running.run["door_port"])

    async def pour() -> bytes:
        reader, writer = await connect(port, head("-", HUNDRED_MB))
        try:
            writer.write(b"x" * 1_000_000)
            await writer.drain()
        except ConnectionError:
            pass
        found = await said(reader)
        writer.close()
        return found

    answers = await asyncio.gather(*(pour() for _ in range(50)))
    assert {answer.split(b" ")[1] for answer in answers if answer} <= {b"413"}
    assert psutil.Process(running.run["pid"]).memory_info().rss - before < 60_000_000


@pytest.fixture
async def sidecar_with_door(server: EmbeddedServer, tmp_path: Path, http: aiohttp.ClientSession) -> AsyncIterator[Sidecar]:
    running = Sidecar(tmp_path, server.settings("sidecar"), http)
    await running.start(command=["sleep", "600"])
    yield running
    await running.stop()
