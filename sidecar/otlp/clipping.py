"""Texts no longer than the contract lets them be; what was cut off shows."""

import re
from typing import Any, Final

from schemas.ids import is_token
from streams.subjects import RESERVED_AGENT_ID

IDENTIFIER: Final = 128
NAME: Final = 256
TEXT: Final = 8192
_TOKEN: Final = 64
_OTHER: Final = re.compile(r"[^A-Za-z0-9_-]+")


def clipped(value: Any, most: int) -> str | None:
    """``value`` as a text of 1 to ``most`` characters; None where there is nothing to say."""
    if value.__class__ is not str:
        if value is None:
            return None
        value = str(value)
    if len(value) > most:
        return f"{value[: most - 1]}…"
    return value or None


def token(value: Any) -> str | None:
    """``value`` as an id that may stand in a subject: what may not is written ``-``."""
    if not isinstance(value, str) or not value:
        return None
    if is_token(value):
        return value if value != RESERVED_AGENT_ID else f"{value}-agent"
    made = _OTHER.sub("-", value).strip("-")[:_TOKEN]
    return token(made) if made else None
