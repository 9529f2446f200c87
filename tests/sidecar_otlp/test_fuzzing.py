"""Whatever arrives: no crash, no event the contract refuses, no memory without bound."""

import base64
from collections.abc import Iterator
from typing import Any

import orjson
import pytest
from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from sidecar.otlp import json_form, wire
from sidecar.otlp.bodies import UnreadableError
from sidecar.otlp.exports import Export
from sidecar.otlp.log_records import LogReader
from sidecar.otlp.measurements import MetricReader
from sidecar.otlp.sources import Source
from sidecar.otlp.traces import Reader
from sidecar.otlp.wrapping import Traces
from tests.sidecar_otlp.generated import messages
from tests.sidecar_otlp.spans import BEGAN, SECOND, events

# Shrinking a request takes minutes, and names what the error names, too.
FUZZ = settings(
    max_examples=30, deadline=None, suppress_health_check=list(HealthCheck), phases=(Phase.explicit, Phase.reuse, Phase.generate)
)
REQUESTS: dict[str, Any] = {
    "traces": ExportTraceServiceRequest, "logs": ExportLogsServiceRequest, "metrics": ExportMetricsServiceRequest,
}  # fmt: skip
SOURCES = st.sampled_from([Source("acme", "a1"), Source("acme"), Source("acme", workspace="w", project="p", run_id="r")])


def now() -> int:
    return BEGAN + 5 * SECOND


def export(signal: str, source: Source, groups: Iterator[Any], traces: Traces | None = None) -> Export:
    export = Export()
    readers: dict[str, Any] = {
        "traces": Reader(source, traces or Traces(), now),
        "logs": LogReader(source, now),
        "metrics": MetricReader(source, now),
    }
    for _ in readers[signal].steps(groups, export):
        pass
    return export


def as_json(message: Message) -> bytes:
    """As OTLP writes it: ids in hexadecimal, not in base64."""

    def hexed(value: Any, name: str = "") -> Any:
        if name in {"traceId", "spanId", "parentSpanId"}:
            return base64.b64decode(value).hex()
        if isinstance(value, dict):
            return {key: hexed(item, key) for key, item in value.items()}
        return [hexed(item) for item in value] if isinstance(value, list) else value

    return orjson.dumps(hexed(MessageToDict(message, use_integers_for_enums=True)))


@pytest.mark.parametrize("signal", REQUESTS)
@FUZZ
@given(data=st.data(), source=SOURCES)
def test_whatever_protobuf_allows_becomes_valid_events_or_is_rejected(signal: str, data: st.DataObject, source: Source) -> None:
    request = data.draw(messages(REQUESTS[signal]))
    first = export(signal, source, getattr(wire, signal)(request.SerializeToString()))
    found = list(events(first))
    ids = [event.event_id for event in found]
    if signal != "traces":
        assert len(set(ids)) == len(ids)
    again = export(signal, source, getattr(wire, signal)(request.SerializeToString()))
    assert first.records == again.records
    assert (first.rejected > 0) == bool(first.message())


@pytest.mark.parametrize("signal", REQUESTS)
@FUZZ
@given(data=st.data())
def test_json_says_the_same_as_protobuf(signal: str, data: st.DataObject) -> None:
    request = data.draw(messages(REQUESTS[signal]))
    source = Source("acme", "a1")
    one = export(signal, source, getattr(wire, signal)(request.SerializeToString()))
    other = export(signal, source, getattr(json_form, signal)(as_json(request)))
    assert (one.accepted, one.rejected) == (other.accepted, other.rejected)
    assert [_plain(record.line) for record in one.records.get("a1", [])] == [
        _plain(record.line) for record in other.records.get("a1", [])
    ]


def _plain(line: bytes) -> Any:
    # An id of logs and metrics is made of the very text of the numbers in them.
    return {key: value for key, value in orjson.loads(line).items() if key != "event_id"}


@pytest.mark.parametrize("signal", REQUESTS)
@FUZZ
@given(data=st.data(), noise=st.binary(max_size=30), at=st.integers(0, 400), cut=st.integers(0, 60))
def test_bytes_that_were_damaged_are_refused_or_read(signal: str, data: st.DataObject, noise: bytes, at: int, cut: int) -> None:
    body = data.draw(messages(REQUESTS[signal])).SerializeToString()
    damaged = body[:at] + noise + body[at + cut :]
    try:
        found = export(signal, Source("acme", "a1"), getattr(wire, signal)(damaged))
    except UnreadableError:
        return
    assert all(events(found)) or not found.records


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**63), 2**63), st.floats(), st.text(max_size=8)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from([
                "resourceSpans", "scopeSpans", "spans", "resourceLogs", "scopeLogs", "logRecords", "resourceMetrics", "scopeMetrics",
                "metrics", "resource", "scope", "attributes", "key", "value", "stringValue", "intValue", "arrayValue", "values",
                "traceId", "spanId", "name", "kind", "status", "code", "events", "startTimeUnixNano", "gauge", "dataPoints", "asDouble",
                "histogram", "count", "sum", "body", "flags",
            ]),
            inner, max_size=4,
        ),
    ),
    max_leaves=25,
)  # fmt: skip


@pytest.mark.parametrize("signal", REQUESTS)
@FUZZ
@given(value=JSON)
def test_json_of_any_shape_is_refused_or_read(signal: str, value: Any) -> None:
    one = {"resourceSpans": "scopeSpans", "resourceLogs": "scopeLogs", "resourceMetrics": "scopeMetrics"}
    items = {"resourceSpans": "spans", "resourceLogs": "logRecords", "resourceMetrics": "metrics"}
    for body in (value, {outer: [{inner: [{items[outer]: [value]}]}] for outer, inner in one.items()}):
        try:
            found = export(signal, Source("acme", "a1"), getattr(json_form, signal)(orjson.dumps(body)))
        except UnreadableError:
            continue
        assert all(events(found)) or not found.records


@FUZZ
@given(requests=st.lists(messages(ExportTraceServiceRequest), max_size=6))
def test_what_is_remembered_of_traces_stays_within_its_bound(requests: list[ExportTraceServiceRequest]) -> None:
    traces = Traces(most_spans=30)
    for request in requests:
        export("traces", Source("acme", "a1"), wire.traces(request.SerializeToString()), traces)
        assert traces.held <= 30
        assert traces.held == traces.counted()
