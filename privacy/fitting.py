"""An event in no more bytes than it may have: its longest attributes are cut, and it says so. Pure."""

from typing import Any, Final

import orjson

from privacy.sizes import cut
from schemas.content import MARKS, TRUNCATED_MARK

_OURS: Final = "agentops."
_SHORTER: Final = (1_024, 64)
"""Characters that are left of an attribute: the second where the first did not do. With the most attributes of the longest names it does."""
_MARK_BYTES: Final = 64


def fitted(event: dict[str, Any], most: int) -> tuple[dict[str, Any], int]:
    """``event`` with the longest of its attributes cut until it has at most ``most`` bytes as JSON, and how many were cut.

    Sections stay: calls, usage and cost are what is billed. Our own attributes are cut only where the others did not do.
    """
    over = len(orjson.dumps(event)) + _MARK_BYTES - most
    attributes = dict(event.get("attributes") or {})
    sizes = {name: len(orjson.dumps(value)) for name, value in attributes.items() if name not in MARKS}
    shortened: set[str] = set()
    for ours in (False, True):
        for characters in _SHORTER:
            for name in sorted((name for name in sizes if name.startswith(_OURS) is ours), key=lambda name: -sizes[name]):
                if over <= 0:
                    break
                value = attributes[name]
                text = value if isinstance(value, str) else orjson.dumps(value).decode()
                if len(text) > characters:
                    attributes[name] = cut(text, characters)
                    size = len(orjson.dumps(attributes[name]))
                    over, sizes[name] = over - sizes[name] + size, size
                    shortened.add(name)
    if not shortened:
        return event, 0
    before = attributes.get(TRUNCATED_MARK)
    attributes[TRUNCATED_MARK] = len(shortened) + (before if before.__class__ is int else 0)
    return event | {"attributes": attributes}, len(shortened)
