"""A request's protobuf types, read into plain values."""

from base64 import b64encode
from collections.abc import Iterator
from math import isfinite
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    # Loading protobuf is for those who are sent some.
    from opentelemetry.proto.common.v1.common_pb2 import AnyValue
    from opentelemetry.proto.logs.v1.logs_pb2 import LogRecord
    from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
    from opentelemetry.proto.trace.v1 import trace_pb2

_DEEPEST: Final = 16
"""Values nested deeper are cut off; the contract allows 32."""


class Happening(NamedTuple):
    """A span event."""

    name: str
    at: int
    attributes: list[tuple[str, Any]]


class Span(NamedTuple):
    """One span. Ids are lower-case hexadecimal, moments nanoseconds since 1970, 0 where none was given."""

    trace_id: str
    span_id: str
    parent_span_id: str
    name: str
    kind: int
    start: int
    end: int
    failed: bool
    message: str
    flags: int
    attributes: list[tuple[str, Any]]
    events: tuple[Happening, ...]


class LogLine(NamedTuple):
    """One log record."""

    at: int
    severity: int
    level: str
    """What the logger calls its severity."""
    event_name: str
    body: Any
    trace_id: str
    span_id: str
    attributes: list[tuple[str, Any]]


class Point(NamedTuple):
    """What one data point of a metric measured: one number, or several of a distribution."""

    name: str
    unit: str
    at: int
    attributes: list[tuple[str, Any]]
    values: tuple[tuple[str, float], ...]
    """What follows the metric's name (nothing, ``_count``, ``_sum``, …), and the number."""


SERVER: Final = 2
CLIENT: Final = 3
CONSUMER: Final = 5
_ERROR: Final = 2
"""STATUS_CODE_ERROR."""


def value(found: "AnyValue", depth: int = 0) -> Any:
    """The Python value; bytes as base64, nothing and what is no number as None."""
    kind = found.WhichOneof("value")
    if kind is None:
        return None
    if kind == "array_value":
        return [value(item, depth + 1) for item in found.array_value.values] if depth < _DEEPEST else "…"
    if kind == "kvlist_value":
        return {pair.key: value(pair.value, depth + 1) for pair in found.kvlist_value.values} if depth < _DEEPEST else "…"
    if kind == "bytes_value":
        return b64encode(found.bytes_value).decode()
    read = getattr(found, kind)
    return None if kind == "double_value" and not isfinite(read) else read


def attributes(pairs: Any) -> list[tuple[str, Any]]:
    """Names and values, in their order."""
    read = []
    for pair in pairs:
        told = pair.value
        # Most are text or whole numbers: asked first, because asking which of seven it is costs as much again.
        found: Any = told.string_value
        if not found:
            found = told.int_value
            if not found:
                found = value(told)
        read.append((pair.key, found))
    return read


def span(found: "trace_pb2.Span") -> Span:
    """``found`` as a plain value; its ids may be of any length."""
    happened = found.events
    return Span(
        found.trace_id.hex(),
        found.span_id.hex(),
        found.parent_span_id.hex(),
        found.name,
        found.kind,
        found.start_time_unix_nano,
        found.end_time_unix_nano,
        found.status.code == _ERROR,
        found.status.message,
        found.flags,
        attributes(found.attributes),
        tuple(Happening(one.name, one.time_unix_nano, attributes(one.attributes)) for one in happened) if happened else (),
    )


def log_line(found: "LogRecord") -> LogLine:
    """``found`` as a plain value."""
    return LogLine(
        found.time_unix_nano or found.observed_time_unix_nano,
        found.severity_number,
        found.severity_text,
        getattr(found, "event_name", ""),
        value(found.body),
        found.trace_id.hex(),
        found.span_id.hex(),
        attributes(found.attributes),
    )


NO_VALUE: Final = 1
"""The flag of a point that says that there is nothing to say."""


def points(metric: "Metric") -> Iterator[Point]:
    """The data points of ``metric``; of a distribution its count, sum and bounds."""
    kind = metric.WhichOneof("data")
    if kind is None:
        return
    name, unit = metric.name, metric.unit
    for point in getattr(metric, kind).data_points:
        if point.flags & NO_VALUE:
            continue
        values: list[tuple[str, float]] = []
        if kind in {"gauge", "sum"}:
            which = point.WhichOneof("value")
            if which is not None:
                values.append(("", float(getattr(point, which))))
        elif kind == "summary":
            values += [("_count", float(point.count)), ("_sum", point.sum)]
            values += [(f"{{quantile={one.quantile:g}}}", one.value) for one in point.quantile_values]
        else:
            values.append(("_count", float(point.count)))
            values += [(f"_{part}", getattr(point, part)) for part in ("sum", "min", "max") if point.HasField(part)]
        yield Point(name, unit, point.time_unix_nano, attributes(point.attributes), tuple(values))
