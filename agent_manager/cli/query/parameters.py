"""The options of a query, taken from its parameters in the contract. Pure."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import AwareDatetime, ValidationError

from agent_manager.cli.failure import CommandFailedError
from agent_manager.cli.when import NotATimeError, moment
from schemas.errors import field_errors
from schemas.queries import QUERIES

LEFT_OUT = frozenset({"format"})
"""Parameters that are ours to choose."""

Shape = Literal["text", "integer", "flag", "moment", "list"]


@dataclass(frozen=True, slots=True)
class Parameter:
    """One option."""

    name: str
    shape: Shape
    required: bool
    choices: tuple[str, ...] = ()
    default: Any = None
    help: str = ""


def _shape(annotation: Any) -> tuple[Shape, tuple[str, ...]]:
    if get_origin(annotation) is Annotated:
        return _shape(get_args(annotation)[0])
    if get_origin(annotation) in {Union, UnionType}:
        return _shape(next(part for part in get_args(annotation) if part is not NoneType))
    if get_origin(annotation) is tuple:
        return "list", _shape(get_args(annotation)[0])[1]
    if get_origin(annotation) is Literal:
        return "text", tuple(map(str, get_args(annotation)))
    if annotation is bool:
        return "flag", ()
    if annotation is int:
        return "integer", ()
    if annotation in {datetime, AwareDatetime}:
        return "moment", ()
    return "text", ()


def parameters(query: str) -> list[Parameter]:
    """The options of ``query``, its own before those all have."""
    fields = QUERIES[query].model_fields
    found = []
    for name, field in fields.items():
        if name in LEFT_OUT:
            continue
        shape, choices = _shape(field.annotation)
        found.append(
            Parameter(
                name,
                shape,
                field.is_required(),
                choices,
                None if field.is_required() else field.default,
                (field.description or "").split("\n")[0].replace("``", ""),
            )
        )
    paging = {"limit", "offset"}
    return [one for one in found if one.name not in paging] + [one for one in found if one.name in paging]


def about(query: str) -> str:
    """What ``query`` answers, in one line."""
    text = " ".join((QUERIES[query].__doc__ or "").split())
    _, _, said = text.partition(": ")
    return said[:1].upper() + said[1:]


def pairs(given: Sequence[str]) -> dict[str, str]:
    """``k=v`` texts as a mapping; raises CommandFailedError."""
    found = {}
    for text in given:
        name, equals, value = text.partition("=")
        if not equals:
            raise CommandFailedError(f"--param {text!r} is not of the form name=value", code=2)
        found[name.replace("-", "_")] = value
    return found


def _value(parameter: Parameter, text: str, now: datetime) -> Any:
    match parameter.shape:
        case "integer":
            return int(text) if text.lstrip("-").isdigit() else text
        case "flag":
            return text.lower() in {"1", "true", "yes", "on"}
        case "moment":
            return moment(text, now).isoformat()
        case "list":
            return [part for part in text.split(",") if part]
        case _:
            return text


def request(query: str, given: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    """The request's JSON; ``given`` holds texts or typed values by name. Raises CommandFailedError naming the option."""
    known = {one.name: one for one in parameters(query)}
    asked: dict[str, Any] = {}
    for name, value in given.items():
        if value is None or (isinstance(value, list) and not value):
            continue
        if name not in known:
            raise CommandFailedError(f"query {query!r} has no parameter {name!r}", f"It has: {', '.join(known)}", code=2)
        parts = value if isinstance(value, list) else [value]
        try:
            read = [_value(known[name], part, now) if isinstance(part, str) else part for part in parts]
        except NotATimeError as error:
            raise CommandFailedError(f"--{name}: {error}", code=2) from error
        asked[name] = [item for part in read for item in part] if known[name].shape == "list" else read[0]
    try:
        QUERIES[query].model_validate_json(json.dumps(asked))
    except ValidationError as error:
        problems = "; ".join(found.told(f"--{found.loc.removeprefix('$.').replace('_', '-')}") for found in field_errors(error))
        raise CommandFailedError(problems, f"See `agentops query {query} --help`", code=2) from error
    return asked
