"""OTLP over HTTP, as exporters meet it: real sockets, a real spool."""

import gzip
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import orjson
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse

from sidecar.intake import SpoolIntake
from sidecar.otlp.doors import OtlpDoors
from sidecar.otlp.sources import Refused, Source, Sources
from sidecar.shipping import Shipper
from sidecar.spool import Spool
from streams.settings import NatsSettings
from streams.waiting import Nats
from tests.sidecar.test_proxy import listening
from tests.sidecar_otlp.spans import chat, request, span

PROTOBUF = "application/x-protobuf"


@dataclass
class Answer:
    status: int
    body: bytes
    headers: Any

    @property
    def partial(self) -> tuple[int, str]:
        told = ExportTraceServiceResponse.FromString(self.body).partial_success
        return told.rejected_spans, told.error_message


@dataclass
class Opened:
    url: str
    spool: Spool
    http: aiohttp.ClientSession

    async def post(self, body: Any, content_type: str = PROTOBUF, path: str = "/v1/traces", **headers: str) -> Answer:
        told = {"Content-Type": content_type} | {name.replace("_", "-"): value for name, value in headers.items()}
        if isinstance(body, ExportTraceServiceRequest):
            body = body.SerializeToString()
        async with self.http.post(self.url + path, data=body, headers=told) as response:
            return Answer(response.status, await response.read(), response.headers)

    def spooled(self) -> list[dict[str, Any]]:
        batch = self.spool.take(10_000_000, 10_000)
        return [] if batch is None else [orjson.loads(record.line) for record in batch.records]


def of_a1(_: Any) -> Source:
    return Source("acme", "a1")


@asynccontextmanager
async def opened(
    directory: Path, max_bytes: int = 4_000_000, sources: Sources = of_a1, *, unpacks: bool = True, **limits: Any
) -> AsyncIterator[Opened]:
    spool = Spool.open(directory / "spool", max_bytes)
    shipper = Shipper(spool, Nats(NatsSettings(), "test"), "acme", "a1", directory / "refused")
    doors = OtlpDoors(SpoolIntake(shipper), sources, **limits)
    async with listening(doors.application(), auto_decompress=unpacks) as url, aiohttp.ClientSession() as http:
        try:
            yield Opened(url, spool, http)
        finally:
            spool.close()


async def test_spans_are_on_disk_before_the_exporter_is_answered(tmp_path: Path) -> None:
    async with opened(tmp_path) as here:
        answer = await here.post(request(chat(b"parent00")))
        assert (answer.status, answer.headers["Content-Type"], answer.body) == (200, PROTOBUF, b"")
        assert [event["event_type"] for event in here.spooled()] == ["run.started", "model_call.completed"]


async def test_gzip_is_read_whoever_unpacks_it(tmp_path: Path) -> None:
    for unpacks in (True, False):
        async with opened(tmp_path / str(unpacks), unpacks=unpacks) as here:
            body = gzip.compress(request(chat(b"parent00")).SerializeToString())
            assert (await here.post(body, Content_Encoding="gzip")).status == 200
            assert len(here.spooled()) == 2
            if not unpacks:
                assert (await here.post(body[:-9], Content_Encoding="gzip")).status == 400
            assert (await here.post(body, Content_Encoding="br")).status == 400


async def test_spans_that_never_can_be_events_are_told_by_field_and_the_rest_is_kept(tmp_path: Path) -> None:
    bad = span()
    bad.trace_id = b"short"
    async with opened(tmp_path) as here:
        answer = await here.post(request(chat(b"parent00"), bad, span("x", span_id=b"\0" * 8)))
        assert answer.status == 200
        rejected, message = answer.partial
        assert rejected == 2
        assert (
            "$.resource_spans[0].scope_spans[0].spans[1].trace_id: must be 16 bytes, not all of them zero (is 73686f7274)"
            in message
        )
        assert "spans[2].span_id" in message
        assert len(here.spooled()) == 2


async def test_what_is_no_request_is_refused_in_its_own_encoding(tmp_path: Path) -> None:
    async with opened(tmp_path) as here:
        answer = await here.post(b"\xff\xff\xff")
        assert (answer.status, answer.headers["Content-Type"]) == (400, PROTOBUF)
        assert b"ExportTraceServiceRequest" in answer.body
        answer = await here.post(b"hello", "text/plain")
        assert answer.status == 415
        assert "application/x-protobuf" in orjson.loads(answer.body)["message"]
        assert here.spooled() == []


async def test_a_full_spool_is_told_with_when_to_come_back_and_nothing_is_taken(tmp_path: Path) -> None:
    async with opened(tmp_path, max_bytes=100_000) as here:
        body = request(*[chat(b"parent00", gen_ai__input__messages="x" * 1000) for _ in range(20)])
        answers = [await here.post(body) for _ in range(8)]
        statuses = [answer.status for answer in answers]
        taken = statuses.count(200)
        assert 0 < taken < 8
        assert statuses == [200] * taken + [503] * (8 - taken)
        assert int(answers[-1].headers["Retry-After"]) >= 1
        assert here.spool.waiting_bytes <= 100_000


async def test_a_sender_who_may_not_send_is_told_so(tmp_path: Path) -> None:
    def sources(headers: Any) -> Source | Refused:
        if headers.get("authorization") != "Bearer right":
            return Refused(401, "no such key")
        return Source("globex") if headers.get("x-slow") is None else Refused(429, "too many", 2.5)

    async with opened(tmp_path, sources=sources) as here:
        assert (await here.post(request(chat()))).status == 401
        slow = await here.post(request(chat()), authorization="Bearer right", x_slow="1")
        assert (slow.status, slow.headers["Retry-After"]) == (429, "3")
        assert (await here.post(request(chat(b"parent00")), authorization="Bearer right")).status == 200
        assert {(event["tenant"]["tenant_id"], event["run"]["agent_id"]) for event in here.spooled()} == {("globex", "shop")}
