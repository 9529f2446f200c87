"""The proxy passes everything through as it came, and faults do what they say."""

import asyncio
import gzip
import io
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web

from schemas.events import Event
from schemas.sections import Fault, Tenant
from sidecar.denials import Denials
from sidecar.enforcement import Enforcer
from sidecar.fault_memory import FaultMemory
from sidecar.proxy import FAULT_HEADER, Proxy
from sidecar.reports import Identity
from tests.conftest import until

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Front:
    """A proxy in front of an agent of the test's own, both on real sockets."""

    def __init__(self, proxy: Proxy, enforcer: Enforcer, url: str, http: aiohttp.ClientSession, events: list[Event]) -> None:
        self.proxy = proxy
        self.enforcer = enforcer
        self.url = url
        self.http = http
        self.events = events

    def fault(self, kind: Any, seconds: float = 30, **more: Any) -> Fault:
        return Fault(fault_id=f"f-{kind}", kind=kind, until=datetime.now(UTC) + timedelta(seconds=seconds), **more)

    def inject(self, *faults: Fault) -> None:
        self.enforcer.ask(faults)


@asynccontextmanager
async def listening(application: web.Application, **options: Any) -> AsyncIterator[str]:
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1, **options)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def front(directory: Path, handler: Handler | None) -> AsyncIterator[Front]:
    application = web.Application(client_max_size=10**9)
    if handler is not None:
        application.router.add_route("*", "/{path:.*}", handler)
    events: list[Event] = []
    identity = Identity(Tenant(tenant_id="acme"), "a", "a", "1", "test", "http://proxy")
    enforcer = Enforcer(identity, FaultMemory(directory / "faults.json"), lambda: None, events.append, lambda: None)
    running = asyncio.create_task(enforcer.run())
    try:
        async with listening(application, auto_decompress=False, handler_cancellation=True) as agent:
            denials = Denials("acme", "a", path=directory / "denials.json")
            target = agent if handler is not None else "http://127.0.0.1:9"
            proxy = Proxy(target, enforcer, lambda: None, lambda: False, denials)
            async with (
                listening(proxy.application(), auto_decompress=False, handler_cancellation=True) as url,
                aiohttp.ClientSession(auto_decompress=False) as http,
            ):
                yield Front(proxy, enforcer, url, http, events)
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def echo(request: web.Request) -> web.Response:
    told = {
        "method": request.method,
        "target": request.raw_path,
        "headers": [[name, value] for name, value in request.headers.items()],
        "body": (await request.read()).hex(),
    }
    return web.json_response(told, headers={"X-Agent": "yes", "Server": "mine"})


async def test_method_target_headers_and_body_arrive_as_they_were_sent(tmp_path: Path) -> None:
    async with front(tmp_path, echo) as here:
        sent = {"X-One": "1", "Connection": "X-Drop", "X-Drop": "mine alone", "User-Agent": "t", "Accept-Encoding": "br"}
        url = f"{here.url}/a%2Fb/ä?q=%20x&q=2&empty"
        async with here.http.put(url, data=gzip.compress(b"text"), headers=sent) as response:
            seen = await response.json()
    received = dict(seen["headers"])
    assert (seen["method"], seen["target"]) == ("PUT", "/a%2Fb/%C3%A4?q=%20x&q=2&empty")
    assert gzip.decompress(bytes.fromhex(seen["body"])) == b"text"
    assert received["X-One"] == "1"
    assert "X-Drop" not in received
    assert received["Accept-Encoding"] == "br"
    assert received["Host"] == here.url.removeprefix("http://")
    assert "Transfer-Encoding" not in received


async def test_nothing_is_added_to_a_request_or_an_answer(tmp_path: Path) -> None:
    """Sent and read as raw bytes, because clients and servers add headers of their own."""
    seen: list[bytes] = []

    async def agent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(b"HTTP/1.1 207 Curious\r\nSet-Cookie: a=1\r\nSet-Cookie: b=2\r\nContent-Length: 2\r\n\r\nok")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(agent, "127.0.0.1", 0)
    async with front(tmp_path, echo) as here:
        here.proxy._target = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        host, port = here.url.removeprefix("http://").split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"GET /x HTTP/1.1\r\nHost: agent.example\r\n\r\n")
        head = (await reader.readuntil(b"\r\n\r\n")).split(b"\r\n")
        body = await reader.readexactly(2)
        writer.close()
    server.close()
    await server.wait_closed()
    assert seen == [b"GET /x HTTP/1.1\r\nHost: agent.example\r\n\r\n"]
    assert head == [b"HTTP/1.1 207 Curious", b"Set-Cookie: a=1", b"Set-Cookie: b=2", b"Content-Length: 2", b"", b""]
    assert body == b"ok"


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "DELETE", "PATCH"])
async def test_every_method_passes(tmp_path: Path, method: str) -> None:
    async with front(tmp_path, echo) as here, here.http.request(method, here.url) as response:
        assert (response.status, response.headers["X-Agent"]) == (200, "yes")


async def test_an_answer_is_passed_on_while_the_agent_still_writes_it(tmp_path: Path) -> None:
    first_was_read = asyncio.Event()

    async def stream(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        await response.write(b"data: one\n\n")
        await first_was_read.wait()
        await response.write(b"data: two\n\n")
        return response

    async with front(tmp_path, stream) as here, here.http.get(here.url) as response:
        assert await response.content.readany() == b"data: one\n\n"
        first_was_read.set()
        assert await response.content.read() == b"data: two\n\n"


async def test_a_request_is_passed_on_while_the_client_still_writes_it(tmp_path: Path) -> None:
    first_arrived = asyncio.Event()

    async def upload(request: web.Request) -> web.Response:
        assert await request.content.readany() == b"one"
        first_arrived.set()
        return web.Response(body=await request.content.read())

    async def parts() -> AsyncIterator[bytes]:
        yield b"one"
        await first_arrived.wait()
        yield b"two"

    async with front(tmp_path, upload) as here, here.http.post(here.url, data=parts()) as response:
        assert await response.read() == b"two"


async def test_large_bodies_pass_both_ways(tmp_path: Path) -> None:
    async def mirror(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": str(request.content_length)})
        await response.prepare(request)
        async for part in request.content.iter_any():
            await response.write(part)
        return response

    body = bytes(range(256)) * 4 * 1024 * 20
    async with front(tmp_path, mirror) as here, here.http.post(here.url, data=io.BytesIO(body)) as response:
        assert await response.read() == body


async def test_a_client_that_leaves_ends_the_request_at_the_agent(tmp_path: Path) -> None:
    arrived, cancelled = asyncio.Event(), asyncio.Event()

    async def slow(request: web.Request) -> web.Response:
        arrived.set()
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()
        return web.Response()

    async with front(tmp_path, slow) as here:
        request = asyncio.create_task(here.http.get(here.url))
        await arrived.wait()
        request.cancel()
        await until(cancelled.is_set, "the agent saw the client leave")
        await until(lambda: here.proxy.in_flight == 0, "nothing is in flight")
        assert here.proxy.traffic().errors == 1


async def test_an_answer_that_breaks_off_breaks_off_for_the_client_too(tmp_path: Path) -> None:
    async def broken(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "1000"})
        await response.prepare(request)
        await response.write(b"half")
        assert request.transport is not None
        request.transport.abort()
        return response

    async with front(tmp_path, broken) as here:
        with pytest.raises((aiohttp.ClientError, ConnectionError)):
            async with here.http.get(here.url) as response:
                await response.read()
        await until(lambda: here.proxy.traffic().errors == 1, "it is counted")


async def test_redirects_and_errors_are_the_clients_to_see(tmp_path: Path) -> None:
    async def moved(request: web.Request) -> web.Response:
        return web.Response(status=int(request.path[1:]), headers={"Location": "/elsewhere"})

    async with front(tmp_path, moved) as here:
        for status in (302, 404, 500, 204, 304):
            async with here.http.get(f"{here.url}/{status}", allow_redirects=False) as response:
                assert response.status == status
        traffic = here.proxy.traffic()
        assert (traffic.requests, traffic.errors) == (5, 1)


async def test_an_agent_that_is_away_gives_503_with_the_reason(tmp_path: Path) -> None:
    async with front(tmp_path, None) as here, here.http.get(here.url) as response:
        body = json.loads(await response.read())
        assert (response.status, body["error"]["type"]) == (503, "agent_unreachable")
        assert FAULT_HEADER not in response.headers


async def test_websockets_pass_both_ways(tmp_path: Path) -> None:
    async def sockets(request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse(protocols=["chat"])
        await socket.prepare(request)
        async for message in socket:
            await socket.send_str(f"you said {message.data}")
        return socket

    async with front(tmp_path, sockets) as here, here.http.ws_connect(here.url, protocols=["chat"]) as socket:
        assert socket.protocol == "chat"
        await socket.send_str("hello")
        assert await socket.receive_str(timeout=5) == "you said hello"


async def timed(here: Front) -> tuple[int, float, aiohttp.ClientResponse]:
    began_at = time.monotonic()
    async with here.http.get(here.url) as response:
        await response.read()
    return response.status, time.monotonic() - began_at, response


async def test_a_latency_fault_delays_every_request_until_it_is_cleared(tmp_path: Path) -> None:
    async with front(tmp_path, echo) as here:
        here.inject(here.fault("latency", latency_ms=300))
        status, took_s, _ = await timed(here)
        assert status == 200
        assert took_s >= 0.3
        latency_ms = here.proxy.traffic().latency_ms
        assert latency_ms is not None
        assert latency_ms >= 300
        here.inject()
        assert (await timed(here))[1] < 0.2


async def test_clearing_a_fault_frees_the_requests_it_holds(tmp_path: Path) -> None:
    async with front(tmp_path, echo) as here:
        here.inject(here.fault("latency", latency_ms=20_000))
        waiting = asyncio.create_task(timed(here))
        await until(lambda: here.proxy.in_flight == 1, "the request waits")
        here.inject()
        status, took_s, _ = await waiting
        assert status == 200
        assert took_s < 2


async def test_an_error_fault_fails_its_share_and_says_that_it_did(tmp_path: Path) -> None:
    async with front(tmp_path, echo) as here:
        here.inject(here.fault("error", rate=1.0, status_code=502))
        status, _, response = await timed(here)
        assert (status, response.headers[FAULT_HEADER]) == (502, "error; id=f-error")
        draws = iter([0.1, 0.9] * 5)
        here.proxy._draw = lambda: next(draws)
        here.inject(here.fault("error", rate=0.5))
        assert [(await timed(here))[0] for _ in range(10)] == [500, 200] * 5
        assert here.proxy.traffic().errors == 6


async def test_a_blackhole_swallows_requests_until_its_deadline(tmp_path: Path) -> None:
    async with front(tmp_path, echo) as here:
        here.inject(here.fault("blackhole", 0.4))
        status, took_s, response = await timed(here)
        assert (status, response.headers[FAULT_HEADER]) == (504, "blackhole; id=f-blackhole")
        assert took_s >= 0.35
        assert (await timed(here))[0] == 200


async def test_several_faults_work_together(tmp_path: Path) -> None:
    async with front(tmp_path, echo) as here:
        here.inject(here.fault("latency", latency_ms=200), here.fault("error", status_code=418))
        status, took_s, _ = await timed(here)
        assert status == 418
        assert took_s >= 0.2


async def test_a_fault_is_reported_once_when_it_begins_and_once_when_it_ends(tmp_path: Path) -> None:
    """Reported again by a sidecar that restarted, it is the same event."""
    async with front(tmp_path, echo) as here:
        fault = here.fault("latency", 0.3, latency_ms=1)
        here.inject(fault)
        here.inject(fault)
        await until(lambda: len(here.events) == 2, "injected and cleared")
        first = here.events
    assert [event.event_type for event in first] == ["fault.injected", "fault.cleared"]
    assert first[1].attributes == {"because": "deadline"}
    async with front(tmp_path, echo) as here:
        lasting = here.fault("error")
        here.inject(lasting)
        before = here.events[0]
    async with front(tmp_path, echo) as here:
        here.inject(lasting)
        assert here.events == [before]
