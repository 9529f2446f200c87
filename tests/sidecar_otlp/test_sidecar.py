"""An agent that speaks OpenTelemetry is watched by a sidecar that nobody told of it."""

import asyncio
import sys

import grpc.aio
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import TraceServiceStub

from tests.conftest import until
from tests.sidecar.conftest import http, sidecar, telemetry  # noqa: F401
from tests.sidecar.running import Sidecar, Telemetry
from tests.sidecar_otlp.spans import chat, request, span

HEADERS = {"Content-Type": "application/x-protobuf"}


async def test_spans_sent_to_the_door_arrive_in_nats(sidecar: Sidecar, telemetry: Telemetry) -> None:  # noqa: F811
    await sidecar.start("--workspace", "w", "--project", "p")
    root = span("invoke_agent", gen_ai__operation__name="invoke_agent")
    body = request(chat(root), root).SerializeToString()
    async with sidecar.http.post(f"{sidecar.door}/v1/traces", data=body, headers=HEADERS) as response:
        assert response.status == 200
    billed = await telemetry.find("model_call.completed")
    assert billed["tenant"] == {"tenant_id": "acme", "workspace_id": "w", "project_id": "p"}
    assert (billed["run"]["agent_id"], billed["resource_usage"]["input_tokens"]) == ("a1", 100)
    await telemetry.find("run.completed")
    assert set(telemetry.subjects) <= {
        "telemetry.acme.a1." + kind for kind in ("agent", "heartbeat", "batch", "run", "model_call", "log")
    }


async def test_headers_say_run_and_project(sidecar: Sidecar, telemetry: Telemetry) -> None:  # noqa: F811
    await sidecar.start("--project", "p")
    headers = HEADERS | {"x-agentops-run": "order-7", "x-agentops-project": "q"}
    body = request(chat(b"parent00")).SerializeToString()
    async with sidecar.http.post(f"{sidecar.door}/v1/traces", data=body, headers=headers) as response:
        assert response.status == 200
    billed = await telemetry.find("model_call.completed")
    assert (billed["run"]["run_id"], billed["tenant"]["project_id"]) == ("order-7", "q")


async def test_the_agent_is_told_where_to_send_unless_its_operator_has_said(sidecar: Sidecar) -> None:  # noqa: F811
    await sidecar.start()
    await until(sidecar.answers, "the agent answers")
    _, told = await sidecar.get("/environment")
    assert told["OTEL_EXPORTER_OTLP_ENDPOINT"] == sidecar.door
    assert (told["OTEL_EXPORTER_OTLP_PROTOCOL"], told["OTEL_SERVICE_NAME"]) == ("http/protobuf", "a1")
    await sidecar.stop()
    await sidecar.start(OTEL_EXPORTER_OTLP_ENDPOINT="http://collector:4318", OTEL_SERVICE_NAME="mine")
    await until(sidecar.answers, "the agent answers")
    _, told = await sidecar.get("/environment")
    assert told["OTEL_EXPORTER_OTLP_ENDPOINT"] == "http://collector:4318"
    assert told["OTEL_SERVICE_NAME"] == "mine"
    assert "OTEL_EXPORTER_OTLP_PROTOCOL" not in told


async def test_a_sidecar_inside_another_ones_agent_speaks_for_itself(sidecar: Sidecar) -> None:  # noqa: F811
    outer = {"AGENTOPS_SIDECAR_URL": "http://127.0.0.1:1", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}
    await sidecar.start(**outer)
    await until(sidecar.answers, "the agent answers")
    _, told = await sidecar.get("/environment")
    assert told["OTEL_EXPORTER_OTLP_ENDPOINT"] == sidecar.door


async def test_a_sidecar_that_is_sent_no_spans_loads_no_protobuf() -> None:
    code = "import sys, sidecar.app; print([name for name in sys.modules if name.split('.')[0] in {'grpc', 'opentelemetry', 'google'}])"
    child = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE)
    told, _ = await child.communicate()
    assert told.strip() == b"[]"


async def test_the_standard_ports_are_opened_where_they_are_asked_for(sidecar: Sidecar, telemetry: Telemetry) -> None:  # noqa: F811
    await sidecar.start("--otlp-port", "0", "--otlp-grpc-port", "0")
    url = f"http://127.0.0.1:{sidecar.run['otlp_port']}/v1/traces"
    async with sidecar.http.post(
        url, data=request(chat(gen_ai__response__id="r-1")).SerializeToString(), headers=HEADERS
    ) as response:
        assert response.status == 200
    async with grpc.aio.insecure_channel(f"127.0.0.1:{sidecar.run['otlp_grpc_port']}") as channel:
        await TraceServiceStub(channel).Export(request(chat(gen_ai__response__id="r-2")), timeout=20)  # type: ignore[no-untyped-call]
    for response_id in ("r-1", "r-2"):
        await telemetry.find("model_call.completed", model_call__response_id=response_id)
    assert await sidecar.stop() == 0
