"""What a model call used, as the contract counts: input includes cache, output includes reasoning.

Counts that do not add up are corrected and said so; a call is never lost over its counts.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from sidecar.otlp.mapping import ANTHROPIC, Cache

MOST_TOKENS: Final = 10**12

_NOTHING: Final = {"input_tokens": 0, "output_tokens": 0, "estimated": True}
_COUNTS: Final = ("input", "input_uncached", "output", "cache_read", "cache_write", "reasoning", "total")
_PARTS: Final = {
    "cache_write_1h": "cache_write_1h_tokens",
    "input_audio": "input_audio_tokens",
    "output_audio": "output_audio_tokens",
    "cache_read_audio": "cache_read_audio_tokens",
    "web_searches": "web_searches",
}


@dataclass(frozen=True, slots=True)
class Usage:
    """The resource_usage section, and what had to be corrected; empty where everything added up."""

    section: dict[str, Any]
    corrected: tuple[str, ...] = ()


def count(value: Any) -> int | None:
    """``value`` as a count of tokens; None where it is none."""
    if value.__class__ is int:
        return value if 0 <= value <= MOST_TOKENS else None
    if value.__class__ is float:
        return int(value) if 0 <= value <= MOST_TOKENS and value == int(value) else None
    if value.__class__ is str and value.isascii() and value.isdigit() and len(value) <= 13:
        return count(int(value))
    return None


def counted(fields: Mapping[str, Any]) -> bool:
    """Whether somebody counted this call's tokens."""
    return "input" in fields or "output" in fields or "total" in fields


def apart(rule: Cache, provider: str, model: str) -> bool:
    """Whether the emitter's row says that this provider's input count leaves cache out."""
    if rule == "apart for anthropic":
        told = f"{provider} {model}".lower()
        return any(name in told for name in ANTHROPIC)
    return rule == "apart"


def usage(fields: Mapping[str, Any], rule: Cache, provider: str, model: str) -> Usage:
    """What ``fields`` count. A span that counts nothing has used nothing that is known: zeros, marked as an estimate."""
    read: dict[str, int] = {}
    corrected: list[str] = []
    for name in _COUNTS:
        if name in fields:
            told = count(fields[name])
            if told is None:
                corrected.append(f"{name} is no count of tokens")
            else:
                read[name] = told
    if not ("input" in read or "output" in read or "total" in read or "input_uncached" in read):
        return Usage(dict(_NOTHING), (*corrected, "not reported"))
    sent, answered, total = read.get("input"), read.get("output"), read.get("total")
    cache_read, cache_write, reasoning = read.get("cache_read", 0), read.get("cache_write", 0), read.get("reasoning", 0)
    cached = cache_read + cache_write
    if answered is None:
        answered = max(0, total - (sent or 0)) if total is not None and sent is not None else 0
    if "input_uncached" in read:
        sent = read["input_uncached"] + cached
    elif sent is None:
        sent = max(0, total - answered) if total is not None else cached
    elif cached:
        # More cache than input, or a total that counts it once more, proves what the emitter's row may not know.
        proven, known = cached > sent or total == sent + answered + cached, apart(rule, provider, model)
        if proven and not known:
            corrected.append("input left cache out")
        if proven or known:
            sent += cached
    if reasoning and (reasoning > answered or total == sent + answered + reasoning):
        corrected.append("output left reasoning out")
        answered += reasoning
    sent = max(sent, cached)
    if sent > MOST_TOKENS or answered > MOST_TOKENS:
        return Usage(dict(_NOTHING), (*corrected, "more than a trillion tokens"))
    section: dict[str, Any] = {"input_tokens": sent, "output_tokens": answered}
    if cache_read:
        section["cache_read_tokens"] = cache_read
    if cache_write:
        section["cache_write_tokens"] = cache_write
    if reasoning:
        section["reasoning_tokens"] = reasoning
    if not _PARTS.keys().isdisjoint(fields):
        corrected += _add_parts(section, fields)
    return Usage(section, tuple(corrected))


_WHOLES: Final = (
    ("cache_write_1h_tokens", ("cache_write_tokens",)),
    ("input_audio_tokens", ("input_tokens",)),
    ("output_audio_tokens", ("output_tokens",)),
    ("cache_read_audio_tokens", ("cache_read_tokens", "input_audio_tokens")),
    ("web_searches", ()),
)


def _add_parts(section: dict[str, Any], fields: Mapping[str, Any]) -> list[str]:
    """Adds what is told apart, where it fits into what it is a part of; says what did not."""
    told = {_PARTS[name]: count(fields[name]) for name in _PARTS.keys() & fields.keys()}
    misfits = []
    for name, wholes in _WHOLES:
        value = told.get(name)
        if not value:
            continue
        if all(value <= section.get(whole, 0) for whole in wholes):
            section[name] = value
        else:
            misfits.append(f"{name} exceeds {' or '.join(wholes)}")
    return misfits
