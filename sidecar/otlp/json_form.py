"""OTLP's JSON, read into the same plain values as its protobuf: ids in hexadecimal, whole numbers as numbers or texts.

Names as JSON writes them or as the protobuf definitions do; what is not known is left aside.
"""

import math
from collections.abc import Iterator
from typing import Any, Final

import orjson

from sidecar.otlp.bodies import UnreadableError
from sidecar.otlp.exports import Group
from sidecar.otlp.reading import NO_VALUE, Happening, LogLine, Point, Span

_DEEPEST: Final = 16
_LARGEST: Final = 2**64
_KINDS: Final = {
    f"SPAN_KIND_{name}": number
    for number, name in enumerate(("UNSPECIFIED", "INTERNAL", "SERVER", "CLIENT", "PRODUCER", "CONSUMER"))
}
_STATUSES: Final = {"STATUS_CODE_UNSET": 0, "STATUS_CODE_OK": 1, "STATUS_CODE_ERROR": 2}
_ERROR: Final = 2
_Object = dict[str, Any]


def _wrong(where: str, what: str, found: Any) -> UnreadableError:
    return UnreadableError(f"{where}: must be {what} (is {type(found).__name__})")


def _root(body: bytes) -> _Object:
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise UnreadableError(f"the body is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise _wrong("$", "an object", found)
    return found


def _get(found: _Object, camel: str, snake: str) -> Any:
    value = found.get(camel)
    return found.get(snake) if value is None else value


def _objects(found: _Object, camel: str, snake: str, where: str) -> list[_Object]:
    several = _get(found, camel, snake)
    if several is None:
        return []
    if not isinstance(several, list):
        raise _wrong(f"{where}.{camel}", "an array", several)
    for number, one in enumerate(several):
        if not isinstance(one, dict):
            raise _wrong(f"{where}.{camel}[{number}]", "an object", one)
    return several


def _object(found: _Object, camel: str, snake: str, where: str) -> _Object:
    value = _get(found, camel, snake)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise _wrong(f"{where}.{camel}", "an object", value)
    return value


def _text(found: _Object, camel: str, snake: str, where: str) -> str:
    value = _get(found, camel, snake)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise _wrong(f"{where}.{camel}", "a text", value)
    return value


def _whole(found: _Object, camel: str, snake: str, where: str) -> int:
    value = _get(found, camel, snake)
    if value is None:
        return 0
    if isinstance(value, str) and len(value) <= 20 and value.isascii() and value.isdigit():
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < _LARGEST:
        raise _wrong(f"{where}.{camel}", "a whole number", value)
    return value


def _number(value: Any, where: str) -> float:
    try:
        if isinstance(value, bool | None):
            raise _wrong(where, "a number", value)
        return float(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise _wrong(where, "a number", value) from error


def _id(found: _Object, camel: str, snake: str, where: str) -> str:
    """In lower case; empty where it is no hexadecimal, which no id may be."""
    text = _text(found, camel, snake, where)
    try:
        return bytes.fromhex(text).hex() if text.isalnum() else ""
    except ValueError:
        return ""


def _enumerated(found: _Object, camel: str, names: dict[str, int], where: str) -> int:
    value = found.get(camel)
    return names[value] if isinstance(value, str) and value in names else _whole(found, camel, camel, where)


def _signed(value: Any, where: str) -> int:
    try:
        whole = int(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise _wrong(where, "a whole number", value) from error
    if isinstance(value, str) and len(value) > 20:
        raise _wrong(where, "a whole number", value)
    return max(-(2**63), min(whole, 2**63 - 1))


def _value(found: Any, where: str, depth: int = 0) -> Any:
    """The Python value of an AnyValue."""
    if found is None:
        return None
    if not isinstance(found, dict):
        raise _wrong(where, "an object with one value", found)
    if depth >= _DEEPEST:
        return "…"
    for name, value in found.items():
        if value is None:
            continue
        match name:
            case "stringValue" | "string_value" if isinstance(value, str):
                return value
            case "boolValue" | "bool_value" if isinstance(value, bool):
                return value
            case "intValue" | "int_value":
                return _signed(value, f"{where}.{name}")
            case "doubleValue" | "double_value":
                number = _number(value, f"{where}.{name}")
                return number if math.isfinite(number) else None
            case "bytesValue" | "bytes_value" if isinstance(value, str):
                return value
            case "arrayValue" | "array_value" if isinstance(value, dict):
                several = value.get("values") or []
                if not isinstance(several, list):
                    raise _wrong(f"{where}.{name}.values", "an array", several)
                return [_value(item, where, depth + 1) for item in several]
            case "kvlistValue" | "kvlist_value" if isinstance(value, dict):
                return dict(_attributes(value, "values", f"{where}.{name}", depth + 1))
            case "stringValue" | "boolValue" | "bytesValue" | "arrayValue" | "kvlistValue":
                raise _wrong(f"{where}.{name}", "of that type", value)
            case _:
                continue
    return None


def _attributes(found: _Object, name: str, where: str, depth: int = 0) -> list[tuple[str, Any]]:
    return [
        (_text(pair, "key", "key", where), _value(pair.get("value"), f"{where}.{name}", depth))
        for pair in _objects(found, name, name, where)
    ]


def _scopes(body: bytes, signal: str, inside: str, items: str) -> Iterator[tuple[str, list[tuple[str, Any]], str, list[_Object]]]:
    """Place, resource, scope and items of every scope in the request."""
    camel, snake = f"resource{signal}", f"resource_{signal.lower()}"
    for i, several in enumerate(_objects(_root(body), camel, snake, "$")):
        where = f"{camel}[{i}]"
        resource = _attributes(_object(several, "resource", "resource", where), "attributes", where)
        for j, one in enumerate(_objects(several, f"scope{signal}", f"scope_{signal.lower()}", where)):
            place = f"{where}.scope{signal}[{j}]"
            scope = _text(_object(one, "scope", "scope", place), "name", "name", place)
            yield place, resource, scope, _objects(one, inside, items, place)


def _span(found: _Object, where: str) -> Span:
    status = _object(found, "status", "status", where)
    return Span(
        _id(found, "traceId", "trace_id", where),
        _id(found, "spanId", "span_id", where),
        _id(found, "parentSpanId", "parent_span_id", where),
        _text(found, "name", "name", where),
        _enumerated(found, "kind", _KINDS, where),
        _whole(found, "startTimeUnixNano", "start_time_unix_nano", where),
        _whole(found, "endTimeUnixNano", "end_time_unix_nano", where),
        _enumerated(status, "code", _STATUSES, where) == _ERROR,
        _text(status, "message", "message", where),
        _whole(found, "flags", "flags", where),
        _attributes(found, "attributes", where),
        tuple(
            Happening(
                _text(one, "name", "name", where),
                _whole(one, "timeUnixNano", "time_unix_nano", where),
                _attributes(one, "attributes", where),
            )
            for one in _objects(found, "events", "events", where)
        ),
    )


def traces(body: bytes) -> Iterator[Group[Span]]:
    """The spans of an ExportTraceServiceRequest in JSON; it, or the walk over it, raises UnreadableError."""
    for place, resource, scope, items in _scopes(body, "Spans", "spans", "spans"):
        yield Group(place, resource, scope, (_span(one, f"$.{place}.spans[{n}]") for n, one in enumerate(items)))


def _log_line(found: _Object, where: str) -> LogLine:
    return LogLine(
        _whole(found, "timeUnixNano", "time_unix_nano", where)
        or _whole(found, "observedTimeUnixNano", "observed_time_unix_nano", where),
        _whole(found, "severityNumber", "severity_number", where),
        _text(found, "severityText", "severity_text", where),
        _text(found, "eventName", "event_name", where),
        _value(found.get("body"), f"{where}.body"),
        _id(found, "traceId", "trace_id", where),
        _id(found, "spanId", "span_id", where),
        _attributes(found, "attributes", where),
    )


def logs(body: bytes) -> Iterator[Group[LogLine]]:
    """The log records of an ExportLogsServiceRequest in JSON; it, or the walk over it, raises UnreadableError."""
    for place, resource, scope, items in _scopes(body, "Logs", "logRecords", "log_records"):
        yield Group(place, resource, scope, (_log_line(one, f"$.{place}.logRecords[{n}]") for n, one in enumerate(items)))


def _values(kind: str, point: _Object, where: str) -> Iterator[tuple[str, float]]:
    if kind in {"gauge", "sum"}:
        for camel, snake in (("asDouble", "as_double"), ("asInt", "as_int")):
            if (told := _get(point, camel, snake)) is not None:
                yield "", _number(told, f"{where}.{camel}")
                return
        return
    yield "_count", float(_whole(point, "count", "count", where))
    for part in ("sum", "min", "max"):
        if (told := point.get(part)) is not None:
            yield f"_{part}", _number(told, f"{where}.{part}")
    for one in _objects(point, "quantileValues", "quantile_values", where):
        quantile = _number(one.get("quantile", 0), where)
        yield f"{{quantile={quantile:g}}}", _number(one.get("value", 0), where)


_DATA: Final = {
    "gauge": "gauge", "sum": "sum", "histogram": "histogram", "exponentialHistogram": "histogram",
    "exponential_histogram": "histogram", "summary": "histogram",
}  # fmt: skip


def _points(metric: _Object, where: str) -> Iterator[Point]:
    name, unit = _text(metric, "name", "name", where), _text(metric, "unit", "unit", where)
    for data, kind in _DATA.items():
        if data not in metric:
            continue
        for point in _objects(_object(metric, data, data, where), "dataPoints", "data_points", where):
            if _whole(point, "flags", "flags", where) & NO_VALUE:
                continue
            at = _whole(point, "timeUnixNano", "time_unix_nano", where)
            yield Point(name, unit, at, _attributes(point, "attributes", where), tuple(_values(kind, point, where)))


def metrics(body: bytes) -> Iterator[Group[Point]]:
    """The data points of an ExportMetricsServiceRequest in JSON; it, or the walk over it, raises UnreadableError."""
    for place, resource, scope, items in _scopes(body, "Metrics", "metrics", "metrics"):
        yield Group(
            place, resource, scope, (point for n, one in enumerate(items) for point in _points(one, f"$.{place}.metrics[{n}]"))
        )
