"""What a model call is charged by, and which of its parts are parts of others."""

from collections.abc import Mapping
from typing import Final, Literal, NamedTuple

UnitName = Literal[
    "input", "output", "cache_read", "cache_write", "reasoning", "requests_k", "cache_write_1h", "citation", "input_audio",
    "cache_read_audio", "output_audio", "input_image", "cache_read_image", "output_image", "input_video", "output_video",
    "web_searches_k", "file_searches_k",
]  # fmt: skip
"""Prices of tokens are per million, those that end in ``_k`` per thousand."""


class Rarities(NamedTuple):
    """What most calls have nothing of. ``None``: the event does not tell, which matters only where a price needs it."""

    cache_write_1h: int | None = None
    """Of the cache writes, those kept for an hour."""
    citation: int | None = None
    input_audio: int | None = None
    cache_read_audio: int | None = None
    """Audio that was read from the cache: part of the audio and part of the cache reads."""
    output_audio: int | None = None
    input_image: int | None = None
    cache_read_image: int | None = None
    output_image: int | None = None
    input_video: int | None = None
    output_video: int | None = None
    web_searches_k: int | None = None
    file_searches_k: int | None = None


class Tokens(NamedTuple):
    """A call's usage, as OpenTelemetry counts: input includes both cache counts, output includes reasoning."""

    input: int
    output: int
    cache_read: int = 0
    cache_write: int = 0
    """For five minutes and for an hour together."""
    reasoning: int = 0
    rarities: Rarities | None = None


FIELDS: Final[Mapping[str, str]] = {
    name: {"web_searches_k": "web_searches", "file_searches_k": "file_searches"}.get(name, f"{name}_tokens")
    for name in Rarities._fields
}
"""Under which name of ``resource_usage`` (and of a ledger entry) each rarity is told."""


def rarities(usage: Mapping[str, int | None]) -> Rarities | None:
    """The rarities among the fields of ``usage``; None where it tells of none."""
    told = {name: usage.get(field) for name, field in FIELDS.items()}
    return Rarities(**told) if any(count is not None for count in told.values()) else None


_DIMENSIONS: Final[Mapping[str, frozenset[str]]] = {
    "input": frozenset({"in"}),
    "output": frozenset({"out"}),
    "cache_read": frozenset({"in", "read"}),
    "cache_write": frozenset({"in", "write"}),
    "cache_write_1h": frozenset({"in", "write", "1h"}),
    "reasoning": frozenset({"out", "reasoning"}),
    "citation": frozenset({"out", "citation"}),
    "input_audio": frozenset({"in", "audio"}),
    "cache_read_audio": frozenset({"in", "audio", "read"}),
    "output_audio": frozenset({"out", "audio"}),
    "input_image": frozenset({"in", "image"}),
    "cache_read_image": frozenset({"in", "image", "read"}),
    "output_image": frozenset({"out", "image"}),
    "input_video": frozenset({"in", "video"}),
    "output_video": frozenset({"out", "video"}),
    "web_searches_k": frozenset({"web"}),
    "file_searches_k": frozenset({"file"}),
}

UNITS: Final[tuple[str, ...]] = (*sorted(_DIMENSIONS, key=lambda name: (-len(_DIMENSIONS[name]), name)), "requests_k")
"""Every unit, parts before what they are parts of."""

PARTS: Final[Mapping[str, tuple[str, ...]]] = {
    name: tuple(part for part in _DIMENSIONS if part != name and dimensions < _DIMENSIONS[part])
    for name, dimensions in _DIMENSIONS.items()
}
"""Which units are counted within each."""

WITHIN: Final[Mapping[str, tuple[str, ...]]] = {
    name: tuple(whole for whole in _DIMENSIONS if whole != name and _DIMENSIONS[whole] < dimensions)
    for name, dimensions in _DIMENSIONS.items()
}
"""Which units each is counted within."""

PER_THOUSAND: Final = frozenset({"requests_k", "web_searches_k", "file_searches_k"})
