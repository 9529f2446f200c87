"""Whether a changed JSON Schema would reject what the old one accepted."""

from collections.abc import Iterator
from typing import Any

_UPPER = ("maximum", "exclusiveMaximum", "maxLength", "maxItems", "maxProperties")
_LOWER = ("minimum", "exclusiveMinimum", "minLength", "minItems", "minProperties")
Schema = dict[str, Any]


def _resolved(schema: Schema, root: Schema) -> Schema:
    while "$ref" in schema:
        schema = root["$defs"][schema["$ref"].rsplit("/", 1)[-1]]
    return schema


def breaking_changes(old: Schema, new: Schema) -> list[str]:
    """Each way in which ``new`` is stricter than ``old``, by JSON path; empty when every old document stays valid.

    Compares what the exported contracts use: required and unknown fields, types, enumerations, constants, bounds,
    patterns, alternatives, and the sections required by event type.
    """
    return list(_stricter(old, new, old, new, "$", frozenset()))


def _stricter(old: Schema, new: Schema, old_root: Schema, new_root: Schema, path: str, seen: frozenset[str]) -> Iterator[str]:
    ref = old.get("$ref")
    if isinstance(ref, str):
        if ref in seen:
            return
        seen |= {ref}
    old, new = _resolved(old, old_root), _resolved(new, new_root)
    if not new:
        return
    if "anyOf" in old:
        for option in old["anyOf"]:
            yield from _alternative(option, new, old_root, new_root, path, seen)
        return
    if "anyOf" in new:
        yield from _alternative(old, new, old_root, new_root, path, seen)
        return
    yield from _values(old, new, path)
    yield from _bounds(old, new, path)
    yield from _fields(old, new, old_root, new_root, path, seen)
    if isinstance(old.get("items"), dict) and isinstance(new.get("items"), dict):
        yield from _stricter(old["items"], new["items"], old_root, new_root, f"{path}[]", seen)
    if path == "$":
        yield from _sections(old, new)


def _alternative(
    option: Schema, new: Schema, old_root: Schema, new_root: Schema, path: str, seen: frozenset[str]
) -> Iterator[str]:
    """``option`` must fit into at least one of ``new``'s alternatives."""
    attempts = [list(_stricter(option, candidate, old_root, new_root, path, seen)) for candidate in new.get("anyOf", [new])]
    if attempts and all(attempts):
        yield from min(attempts, key=len)


def _values(old: Schema, new: Schema, path: str) -> Iterator[str]:
    allowed = new.get("enum") or ([new["const"]] if "const" in new else None)
    had = old.get("enum") or ([old["const"]] if "const" in old else None)
    if allowed is not None:
        if had is None:
            yield f"{path} is now limited to {allowed}"
        else:
            for value in had:
                if value not in allowed:
                    yield f"{path} no longer accepts {value!r}"
    kinds = {"integer", "number"} if new.get("type") == "number" else {new.get("type")}
    if "type" in new and old.get("type") not in kinds:
        yield f"{path} was {old.get('type', 'anything')}, is now {new['type']}"
    for rule in ("pattern", "format"):
        if rule in new and new[rule] != old.get(rule):
            yield f"{path} has a new {rule} {new[rule]!r}"


def _bounds(old: Schema, new: Schema, path: str) -> Iterator[str]:
    for rule in _UPPER:
        if rule in new and (rule not in old or new[rule] < old[rule]):
            yield f"{path} has a lower {rule}: {new[rule]}"
    for rule in _LOWER:
        if rule in new and (rule not in old or new[rule] > old[rule]):
            yield f"{path} has a higher {rule}: {new[rule]}"


def _fields(old: Schema, new: Schema, old_root: Schema, new_root: Schema, path: str, seen: frozenset[str]) -> Iterator[str]:
    for name in new.get("required", []):
        if name not in old.get("required", []):
            yield f"{path}.{name} is now required"
    properties = new.get("properties", {})
    for name, field in old.get("properties", {}).items():
        if name in properties:
            yield from _stricter(field, properties[name], old_root, new_root, f"{path}.{name}", seen)
        elif new.get("additionalProperties") is False:
            yield f"{path}.{name} is no longer known"
    if new.get("additionalProperties") is False and old.get("additionalProperties", True) is not False:
        yield f"{path} no longer accepts unknown fields"


def _needs(schema: Schema) -> dict[str, set[str]]:
    found = {}
    for rule in schema.get("allOf", []):
        constant = rule.get("if", {}).get("properties", {}).get("event_type", {}).get("const")
        if constant is not None:
            then = rule["then"]
            inner = {f"run.{name}" for name in then.get("properties", {}).get("run", {}).get("required", [])}
            found[constant] = set(then.get("required", [])) | inner
    return found


def _sections(old: Schema, new: Schema) -> Iterator[str]:
    before = _needs(old)
    for event_type, needed in _needs(new).items():
        if event_type in before:
            for name in sorted(needed - before[event_type]):
                yield f"$.{name} is now required on {event_type}"
