"""How large a value may be, and how one that is larger shows that it was cut."""

from typing import Final

MAX_VALUE: Final = 4_096
"""Characters of an attribute that is no content."""
MAX_CONTENT: Final = 8_192
"""Characters of content that stay in the event; the rest goes to the object store, or is cut off."""
MAX_KEY: Final = 256
"""Characters of an attribute's name."""
MAX_LABEL: Final = 256
"""Characters of a label, as the contract has it."""
PREVIEW: Final = 1_024
"""Characters that stand before the reference to the rest."""
MAX_DEPTH: Final = 32
"""Of nesting, as the contract has it."""

REFERENCE: Final = "agentops-content:"
"""What a reference begins with; ``agentops content get`` takes what follows."""


def cut(text: str, most: int) -> str:
    """``text`` in at most ``most`` characters; one that was cut says how much is missing."""
    if len(text) <= most:
        return text
    ending = f"… [TRUNCATED {len(text):,} characters]"
    return text[: max(0, most - len(ending))] + ending


def preview(text: str, reference: str) -> str:
    """The beginning of ``text`` with a reference to all of it."""
    return f"{text[:PREVIEW]}… [TRUNCATED {len(text):,} characters, all in {REFERENCE}{reference}]"


def without_reference(line: bytes, reference: str) -> bytes:
    """A line of JSON in which a preview no longer promises what could not be kept."""
    return line.replace(f", all in {REFERENCE}{reference}]".encode(), b"]")
