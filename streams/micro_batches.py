"""Adaptive micro-batches: what one fetch brought, grouped, never waited for, cut at a size every reader can hold."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

MAX_BATCH_BYTES: Final = 512 * 1024
MAX_BATCH_LINES: Final = 2000


@dataclass(frozen=True, slots=True)
class MicroBatch:
    """NDJSON of ``count`` lines, without a final line break."""

    data: bytes
    count: int


def split(lines: Iterable[bytes], max_bytes: int = MAX_BATCH_BYTES, max_lines: int = MAX_BATCH_LINES) -> Iterator[MicroBatch]:
    """``lines`` in order, in as few batches as the limits allow; a line longer than ``max_bytes`` goes alone."""
    held: list[bytes] = []
    size = 0
    for line in lines:
        if held and (size + 1 + len(line) > max_bytes or len(held) >= max_lines):
            yield MicroBatch(b"\n".join(held), len(held))
            held, size = [], 0
        size += len(line) + (1 if held else 0)
        held.append(line)
    if held:
        yield MicroBatch(b"\n".join(held), len(held))


def lines(data: bytes) -> list[bytes]:
    """The non-blank lines of NDJSON."""
    return [line for line in data.split(b"\n") if line.strip()]
