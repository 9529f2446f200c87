"""Field-level errors: where, what, and the value that was wrong."""

from typing import Any

from pydantic import ValidationError

from schemas.model import Wire
from schemas.wording import said

_SHOWN = 120
_PARTS = ("(array of ", "(object with ")
_SECRET = ("password", "secret", "token", "api_key", "apikey", "authorization", "credential")


class FieldError(Wire):
    """One thing wrong with one field."""

    loc: str
    """JSON path, ``$`` is the whole value: ``$.resource_usage.input_tokens``."""
    msg: str
    value: str | None = None
    """The offending value, shortened; withheld where the field's name promises a secret."""

    def told(self, where: str | None = None) -> str:
        """``$.limit: must be at most 5,000 (is 9000)``, under another name where ``where`` gives one."""
        # What only says that there are many parts helps nobody.
        plain = self.value is not None and not self.value.startswith(_PARTS)
        return f"{self.loc if where is None else where}: {self.msg}{f' (is {self.value})' if plain else ''}"


def json_path(loc: tuple[int | str, ...]) -> str:
    """``("a", 0, "b")`` as ``$.a[0].b``; a part longer than any field's name is cut short."""
    return "$" + "".join(f"[{part}]" if isinstance(part, int) else f".{part[:_SHOWN]}" for part in loc)


def shown(value: Any, name: str = "") -> str | None:
    """A value fit for an error message: short, and never a secret."""
    if value is None:
        return None
    lowered = name.lower()
    if any(word in lowered for word in _SECRET) and not lowered.endswith("tokens"):
        return "(withheld)"
    if isinstance(value, dict):
        return f"(object with {len(value)} fields)"
    if isinstance(value, list | tuple):
        return f"(array of {len(value)})"
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}… ({len(text)} characters)"


def field_errors(error: ValidationError, most: int = 20) -> tuple[FieldError, ...]:
    """The first ``most`` problems pydantic found, as field errors."""
    found = []
    for item in error.errors(include_url=False, include_context=True)[:most]:
        loc = item["loc"]
        if item["type"] == "section_missing":
            loc = (*loc, *str(item["ctx"]["section"]).split("."))
            value = None
        elif item["type"] == "json_invalid":
            value = None
        else:
            value = None if item["type"] == "missing" else item.get("input")
        name = str(loc[-1]) if loc else ""
        found.append(FieldError(loc=json_path(loc), msg=said(item), value=shown(value, name)))
    return tuple(found)
