"""OTLP's protobuf messages: requests in, answers out. The only module that needs protobuf's own package."""

from collections.abc import Iterator
from typing import Final, TypeVar

from google.protobuf.message import DecodeError, Message
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (
    ExportLogsPartialSuccess,
    ExportLogsServiceRequest,
    ExportLogsServiceResponse,
)
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsPartialSuccess,
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from sidecar.otlp import reading
from sidecar.otlp.bodies import UnreadableError
from sidecar.otlp.exports import Group
from sidecar.otlp.reading import LogLine, Point, Span
from sidecar.otlp.signals import Signal

_Request = TypeVar("_Request", bound=Message)


def _parsed(kind: type[_Request], body: bytes) -> _Request:
    try:
        return kind.FromString(body)
    except DecodeError as error:
        raise UnreadableError(f"the body is no {kind.__name__}: {error}") from error


def traces(body: bytes) -> Iterator[Group[Span]]:
    """The spans of an ExportTraceServiceRequest by resource and scope; raises UnreadableError."""
    for i, several in enumerate(_parsed(ExportTraceServiceRequest, body).resource_spans):
        resource = reading.attributes(several.resource.attributes)
        for j, one in enumerate(several.scope_spans):
            yield Group(f"resource_spans[{i}].scope_spans[{j}]", resource, one.scope.name, map(reading.span, one.spans))


def logs(body: bytes) -> Iterator[Group[LogLine]]:
    """The records of an ExportLogsServiceRequest by resource and scope; raises UnreadableError."""
    for i, several in enumerate(_parsed(ExportLogsServiceRequest, body).resource_logs):
        resource = reading.attributes(several.resource.attributes)
        for j, one in enumerate(several.scope_logs):
            yield Group(f"resource_logs[{i}].scope_logs[{j}]", resource, one.scope.name, map(reading.log_line, one.log_records))


def metrics(body: bytes) -> Iterator[Group[Point]]:
    """The data points of an ExportMetricsServiceRequest by resource and scope; raises UnreadableError."""
    for i, several in enumerate(_parsed(ExportMetricsServiceRequest, body).resource_metrics):
        resource = reading.attributes(several.resource.attributes)
        for j, one in enumerate(several.scope_metrics):
            points = (point for metric in one.metrics for point in reading.points(metric))
            yield Group(f"resource_metrics[{i}].scope_metrics[{j}]", resource, one.scope.name, points)


def answer(signal: Signal, rejected: int, message: str) -> bytes:
    """What the exporter is told: nothing where everything was kept."""
    if not rejected:
        return b""
    match signal:
        case "traces":
            traced = ExportTracePartialSuccess(rejected_spans=rejected, error_message=message)
            return ExportTraceServiceResponse(partial_success=traced).SerializeToString()
        case "logs":
            logged = ExportLogsPartialSuccess(rejected_log_records=rejected, error_message=message)
            return ExportLogsServiceResponse(partial_success=logged).SerializeToString()
        case "metrics":
            measured = ExportMetricsPartialSuccess(rejected_data_points=rejected, error_message=message)
            return ExportMetricsServiceResponse(partial_success=measured).SerializeToString()


SERVICES: Final = {
    "traces": "opentelemetry.proto.collector.trace.v1.TraceService",
    "logs": "opentelemetry.proto.collector.logs.v1.LogsService",
    "metrics": "opentelemetry.proto.collector.metrics.v1.MetricsService",
}
"""The gRPC service of each signal; its one method is ``Export``."""
