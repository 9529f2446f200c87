"""Tokens as the contract counts them: from what the agent said, or from a response by genai-prices' extractors."""

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

COUNTS: Final = frozenset({
    "input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "reasoning_tokens", "cache_write_1h_tokens",
    "citation_tokens", "input_audio_tokens", "cache_read_audio_tokens", "output_audio_tokens", "input_image_tokens",
    "cache_read_image_tokens", "output_image_tokens", "input_video_tokens", "output_video_tokens", "web_searches", "file_searches",
})  # fmt: skip
"""The counts an agent may tell, by the names of ``resource_usage``."""
_MOST: Final = 10**12

_EXTRACTED: Final[Mapping[str, str]] = {
    "output_reasoning_tokens": "reasoning_tokens",
    "reasoning_tokens": "reasoning_tokens",
    "cache_write_1h_tokens": "cache_write_1h_tokens",
    "cache_1h_write_tokens": "cache_write_1h_tokens",
    "output_citation_tokens": "citation_tokens",
    "cache_audio_read_tokens": "cache_read_audio_tokens",
    "cache_image_read_tokens": "cache_read_image_tokens",
}
"""Names of genai-prices' that are not the contract's."""

_BY_SHAPE: Final = (
    ("prompt_tokens", "openai", "chat"),
    ("cache_read_input_tokens", "anthropic", "default"),
    ("cache_creation_input_tokens", "anthropic", "default"),
    ("promptTokenCount", "google", "default"),
    ("input_tokens", "openai", "responses"),
)
"""Whose shape a usage has that carries such a key: gateways and own models speak somebody's."""


class Counted(NamedTuple):
    """A usage section, and what is to be said about it."""

    section: dict[str, Any] | None
    note: str | None = None


def counted(told: Mapping[str, Any]) -> Counted:
    """``told`` by the agent, made whole where it can only be meant one way.

    Cache counts above the input mean that the input was told without them; reasoning above the output likewise. Anything
    but a count is left out, and said.
    """
    counts: dict[str, Any] = {}
    wrong = []
    for name, value in told.items():
        if value is None:
            continue
        if name == "estimated":
            counts[name] = bool(value)
        elif name not in COUNTS or not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _MOST:
            wrong.append(f"{name}={value!r}")
        else:
            counts[name] = value
    note = f"left out, no count of this contract: {', '.join(wrong)[:200]}" if wrong else None
    if "input_tokens" not in counts and "output_tokens" not in counts:
        return Counted(None, note or "neither input_tokens nor output_tokens were told")
    counts.setdefault("input_tokens", 0)
    counts.setdefault("output_tokens", 0)
    cached = counts.get("cache_read_tokens", 0) + counts.get("cache_write_tokens", 0)
    if cached > counts["input_tokens"]:
        counts["input_tokens"] += cached
        note = "input_tokens were told without cache reads and writes, which are part of them: added"
    if counts.get("reasoning_tokens", 0) > counts["output_tokens"]:
        counts["output_tokens"] += counts["reasoning_tokens"]
        note = "output_tokens were told without reasoning_tokens, which are part of them: added"
    return Counted(_parts_that_fit(counts), note)


def _parts_that_fit(counts: dict[str, Any]) -> dict[str, Any]:
    """Without the finer parts where they exceed what they are a part of: the sums are billed, the parts are detail."""
    limits = (
        ("cache_write_tokens", ("cache_write_1h_tokens",)),
        ("input_tokens", ("input_audio_tokens", "input_image_tokens", "input_video_tokens")),
        ("cache_read_tokens", ("cache_read_audio_tokens", "cache_read_image_tokens")),
        ("input_audio_tokens", ("cache_read_audio_tokens",)),
        ("input_image_tokens", ("cache_read_image_tokens",)),
        ("output_tokens", ("output_audio_tokens", "output_image_tokens", "output_video_tokens")),
        ("output_tokens", ("citation_tokens",)),
    )
    for whole, parts in limits:
        room = counts.get(whole, 0) - (counts.get("reasoning_tokens", 0) if parts == ("citation_tokens",) else 0)
        if sum(counts.get(part, 0) for part in parts) > room:
            for part in parts:
                counts.pop(part, None)
    return counts


def extracted(body: Mapping[str, Any], provider: str) -> Counted:
    """The counts in a response ``body``, by genai-prices' rules for ``provider`` or for whoever's shape it has."""
    try:
        from genai_prices import extract_usage  # noqa: PLC0415 - a third of a second, paid by the background thread
    except ImportError:
        return Counted(None, "genai-prices is not installed: install it, or tell the counts with usage(…)")
    usage: Mapping[str, Any] = next((body[name] for name in ("usage", "usageMetadata", "meta") if name in body), {})
    shapes = [(owner, flavor) for key, owner, flavor in _BY_SHAPE if key in usage]
    flavors = dict.fromkeys([*(flavor for _, flavor in shapes), "default", "chat", "responses"])
    reasons = []
    for owner, flavor in dict.fromkeys([*((provider, flavor) for flavor in flavors), *shapes]):
        try:
            found = extract_usage(dict(body), provider_id=owner, api_flavor=flavor)
        except Exception as error:  # noqa: BLE001 - whatever a foreign response does to it, the next shape is tried
            reasons.append(f"{owner}/{flavor}: {error}")
            continue
        # Its values live among the instance's own attributes, under the names its prices use.
        told = {_EXTRACTED.get(name, name): value for name, value in vars(found.usage).items()}
        known = {name: int(value) for name, value in told.items() if name in COUNTS and isinstance(value, int | float)}
        if "input_tokens" in known or "output_tokens" in known:
            return counted(known)
    return Counted(
        None, f"no usage could be read from a response of {provider!r} ({'; '.join(reasons)[:200]}): tell it with usage(…)"
    )
