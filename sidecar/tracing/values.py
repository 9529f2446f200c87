"""Values as JSON can hold them: copied when told, so that what an agent changes later stays out, and bounded."""

from math import isfinite
from typing import Any, Final

MAX_TEXT: Final = 16_384
"""Characters of one text; longer ones end with how many were left out."""
MAX_ITEMS: Final = 256
MAX_DEPTH: Final = 8
MAX_NAME: Final = 256


def text(value: str, most: int = MAX_TEXT) -> str:
    """``value`` without NUL, at most about ``most`` characters, with a visible end where it was cut."""
    if "\x00" in value:
        value = value.replace("\x00", "�")
    if len(value) > most:
        return f"{value[:most]}… ({len(value) - most:,} more characters)"
    return value


def name(value: Any, otherwise: str) -> str:
    """``value`` as a name: 1 to 256 characters."""
    said = value if isinstance(value, str) else words(value)
    return said.replace("\x00", "")[:MAX_NAME] or otherwise


def identifier(value: Any) -> str:
    """``value`` as an id that stands in no subject: 1 to 128 characters."""
    return name(value, "unnamed")[:128]


def words(value: Any) -> str:
    """``value`` in words, whatever its ``__str__`` does."""
    try:
        return text(str(value))
    except Exception:  # noqa: BLE001 - the agent's own class may raise anything, and must not stop for it
        return f"<{type(value).__name__}>"


def plain(value: Any, depth: int = 0) -> Any:
    """``value`` as JSON: numbers and texts as they are, containers copied, everything else in words."""
    kind = type(value)
    if kind is str:
        return text(value)
    if kind is bool or value is None:
        return value
    if kind is int:
        return value if -(2**63) <= value < 2**63 else str(value)
    if kind is float:
        return value if isfinite(value) else str(value)
    if depth >= MAX_DEPTH:
        return words(value)
    if isinstance(value, dict):
        items = list(value.items())[:MAX_ITEMS]
        found = {text(key if type(key) is str else words(key), MAX_NAME): plain(item, depth + 1) for key, item in items}
        if len(value) > MAX_ITEMS:
            found["…"] = f"{len(value) - MAX_ITEMS:,} more"
        return found
    if isinstance(value, list | tuple | set | frozenset):
        listed = [plain(item, depth + 1) for item in list(value)[:MAX_ITEMS]]
        return [*listed, f"… {len(value) - MAX_ITEMS:,} more"] if len(value) > MAX_ITEMS else listed
    if (fields := fields_of(value)) is not None:
        return plain(fields, depth + 1)
    return words(value)


def fields_of(value: Any) -> dict[str, Any] | None:
    """The fields of a pydantic model, a dataclass or the like; None where it has none to tell."""
    for method in ("model_dump", "to_dict"):
        dump = getattr(value, method, None)
        if callable(dump) and not isinstance(value, type):
            try:
                found = dump()
            except Exception:  # noqa: BLE001 - as above
                return None
            return found if isinstance(found, dict) else None
    if hasattr(value, "__dataclass_fields__") and not isinstance(value, type):
        return {field: getattr(value, field, None) for field in value.__dataclass_fields__}
    return None
