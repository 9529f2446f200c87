"""The tokenizer: a fixed rule instead of a learned vocabulary, so that anyone can recount."""

import re
from collections.abc import Iterator, Sequence
from typing import Final

Message = tuple[str, str]
"""Role and text."""

_PIECE: Final = re.compile(r" ?[^\W\d_]{1,7}| ?\d{1,3}| ?[^\w\s]| ?_+|\s+")


def pieces(text: str) -> list[str]:
    """``text`` cut into tokens; joined again they are ``text``.

    A token is up to seven letters, up to three digits, one punctuation mark or a run of underscores, each with the
    space before it; or a run of other white space.
    """
    return _PIECE.findall(text)


def prompt_tokens(messages: Sequence[Message]) -> Iterator[str]:
    """The tokens of a prompt: for each message its role, the pieces of its text, and an end mark."""
    for role, text in messages:
        yield f"<{role}>"
        yield from pieces(text)
        yield "<end>"
