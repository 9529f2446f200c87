"""Requests of every shape that protobuf allows, with the attributes that mean something among them."""

from typing import Any, TypeVar

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import strategies as st

from sidecar.otlp.mapping import EMITTERS, FAMILIES, OPERATIONS, ROWS

_Made = TypeVar("_Made", bound=Message)

_NAMES = (
    [row.attribute for row in ROWS]
    + [f"{family.prefix}{n}.x" for family in FAMILIES for n in (0, 7)]
    + ["event.name", "service.name"]
)
_TEXTS = st.one_of(
    st.text(max_size=12),
    st.sampled_from(
        ["\x00", "a\x00b", "\\u0000", "manager", "acme/agent one", "é" * 300, "x" * 9000, "nan", "12", "-3", "gpt-4o"]
    ),
    st.sampled_from(list(OPERATIONS)),
    st.sampled_from(["tools/call", "gen_ai.evaluation.result", "pass", "pending_span", "unknown_service:python", "exception"]),
)
_IDS = st.one_of(
    st.sampled_from([bytes(8), b"", b"abc", b"spanspan", b"parentpa", bytes(range(16)), b"trace---trace---"]),
    st.binary(max_size=17),
)
_WHOLE = st.one_of(st.integers(0, 200), st.integers(-(2**63), 2**63 - 1), st.sampled_from([10**12, 10**12 + 1, -1]))
_FLOATS = st.one_of(st.floats(), st.sampled_from([0.5, 12.0, float("nan"), float("inf"), -1.0, 1e300]))


def _scalar(field: Any) -> st.SearchStrategy[Any]:
    kind = field.cpp_type
    if field.name in {"trace_id", "span_id", "parent_span_id"}:
        return _IDS
    if field.name == "key":
        return st.one_of(st.sampled_from(_NAMES), _TEXTS)
    if field.name == "name" and field.containing_type.name == "InstrumentationScope":
        return st.one_of(st.sampled_from([row.scope for row in EMITTERS]), _TEXTS)
    if kind == FieldDescriptor.CPPTYPE_STRING:
        return st.binary(max_size=20) if field.type == FieldDescriptor.TYPE_BYTES else _TEXTS
    if kind == FieldDescriptor.CPPTYPE_BOOL:
        return st.booleans()
    if kind == FieldDescriptor.CPPTYPE_ENUM:
        return st.integers(0, 30)
    if kind in {FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT}:
        return _FLOATS
    if kind in {FieldDescriptor.CPPTYPE_UINT64, FieldDescriptor.CPPTYPE_UINT32}:
        most = 2**64 - 1 if kind == FieldDescriptor.CPPTYPE_UINT64 else 2**32 - 1
        return st.one_of(st.sampled_from([0, 1, 0x300, most, 1_764_500_000_000_000_000 & most]), st.integers(0, most))
    return _WHOLE if kind == FieldDescriptor.CPPTYPE_INT64 else st.integers(-(2**31), 2**31 - 1)


@st.composite
def messages(draw: st.DrawFn, kind: type[_Made], depth: int = 0) -> _Made:
    """A message of ``kind`` with any of its fields."""
    made = kind()
    field: Any
    for field in kind.DESCRIPTOR.fields:
        nested = field.cpp_type == FieldDescriptor.CPPTYPE_MESSAGE
        if nested and depth > 9:
            continue
        if field.containing_oneof is not None and made.WhichOneof(field.containing_oneof.name) is not None:
            continue
        # What leads to spans, records and points is nearly always there.
        if draw(st.integers(0, 9)) < (1 if depth < 3 and nested else 3):
            continue
        if field.is_repeated:
            for _ in range(draw(st.integers(0, 3))):
                several = getattr(made, field.name)
                if nested:
                    several.append(draw(messages(GetMessageClass(field.message_type), depth + 1)))
                else:
                    several.append(draw(_scalar(field)))
        elif nested:
            getattr(made, field.name).CopyFrom(draw(messages(GetMessageClass(field.message_type), depth + 1)))
        else:
            setattr(made, field.name, draw(_scalar(field)))
    if kind.DESCRIPTOR.name == "Span" and draw(st.integers(0, 9)):
        _identify(made, draw)
    return made


def _identify(made: Any, draw: st.DrawFn) -> None:
    """Ids that may be, of few traces and spans: so that parents and children meet."""
    spans = [bytes(7) + bytes([number]) for number in range(1, 6)]
    made.trace_id = draw(st.sampled_from([b"trace---trace---", b"other---other---"]))
    made.span_id = draw(st.sampled_from(spans))
    made.parent_span_id = draw(st.sampled_from([b"", *spans]))
    told = {"gen_ai.operation.name": draw(st.sampled_from(list(OPERATIONS))), "gen_ai.request.model": "gpt-4o"}
    for name, value in told.items():
        if draw(st.booleans()):
            made.attributes.add(key=name).value.string_value = value
    # More of what the table knows, as text, number or list.
    for name in draw(st.lists(st.sampled_from(_NAMES), max_size=12)):
        value = made.attributes.add(key=name).value
        match draw(st.integers(0, 4)):
            case 0:
                value.string_value = draw(_TEXTS)
            case 1:
                value.double_value = draw(_FLOATS)
            case 2:
                value.array_value.values.add().string_value = draw(_TEXTS)
            case _:
                value.int_value = draw(_WHOLE)
