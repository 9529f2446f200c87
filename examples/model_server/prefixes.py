"""The prompt cache: which beginnings of prompts were read lately."""

from collections import OrderedDict
from collections.abc import Sequence
from hashlib import blake2b
from typing import Final

BLOCK: Final = 16
LEAST: Final = 64
"""A shared beginning shorter than this many tokens does not count as cached."""


class PrefixCache:
    """Beginnings of prompts in blocks of 16 tokens, apart for every owner (model and key).

    Holds at most ``capacity`` blocks; the block unused longest is forgotten first.
    """

    def __init__(self, capacity: int = 50_000) -> None:
        self._capacity = capacity
        self._blocks: OrderedDict[bytes, None] = OrderedDict()

    def cached(self, owner: str, tokens: Sequence[str]) -> int:
        """How many leading tokens were in an earlier prompt of ``owner``: 0, or a multiple of 16 from 64 on."""
        known = 0
        for block in _blocks(owner, tokens):
            if block not in self._blocks:
                break
            self._blocks.move_to_end(block)
            known += BLOCK
        return known if known >= LEAST else 0

    def remember(self, owner: str, tokens: Sequence[str]) -> None:
        """Keeps the beginnings of ``tokens``."""
        for block in _blocks(owner, tokens):
            self._blocks[block] = None
            self._blocks.move_to_end(block)
        while len(self._blocks) > self._capacity:
            self._blocks.popitem(last=False)


def _blocks(owner: str, tokens: Sequence[str]) -> list[bytes]:
    """One digest for each whole block, of everything from the beginning to its end."""
    running = blake2b(owner.encode(), digest_size=16)
    digests = []
    for start in range(0, len(tokens) - BLOCK + 1, BLOCK):
        for token in tokens[start : start + BLOCK]:
            raw = token.encode("utf-8", "surrogatepass")
            running.update(len(raw).to_bytes(4) + raw)
        digests.append(running.digest())
    return digests
