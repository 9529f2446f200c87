"""OTLP over gRPC, as exporters meet it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import orjson
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import TraceServiceStub

from sidecar.intake import SpoolIntake
from sidecar.listener import CannotStartError
from sidecar.otlp.doors import OtlpDoors
from sidecar.otlp.sources import Refused, Source, Sources
from sidecar.shipping import Shipper
from sidecar.spool import Spool
from streams.settings import NatsSettings
from streams.waiting import Nats
from tests.sidecar_otlp.spans import chat, request, span
from tests.sidecar_otlp.test_http import of_a1

METHOD = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"


class Opened:
    def __init__(self, spool: Spool, channel: grpc.aio.Channel) -> None:
        self.spool = spool
        self.channel = channel
        self.stub = TraceServiceStub(channel)  # type: ignore[no-untyped-call]

    async def export(self, body: ExportTraceServiceRequest, **options: Any) -> ExportTraceServiceResponse:
        found: ExportTraceServiceResponse = await self.stub.Export(body, timeout=20, **options)
        return found

    async def refused(self, body: ExportTraceServiceRequest, **options: Any) -> grpc.aio.AioRpcError:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await self.export(body, **options)
        return caught.value

    def spooled(self) -> list[dict[str, Any]]:
        batch = self.spool.take(10_000_000, 10_000)
        return [] if batch is None else [orjson.loads(record.line) for record in batch.records]


@asynccontextmanager
async def opened(directory: Path, max_bytes: int = 4_000_000, sources: Sources = of_a1) -> AsyncIterator[Opened]:
    spool = Spool.open(directory / "spool", max_bytes)
    shipper = Shipper(spool, Nats(NatsSettings(), "test"), "acme", "a1", directory / "refused")
    doors = OtlpDoors(SpoolIntake(shipper), sources)
    port = await doors.open_grpc("127.0.0.1", 0)
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", [("grpc.max_send_message_length", -1)]) as channel:
            yield Opened(spool, channel)
    finally:
        await doors.close()
        spool.close()


async def test_spans_are_kept_gzip_or_not_and_what_never_can_be_is_told(tmp_path: Path) -> None:
    async with opened(tmp_path) as here:
        assert await here.export(request(chat(b"parent00"))) == ExportTraceServiceResponse()
        bad = span()
        bad.trace_id = b"short"
        answer = await here.export(request(chat(b"parent00"), bad), compression=grpc.Compression.Gzip)
        assert answer.partial_success.rejected_spans == 1
        assert "spans[1].trace_id: must be 16 bytes" in answer.partial_success.error_message
        assert [event["event_type"] for event in here.spooled()].count("model_call.completed") == 2


async def test_a_full_spool_is_unavailable_and_says_when_to_come_back(tmp_path: Path) -> None:
    async with opened(tmp_path, max_bytes=20_000) as here:
        error = await here.refused(request(*[chat(b"parent00", gen_ai__input__messages="x" * 1000) for _ in range(20)]))
        assert error.code() is grpc.StatusCode.UNAVAILABLE
        details = dict(error.trailing_metadata())["grpc-status-details-bin"]
        from google.rpc.error_details_pb2 import RetryInfo
        from google.rpc.status_pb2 import Status

        told, retry = Status.FromString(details), RetryInfo()
        assert told.details[0].Unpack(retry)
        assert (told.code, retry.retry_delay.seconds) == (14, 1)
        assert here.spooled() == []


async def test_nonsense_and_too_much_are_refused(tmp_path: Path) -> None:
    async with opened(tmp_path) as here:
        raw: Any = here.channel.unary_unary(METHOD)
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await raw(b"\xff\xff\xff", timeout=20)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        bomb = request(chat(gen_ai__input__messages="x" * 100_000_000))
        for compression in (grpc.Compression.NoCompression, grpc.Compression.Gzip):
            error = await here.refused(bomb, compression=compression)
            assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert here.spooled() == []


async def test_a_sender_who_may_not_send_is_told_so(tmp_path: Path) -> None:
    def sources(headers: Any) -> Source | Refused:
        return Source("globex") if headers.get("x-api-key") == "right" else Refused(401, "no such key")

    async with opened(tmp_path, sources=sources) as here:
        assert (await here.refused(request(chat()))).code() is grpc.StatusCode.UNAUTHENTICATED
        await here.export(request(chat(b"parent00")), metadata=[("x-api-key", "right")])
        assert {event["tenant"]["tenant_id"] for event in here.spooled()} == {"globex"}


async def test_a_port_that_is_taken_is_no_secret(tmp_path: Path) -> None:
    async with opened(tmp_path) as here:
        doors = OtlpDoors(SpoolIntake(None), of_a1)  # type: ignore[arg-type]
        port = await doors.open_grpc("127.0.0.1", 0)
        other = OtlpDoors(SpoolIntake(None), of_a1)  # type: ignore[arg-type]
        with pytest.raises(CannotStartError, match="choose another port"):
            await other.open_grpc("127.0.0.1", port)
        await doors.close()
        assert here.spooled() == []
