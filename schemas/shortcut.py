"""The short way from an event's bytes to its normal form, for events that are plainly valid.

The contract is ``schemas.events``; this is written from it, once, when the module is loaded: for every section a function
that checks what JSON's reader found and puts it in the contract's order. It only ever says *valid*, and never where the
contract would not. Whatever it is unsure of (a rare spelling, a nested attribute, anything wrong) takes the whole way.
"""

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any, Final

import orjson

from schemas.events import MAX_ATTRIBUTES, REQUIRED, Event
from schemas.ids import is_token
from schemas.model import NO_NUL_PATTERN, TOKEN_PATTERN, utc
from schemas.sections import ResourceUsage

Section = Callable[[dict[str, Any]], dict[str, Any] | None]
"""What JSON's reader found, in the contract's order, defaults filled in, nothing absent spelled out; None: unsure."""

_Schema = Mapping[str, Any]
_NUL: Final = b"\\u0000"
_UUID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}").fullmatch
_SECOND: Final = 19
"""Characters of a moment up to its seconds."""
_FRACTIONS: Final = (0, 3, 6)
_LOOKED_FOR_TOGETHER: Final = 4
_64_BITS: Final = 2.0**63


class NotCoveredError(TypeError):
    """The contract says something here that only the whole way can check. Trying again does not help."""


_token = lru_cache(maxsize=16_384)(is_token)


@lru_cache(maxsize=4096)
def _second(text: str) -> bool:
    """Whether ``2026-01-31T12:00:00`` is one; events come many to the second."""
    try:
        return datetime.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


def _moment(text: Any) -> str | None:
    """A moment in UTC as the normal form writes it; None for a rarer spelling."""
    if text.__class__ is not str or not _second(text[:_SECOND]):
        return None
    rest = text[_SECOND:-1] if text[-1] == "Z" else text[_SECOND:-6] if text[-6:] == "+00:00" else "?"
    if not rest:
        return text[:_SECOND] + "Z"
    digits = rest[1:]
    if rest[0] != "." or len(digits) not in _FRACTIONS or not (digits.isascii() and digits.isdigit()):
        return None
    # What Python writes, and JavaScript's milliseconds; a fraction of nothing is left out.
    digits = digits if len(digits) == _FRACTIONS[-1] else digits + "000"
    return f"{text[:_SECOND]}.{digits}Z" if digits != "000000" else text[:_SECOND] + "Z"


def _attributes(given: Any) -> dict[str, Any] | None:
    """Flat attributes, sorted; None where a value is nested or could not be stored."""
    if given.__class__ is not dict or len(given) > MAX_ATTRIBUTES:
        return None
    for value in given.values():
        kind = value.__class__
        if kind is float:
            # Of an integer of more than 64 bits JSON's reader makes such a number; the contract refuses it.
            if not -_64_BITS < value < _64_BITS:
                return None
        elif kind is not str and kind is not int and kind is not bool and value is not None:
            return None
    return dict(sorted(given.items())) if len(given) > 1 else given


_COUNTED_TOGETHER: Final = frozenset({
    "input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens", "total_tokens", "estimated",
})  # fmt: skip
"""What is told apart beyond these takes the whole way."""


def _adds_up(usage: dict[str, Any]) -> bool:
    if not _COUNTED_TOGETHER.issuperset(usage):
        return False
    sent, answered = usage["input_tokens"], usage["output_tokens"]
    fits: bool = usage["cache_read_tokens"] + usage["cache_write_tokens"] <= sent and usage["reasoning_tokens"] <= answered
    return fits and usage.get("total_tokens", sent + answered) == sent + answered


_RUN_ID: Final = "run.run_id"
_NEEDED: Final = {kind: frozenset(needed) - {_RUN_ID} for kind, needed in REQUIRED.items()}
_NEED_RUN: Final = frozenset(kind for kind, needed in REQUIRED.items() if _RUN_ID in needed)


def _complete(event: dict[str, Any]) -> bool:
    event_type = event["event_type"]
    return _NEEDED[event_type] <= event.keys() and (event_type not in _NEED_RUN or "run_id" in event["run"])


_RULES: Final[Mapping[type, Callable[[dict[str, Any]], bool]]] = {ResourceUsage: _adds_up, Event: _complete}
"""What a model's own validator asks of its fields together; a model with a validator that is not here is not covered."""


class _Writer:
    """Writes the functions; ``names`` is what they refer to.

    A loop over descriptions of fields takes twice as long as code, which is why dataclasses write their ``__init__`` too.
    """

    def __init__(self) -> None:
        self.names: dict[str, Any] = {"token": _token, "moment": _moment, "uuid": _UUID, "attributes": _attributes}

    def model(self, schema: _Schema) -> Section:
        """The function for a model of the contract; raises NotCoveredError."""
        rule = None
        if schema["type"] == "function-after":
            schema = schema["schema"]
            rule = _RULES.get(schema.get("cls", object))
            if rule is None:
                raise NotCoveredError
        fields = schema.get("schema", schema)
        config = schema.get("config", {})
        if fields["type"] != "model-fields" or config.get("extra_fields_behavior") != "forbid" or not config.get("strict"):
            raise NotCoveredError
        lines = ["def read(d):", "size = len(d)", "o = {}"]
        rare = 0
        for name, field in fields["fields"].items():
            if field.keys() - {"type", "schema", "metadata"}:
                raise NotCoveredError
            own = self._field(name, field["schema"])
            if own[0].startswith("v = d.get("):
                # What may be absent mostly is: where everything given has been found, nothing more is looked for.
                if rare % _LOOKED_FOR_TOGETHER == 0:
                    lines.append("if len(o) != size:")
                rare += 1
                own = [f" {line}" for line in own]
            else:
                rare = 0
            lines += own
        lines.append(f"if len(o) != size and not {self._named(frozenset(fields['fields']))}.issuperset(d): return None")
        if rule is not None:
            lines.append(f"if not {self._named(rule)}(o): return None")
        lines.append("return o")
        written: dict[str, Any] = {}
        exec("\n ".join(lines), self.names, written)  # noqa: S102 - the text comes from our own contract alone
        made: Section = written["read"]
        return made

    def _named(self, value: Any) -> str:
        name = f"n{len(self.names)}"
        self.names[name] = value
        return name

    def _field(self, name: str, schema: _Schema) -> list[str]:
        """Lines that put a field into ``o``; those for one that may be absent begin with ``v = d.get(``."""
        keep = f"o[{name!r}] = v"
        if name == "attributes":
            return self._defaulted(name, ["v = attributes(v)", "if v is None: return None"], {})
        if schema["type"] != "default":
            return [f"v = d[{name!r}]", *self._check(schema), keep]
        if schema.keys() != {"type", "schema", "default"}:
            raise NotCoveredError
        inner, default = schema["schema"], schema["default"]
        if inner["type"] != "nullable":
            return self._defaulted(name, self._check(inner), default)
        if default is not None:
            raise NotCoveredError
        try:
            check = self._check(inner["schema"])
        except NotCoveredError:
            check = ["return None"]
        return [f"v = d.get({name!r})", "if v is not None:", *(f" {line}" for line in (*check, keep))]

    def _defaulted(self, name: str, check: list[str], default: object) -> list[str]:
        keep = f"o[{name!r}] = "
        return [
            f"if {name!r} in d:", f" v = d[{name!r}]", *(f" {line}" for line in (*check, f"{keep}v")),
            "else:", f" {keep}{self._named(default)}", " size += 1",
        ]  # fmt: skip

    def _check(self, schema: _Schema, it: str = "v") -> list[str]:
        """Lines that return None unless ``it`` is what ``schema`` says; where it is spelled differently they change it."""
        bounds = {key: value for key, value in schema.items() if key not in {"type", "metadata"}}
        match schema["type"]:
            case "str":
                return [f"if {it}.__class__ is not str or {_bad_text(bounds, it)}: return None"]
            case "literal" if bounds.keys() == {"expected"} and all(isinstance(word, str) for word in schema["expected"]):
                words = self._named(frozenset(schema["expected"]))
                return [f"if {it}.__class__ is not str or {it} not in {words}: return None"]
            case "bool" if not bounds:
                return [f"if {it}.__class__ is not bool: return None"]
            case "int":
                return [f"if {it}.__class__ is not int or {_outside(bounds, it)}: return None"]
            case "float":
                # JSON's reader knows neither infinity nor NaN.
                bounds.pop("allow_inf_nan", None)
                return [
                    f"if {it}.__class__ is int: {it} = float({it})",
                    f"if {it}.__class__ is not float or {_outside(bounds, it)}: return None",
                ]
            case "uuid" if not bounds:
                return [f"if {it}.__class__ is not str or not uuid({it}): return None"]
            case "function-after" if schema["function"]["function"] is utc:
                return [f"{it} = moment({it})", f"if {it} is None: return None"]
            case "tuple" if bounds.keys() == {"items_schema", "variadic_item_index", "max_length"} and it == "v":
                each = self._check(schema["items_schema"][0], "w")
                return [
                    f"if v.__class__ is not list or len(v) > {schema['max_length']}: return None",
                    "t = []", "for w in v:", *(f" {line}" for line in (*each, "t.append(w)")), "v = t",
                ]  # fmt: skip
            case "model" | "function-after":
                return [f"{it} = {self._named(self.model(schema))}({it}) if {it}.__class__ is dict else None",
                        f"if {it} is None: return None"]  # fmt: skip
        raise NotCoveredError


def _bad_text(bounds: dict[str, Any], it: str) -> str:
    if bounds == {"pattern": TOKEN_PATTERN}:
        # What is remembered is short: senders choose it.
        return f"len({it}) > 64 or not token({it})"
    # NUL is looked for once, in the whole event.
    if bounds.pop("pattern", None) != NO_NUL_PATTERN or bounds.keys() - {"min_length", "max_length"}:
        raise NotCoveredError
    return f"not {bounds.get('min_length', 0)} <= len({it}) <= {bounds['max_length']}"


def _outside(bounds: dict[str, Any], it: str) -> str:
    signs = {"ge": ">=", "gt": ">", "le": "<=", "lt": "<"}
    if bounds.keys() - signs.keys():
        raise NotCoveredError
    return f"not ({' and '.join(f'{it} {signs[key]} {value!r}' for key, value in bounds.items())})" if bounds else "False"


def _event() -> Section:
    schema: Any = Event.__pydantic_core_schema__
    return _Writer().model(schema["schema"] if schema["type"] == "definitions" else schema)


_read: Final = _event()


def plainly(raw: bytes) -> dict[str, Any] | None:
    """The event in ``raw`` where it is plainly valid: ``orjson.dumps`` of it is its normal form.

    None says nothing about it: ask ``schemas.reading.read_event``. ``raw`` holds no NUL byte and is no larger than an event may be.
    """
    if b"\\" in raw and _NUL in raw:
        return None
    try:
        found = orjson.loads(raw)
        return _read(found) if found.__class__ is dict else None
    except (orjson.JSONDecodeError, KeyError):
        # A required field is absent, or it is not JSON.
        return None
