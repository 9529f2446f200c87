"""What each type of column holds, and single values made to fit it."""

import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import ROUND_HALF_EVEN, Decimal, InvalidOperation
from typing import Any, Final
from uuid import UUID

import orjson
import pyarrow as pa

from processors.aggregate.columns import Type

_CHECK: Final[Mapping[str, Type]] = {
    "name": "text", "kind": "text", "ok": "flag", "consecutive_failures": "integer", "latency_ms": "number", "error": "text",
}  # fmt: skip
_SAMPLE: Final[Mapping[str, Type]] = {"name": "text", "value": "number", "unit": "text"}

_SIMPLE: Final[Mapping[Type, pa.DataType]] = {
    "text": pa.string(),
    "instant": pa.timestamp("us"),
    "integer": pa.int64(),
    "number": pa.float64(),
    "flag": pa.bool_(),
    "uuid": pa.string(),
    "usd": pa.decimal128(18, 9),
    "texts": pa.list_(pa.string()),
    "pairs": pa.list_(pa.struct([("key", pa.string()), ("value", pa.string())])),
}


def _structs(fields: Mapping[str, Type]) -> pa.DataType:
    return pa.list_(pa.struct([(name, _SIMPLE[kind]) for name, kind in fields.items()]))


ARROW_TYPES: Final[Mapping[Type, pa.DataType]] = {**_SIMPLE, "checks": _structs(_CHECK), "samples": _structs(_SAMPLE)}

_NINE_DIGITS: Final = Decimal("0.000000001")
_MOST_USD: Final = Decimal(10) ** 9
_MOST_INTEGER: Final = 2**63


class UnfitValueError(ValueError):
    """The value is none of its column's type. Trying again does not help."""


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise UnfitValueError("not a text")
    value.encode()
    return value


def _instant(value: Any) -> datetime:
    moment = datetime.fromisoformat(_text(value))
    return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment


def _integer(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not -_MOST_INTEGER <= value < _MOST_INTEGER:
        raise UnfitValueError("no integer of 64 bits")
    return value


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UnfitValueError("not a number")
    try:
        found = float(value)
    except OverflowError as error:
        raise UnfitValueError("too large a number") from error
    if not math.isfinite(found):
        raise UnfitValueError("not a finite number")
    return found


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise UnfitValueError("neither true nor false")
    return value


def _uuid(value: Any) -> str:
    return str(UUID(_text(value)))


def _usd(value: Any) -> Decimal:
    try:
        found = Decimal(value if isinstance(value, str) else str(_number(value)))
        if not abs(found) < _MOST_USD:
            raise UnfitValueError("no amount below a thousand million")
        return found.quantize(_NINE_DIGITS, ROUND_HALF_EVEN)
    except InvalidOperation as error:
        raise UnfitValueError("no amount of money") from error


def _items(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise UnfitValueError("not a list")
    return value


def _texts(value: Any) -> list[str]:
    return [_text(item) for item in _items(value)]


def _records(fields: Mapping[str, Type]) -> Callable[[Any], list[dict[str, Any]]]:
    def read(value: Any) -> list[dict[str, Any]]:
        return [
            {name: None if item.get(name) is None else fitted(kind, item[name]) for name, kind in fields.items()}
            for item in _items(value)
            if isinstance(item, Mapping)
        ]

    return read


def _pairs(value: Any) -> list[dict[str, str]]:
    if not isinstance(value, Mapping):
        raise UnfitValueError("not an object")
    return [{"key": key, "value": item if isinstance(item, str) else orjson.dumps(item).decode()} for key, item in value.items()]


_READ: Final[Mapping[Type, Callable[[Any], Any]]] = {
    "text": _text,
    "instant": _instant,
    "integer": _integer,
    "number": _number,
    "flag": _flag,
    "uuid": _uuid,
    "usd": _usd,
    "texts": _texts,
    "checks": _records(_CHECK),
    "samples": _records(_SAMPLE),
    "pairs": _pairs,
}


def fitted(kind: Type, value: Any) -> Any:
    """``value`` as a column of ``kind`` holds it. Raises UnfitValueError."""
    try:
        return _READ[kind](value)
    except UnfitValueError:
        raise
    except (ValueError, TypeError, OverflowError) as error:
        raise UnfitValueError(str(error)) from error
