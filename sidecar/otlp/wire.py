"""OTLP's protobuf messages: requests in, answers out. The only module that needs protobuf's own package."""

from collections.abc import Iterator

from google.protobuf.message import DecodeError
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTracePartialSuccess,
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)

from sidecar.otlp import reading
from sidecar.otlp.bodies import UnreadableError
from sidecar.otlp.traces import Group


def traces(body: bytes) -> Iterator[Group]:
    """The spans of an ExportTraceServiceRequest; raises UnreadableError."""
    try:
        request = ExportTraceServiceRequest.FromString(body)
    except DecodeError as error:
        raise UnreadableError(f"the body is no ExportTraceServiceRequest: {error}") from error
    return trace_groups(request)


def trace_groups(request: ExportTraceServiceRequest) -> Iterator[Group]:
    """The spans of ``request`` by resource and scope."""
    for i, several in enumerate(request.resource_spans):
        resource = reading.attributes(several.resource.attributes)
        for j, one in enumerate(several.scope_spans):
            yield Group(f"resource_spans[{i}].scope_spans[{j}]", resource, one.scope.name, map(reading.span, one.spans))


def traces_answer(rejected: int, message: str) -> ExportTraceServiceResponse:
    """What the exporter is told."""
    if not rejected:
        return ExportTraceServiceResponse()
    return ExportTraceServiceResponse(partial_success=ExportTracePartialSuccess(rejected_spans=rejected, error_message=message))
