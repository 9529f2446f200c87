"""Spans as exporters send them, and what a door makes of them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any

import orjson
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue, KeyValueList
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from schemas.events import Event
from schemas.reading import read_event
from sidecar.otlp import wire
from sidecar.otlp.exports import Export
from sidecar.otlp.sources import Source
from sidecar.otlp.traces import Reader
from sidecar.otlp.wrapping import Traces

BEGAN = 1_764_500_000_000_000_000
SECOND = 1_000_000_000
TRACE = bytes(range(1, 17))


def any_value(value: Any) -> AnyValue:
    if isinstance(value, bool):
        return AnyValue(bool_value=value)
    if isinstance(value, int):
        return AnyValue(int_value=value)
    if isinstance(value, float):
        return AnyValue(double_value=value)
    if isinstance(value, bytes):
        return AnyValue(bytes_value=value)
    if isinstance(value, Mapping):
        return AnyValue(kvlist_value=KeyValueList(values=key_values(value)))
    if isinstance(value, Sequence) and not isinstance(value, str):
        return AnyValue(array_value=ArrayValue(values=[any_value(item) for item in value]))
    return AnyValue() if value is None else AnyValue(string_value=value)


def key_values(attributes: Mapping[str, Any]) -> list[KeyValue]:
    return [KeyValue(key=name, value=any_value(value)) for name, value in attributes.items()]


_numbers = count(1)


def span(name: str = "chat gpt-4o", parent: Span | bytes | None = None, *, span_id: bytes | None = None, trace: bytes = TRACE,
         kind: int = 1, start_s: float = 0, end_s: float = 1, error: str | None = None, flags: int = 0,
         **attributes: Any) -> Span:  # fmt: skip
    """A span; in the names of its attributes ``__`` stands for a dot."""
    made = Span(
        trace_id=trace,
        span_id=span_id or next(_numbers).to_bytes(8, "big"),
        parent_span_id=parent.span_id if isinstance(parent, Span) else parent or b"",
        name=name,
        kind=kind,  # type: ignore[arg-type]
        flags=flags,
        start_time_unix_nano=BEGAN + int(start_s * SECOND),
        end_time_unix_nano=BEGAN + int(end_s * SECOND),
        attributes=key_values({key.replace("__", "."): value for key, value in attributes.items()}),
    )
    if error is not None:
        made.status.code = made.status.STATUS_CODE_ERROR
        made.status.message = error
    return made


def chat(parent: Span | bytes | None = None, name: str = "chat gpt-4o", sent: int = 100, answered: int = 20, **more: Any) -> Span:
    """A model call as the current conventions write it."""
    told: dict[str, Any] = {
        "gen_ai__operation__name": "chat", "gen_ai__provider__name": "openai", "gen_ai__request__model": "gpt-4o",
        "gen_ai__usage__input_tokens": sent, "gen_ai__usage__output_tokens": answered, "kind": 3,
    }  # fmt: skip
    return span(name, parent, **(told | more))


def request(*spans: Span, scope: str = "test", resource: Mapping[str, Any] | None = None) -> ExportTraceServiceRequest:
    made = ExportTraceServiceRequest()
    several = made.resource_spans.add()
    several.resource.attributes.extend(key_values(resource or {"service.name": "shop"}))
    one = several.scope_spans.add()
    one.scope.name = scope
    one.spans.extend(spans)
    return made


@dataclass
class Door:
    """What a door of a sidecar would make of requests, without the sockets."""

    source: Source = field(default_factory=lambda: Source("acme", "a1"))
    traces: Traces = field(default_factory=Traces)
    export: Export = field(default_factory=Export)

    def takes(self, *spans: Span, scope: str = "test", resource: Mapping[str, Any] | None = None) -> list[Event]:
        """The events of one request, each valid by the contract."""
        reader = Reader(self.source, self.traces, lambda: BEGAN + 5 * SECOND)
        self.export = reader.read(wire.traces(request(*spans, scope=scope, resource=resource).SerializeToString()))
        return list(events(self.export))


def events(export: Export) -> Iterator[Event]:
    for records in export.records.values():
        for record in records:
            found = read_event(record.line)
            assert isinstance(found, Event), (found, orjson.loads(record.line))
            assert record.kind == found.kind
            assert record.event_id == str(found.event_id)
            yield found


def only(found: Sequence[Event], event_type: str) -> Event:
    several = [event for event in found if event.event_type == event_type]
    assert len(several) == 1, [event.event_type for event in found]
    return several[0]


def types(found: Sequence[Event]) -> list[str]:
    return [event.event_type for event in found]
