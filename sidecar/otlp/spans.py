"""What a span is: its attributes sorted into the contract's fields, and what it tells of."""

from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from sidecar.otlp.mapping import CONTENT, FAMILIES, KEPT, OPERATIONS, ROWS, Nature
from sidecar.otlp.reading import SERVER
from sidecar.otlp.usage import counted

_LOOK_UP: Final = {
    row.attribute: (row.field, rank, row.field in KEPT, CONTENT.get(row.field)) for rank, row in reversed(list(enumerate(ROWS)))
}
_PREFIXES: Final = tuple(family.prefix for family in FAMILIES)
_SYSTEMS: Final = ("db", "http", "rpc", "messaging")
_TOOLS_CALL: Final = "tools/call"


class Sorted(NamedTuple):
    """A span's attributes: those with a place in the contract by field, and all others under their own names."""

    fields: dict[str, Any]
    extra: dict[str, Any]


def sort(pairs: Iterable[tuple[str, Any]]) -> Sorted:
    """Of several names of one field the current one counts. Content stands in ``extra`` under the keys it may have."""
    fields: dict[str, Any] = {}
    ranks: dict[str, int] = {}
    extra: dict[str, Any] = {}
    flattened: list[tuple[str, Any]] | None = None
    for name, value in pairs:
        row = _LOOK_UP.get(name)
        if row is None:
            if name.startswith(_PREFIXES):
                flattened = flattened or []
                flattened.append((name, value))
            elif value is not None:
                extra[name] = value
            continue
        if value is None or value == "":
            continue
        field, rank, kept, content = row
        if field not in ranks or rank < ranks[field]:
            fields[field] = value
            ranks[field] = rank
            if content is not None:
                extra[content] = value
        if kept:
            extra[name] = value
    if flattened is not None:
        _gather(flattened, extra)
    return Sorted(fields, extra)


def _gather(flattened: list[tuple[str, Any]], extra: dict[str, Any]) -> None:
    """Puts flattened content together, as a list of what had a number, where it does not stand as a whole already."""
    found: dict[str, dict[int, dict[str, Any]]] = {}
    for name, value in flattened:
        family = next(one for one in FAMILIES if name.startswith(one.prefix))
        key = CONTENT[family.field]
        if key in extra and key not in found:
            continue
        number, _, rest = name[len(family.prefix) :].lstrip(".").partition(".")
        place = int(number) if number.isascii() and number.isdigit() and len(number) < 8 else 0
        found.setdefault(key, {}).setdefault(place, {})[rest or name] = value
        extra.setdefault(key, None)
    for key, items in found.items():
        extra[key] = [items[place] for place in sorted(items)]


class Judged(NamedTuple):
    """What a span tells of, and the operation as it is called now."""

    nature: Nature
    operation: str


_MCP: Final = Judged("step", "mcp")


def judge(kind: int, name: str, told: Sorted) -> Judged:
    """What the span tells of. What names a model and counts its tokens is a call, unless a convention says otherwise."""
    fields = told.fields
    if "mcp_method" in fields:
        # The server's span of a call is beside the client's: the same call.
        if kind == SERVER:
            return _MCP
        if fields["mcp_method"] == _TOOLS_CALL:
            return Judged("tool_call", "execute_tool")
    operation = fields.get("operation")
    if operation.__class__ is str:
        found = OPERATIONS.get(operation.lower())
        if found is not None:
            return Judged(*found)
    elif operation is not None:
        operation = str(operation)
    if counted(fields) and ("model" in fields or "model_asked" in fields):
        return Judged("model_call", operation or "chat")
    if "mcp_method" in fields:
        return _MCP
    if "tool" in fields:
        return Judged("tool_call", operation or "execute_tool")
    if operation:
        return Judged("step", operation)
    if "agent" in fields and name.startswith(("agent run", "invoke_agent")):
        return Judged("agent", "invoke_agent")
    if "system" in fields:
        return Judged("step", next((one for one in _SYSTEMS if any(key.startswith(f"{one}.") for key in told.extra)), "span"))
    return Judged("step", "span")
