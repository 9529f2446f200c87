"""Where traces can go besides the door: files, webhooks, NATS, OTLP receivers, Prometheus, handlers."""

import asyncio
import json
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from schemas.events import Event
from schemas.reading import read_event
from sidecar.tracer import AgentTracer, Sampling
from sidecar.tracing.exporters.exporter import Exporter
from sidecar.tracing.exporters.json_file import JsonFile
from sidecar.tracing.exporters.nats import Nats
from sidecar.tracing.exporters.otlp import Otlp
from sidecar.tracing.exporters.prometheus import Prometheus
from sidecar.tracing.exporters.router import EventRouter
from sidecar.tracing.exporters.webhook import Webhook
from sidecar.tracing.metrics import MetricsRegistry
from sidecar.tracing.performance import PerformanceMonitor
from streams.embedded import EmbeddedServer
from tests.conftest import until
from tests.sidecar.running import Telemetry
from tests.sidecar.test_proxy import listening


def tracer_to(*exporters: Exporter, **options: Any) -> AgentTracer:
    return AgentTracer(exporters=exporters, tenant="acme", agent_id="a1", environ={}, every_s=0.01, **options)


def work(tracer: AgentTracer) -> None:
    with tracer.trace_agent_call("answer"):
        with tracer.trace_tool_call("search") as tool:
            tool.set("hits", [1, {"a": True}])
        with tracer.trace_llm_call(provider="openai", model="gpt-4o") as call:
            call.usage(input_tokens=9, output_tokens=3, cache_read_tokens=4)
            call.describe(response_id="r1", finish_reason="stop")


def test_a_file_holds_an_event_a_line_and_keeps_the_newest_parts(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "traces.ndjson"
    tracer = tracer_to(JsonFile(path, part_bytes=4_000, parts=2))
    for _ in range(10):
        work(tracer)
        assert tracer.flush(30)
    tracer.close()
    parts = sorted(path.parent.iterdir())
    assert [part.name for part in parts] == ["traces.ndjson", "traces.ndjson.1"]
    for part in parts:
        assert part.stat().st_size < 8_000
        for line in part.read_bytes().splitlines():
            assert isinstance(read_event(line), Event)


def test_half_a_line_of_a_full_disk_is_ended_before_the_next(tmp_path: Path) -> None:
    path = tmp_path / "traces.ndjson"
    path.write_bytes(b'{"half":')
    tracer = tracer_to(JsonFile(path))
    work(tracer)
    tracer.close()
    half, *events = path.read_bytes().splitlines()
    assert half == b'{"half":'
    assert [json.loads(line)["event_type"] for line in events] == [
        "run.started", "tool_call.completed", "model_call.completed", "run.completed",
    ]  # fmt: skip


async def test_a_webhook_that_fails_gets_the_same_events_again() -> None:
    bodies: list[Any] = []

    async def take(request: web.Request) -> web.Response:
        bodies.append(await request.json())
        assert request.headers["x-key"] == "k"
        return web.Response(status=503 if len(bodies) < 3 else 204)

    application = web.Application()
    application.router.add_post("/hook", take)
    async with listening(application) as url:
        tracer = tracer_to(Webhook(f"{url}/hook?a=b", headers={"x-key": "k"}))
        work(tracer)
        assert await asyncio.to_thread(tracer.flush, 30)
        await asyncio.to_thread(tracer.close)
    assert bodies[0] == bodies[1] == bodies[2]
    told = {event["event_id"] for body in bodies for event in body["events"]}
    assert len(told) == 4
    assert tracer.counts().delivered == 4


async def test_a_slow_exporter_delays_no_other(tmp_path: Path) -> None:
    tracer = tracer_to(Webhook("http://127.0.0.1:9/"), JsonFile(tmp_path / "t.ndjson"), close_s=0.2)
    work(tracer)
    await until(lambda: (tmp_path / "t.ndjson").exists() and (tmp_path / "t.ndjson").read_bytes().count(b"\n") == 4, "the file")
    await asyncio.to_thread(tracer.close)
    assert tracer.counts().dropped == 4, "what the webhook never took is counted"


async def test_nats_has_the_events_under_the_agents_subject(server: EmbeddedServer, telemetry: Telemetry) -> None:
    tracer = tracer_to(Nats(server.settings("sidecar")))
    work(tracer)
    assert await asyncio.to_thread(tracer.flush, 30)
    await asyncio.to_thread(tracer.close)
    events = await telemetry.read()
    assert len(events) == 4
    assert all(subject.startswith("telemetry.acme.a1.") for subject in telemetry.subjects)


async def test_an_otlp_receiver_gets_spans_of_the_genai_conventions() -> None:
    service = pytest.importorskip(
        "opentelemetry.proto.collector.trace.v1.trace_service_pb2", reason="opentelemetry-proto is not installed"
    )
    spans: list[Any] = []

    async def take(request: web.Request) -> web.Response:
        found = service.ExportTraceServiceRequest.FromString(await request.read())
        spans.extend(span for resource in found.resource_spans for scope in resource.scope_spans for span in scope.spans)
        return web.Response(body=service.ExportTraceServiceResponse().SerializeToString())

    application = web.Application()
    application.router.add_post("/v1/traces", take)
    async with listening(application) as url:
        tracer = tracer_to(Otlp(url))
        work(tracer)
        assert await asyncio.to_thread(tracer.flush, 30)
        await asyncio.to_thread(tracer.close)
    assert [span.name for span in spans] == ["execute_tool search", "chat gpt-4o", "invoke_agent answer"]
    tool, call, run = spans
    assert tool.parent_span_id == call.parent_span_id == run.span_id
    assert {tool.trace_id, call.trace_id} == {run.trace_id}
    numbers = {each.key: each.value.int_value for each in call.attributes if each.value.HasField("int_value")}
    assert numbers == {"gen_ai.usage.input_tokens": 9, "gen_ai.usage.output_tokens": 3, "gen_ai.usage.cache_read.input_tokens": 4}
    assert run.start_time_unix_nano <= tool.start_time_unix_nano <= tool.end_time_unix_nano <= run.end_time_unix_nano


async def test_prometheus_counts_what_sampling_leaves_out_too() -> None:
    prometheus = Prometheus(port=0)
    tracer = tracer_to(prometheus, sampling=Sampling(head=0))
    work(tracer)
    assert await asyncio.to_thread(tracer.flush, 30)
    assert tracer.counts().sampled_out == 1

    def scrape() -> str:
        with urllib.request.urlopen(f"http://127.0.0.1:{prometheus.port}/metrics", timeout=10) as answer:
            found: bytes = answer.read()
            return found.decode()

    text = await asyncio.to_thread(scrape)
    await asyncio.to_thread(tracer.close)
    assert 'agent_tool_calls_total{outcome="completed",tool="search"} 1.0' in text
    assert 'agent_model_tokens_total{direction="input",model="gpt-4o",provider="openai"} 9.0' in text
    assert 'agent_run_duration_ms_count{workflow="answer"} 1.0' in text


def test_a_name_has_only_so_many_series() -> None:
    registry = MetricsRegistry(most_series=3)
    counter = registry.counter("requests", "Requests.", ("user",))
    for number in range(100):
        counter.inc(user=number)
    counter.inc(user=1)
    text = registry.exposition().decode()
    assert text.count("requests_total{") == 4
    assert 'requests_total{user="1"} 2.0' in text
    assert 'requests_total{user="other"} 97.0' in text
    assert registry.beyond() == {"requests": 97}


def test_metrics_of_every_kind() -> None:
    registry = MetricsRegistry()
    gauge = registry.gauge("depth", "Depth.")
    gauge.set(5)
    gauge.inc()
    gauge.dec(2)
    registry.histogram("took", "Took.", buckets=(1, 10)).observe(5)
    summary = registry.summary("sizes", "Sizes.", ("of",))
    for value in range(1, 101):
        summary.observe(value, of="x")
    assert registry.gauge("depth", "Depth.") is gauge
    with pytest.raises(ValueError, match="depth is a Gauge"):
        registry.counter("depth", "Depth.")
    with pytest.raises(ValueError, match="labels must be of, not none"):
        summary.observe(1)
    text = registry.exposition().decode()
    for line in ("depth 4.0", 'took_bucket{le="10.0"} 1.0', 'sizes{of="x",quantile="0.5"} 51.0', 'sizes{of="x",quantile="0.99"} 100.0', 'sizes_count{of="x"} 100.0', 'sizes_sum{of="x"} 5050.0'):  # fmt: skip
        assert line in text, text


def test_handlers_get_what_they_asked_for_the_urgent_first(caplog: pytest.LogCaptureFixture) -> None:
    router = EventRouter()
    heard: list[str] = []

    def broken(_: dict[str, Any]) -> None:
        raise RuntimeError("no")

    router.on("*", broken)
    router.on("model_call.*", lambda event: heard.append(f"later {event['event_type']}"))
    router.on("*", lambda event: heard.append(event["event_type"]), priority=5, wanted=lambda event: "tool_call" not in event)
    tracer = tracer_to(router)
    work(tracer)
    tracer.close()
    assert heard == ["run.started", "model_call.completed", "later model_call.completed", "run.completed"]
    assert router.failures == 4
    assert sum("the handler of * failed" in message for message in caplog.messages) == 1


async def test_the_performance_monitor_keeps_its_gauges_current() -> None:
    tracer = tracer_to()
    monitor = PerformanceMonitor(tracer.collector, tracer.metrics, every_s=0.05)
    monitor.start()
    await until(lambda: b"agent_memory_rss_bytes 0.0" not in tracer.metrics.exposition(), "memory was measured")
    monitor.stop()
    assert b"agent_telemetry_waiting 0.0" in tracer.metrics.exposition()


@pytest.mark.parametrize("url", ["nonsense", "ftp://host/", "http://", "http://host:port/"])
def test_a_url_that_is_none_is_told(url: str) -> None:
    with pytest.raises(ValueError, match="URL|must begin with http"):
        Webhook(url)


def test_an_exporter_that_raises_is_tried_again_and_told(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Prometheus):
        broken = True

        def export(self, batch: Sequence[Any]) -> Any:
            if self.broken:
                self.broken = False
                raise RuntimeError("once")
            return super().export(batch)

    tracer = tracer_to(Broken())
    work(tracer)
    assert tracer.flush(30)
    assert tracer.counts().delivered == 4
    assert any("once" in message for message in caplog.messages)
