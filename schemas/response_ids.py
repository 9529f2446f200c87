"""What the id that a provider gave to its response proves. Pure."""

import re
from typing import Final

NUMBERED: Final = r"(?:chat)?cmpl-[0-9]{1,10}"
"""Ids that some servers draw out of a thousand, or count in seconds (Ollama's ``chatcmpl-417``): they come again for other calls.

Alone they prove nothing; with the same day, input and output counts they are of one call. The whole id has to match.
"""
_NUMBERED: Final = re.compile(NUMBERED)


def is_numbered(response_id: str) -> bool:
    """Whether other calls may have the same id."""
    return "cmpl-" in response_id and _NUMBERED.fullmatch(response_id) is not None
