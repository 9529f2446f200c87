"""Patterns whose matching is linear, whatever the text: RE2's."""

from typing import Any, Final

import re2

_MEMORY_BYTES: Final = 16 * 1024 * 1024


def compiled(pattern: str, memory_bytes: int = _MEMORY_BYTES) -> Any:
    """The pattern made ready, for texts and for bytes; raises re2.error."""
    options = re2.Options()
    options.max_mem = memory_bytes
    options.log_errors = False
    return re2.compile(pattern, options)
