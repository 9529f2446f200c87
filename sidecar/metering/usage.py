"""What a call used, in the contract's own counts: read by the extractors of ``genai-prices``, or estimated."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from pydantic import ValidationError

from schemas.sections import ResourceUsage
from sidecar.metering.answers import Answer
from sidecar.metering.apis import Shape
from sidecar.metering.estimates import tokens

_FLAVOURS: Final[Mapping[Shape, tuple[str, ...]]] = {
    "chat": ("chat", "default"),
    "completions": ("chat", "default"),
    "responses": ("responses", "default"),
    "embeddings": ("embeddings", "chat", "default"),
    "images": ("images",),
    "messages": ("anthropic", "default"),
    "gemini": ("default",),
    "converse": ("default",),
    "invoke": ("anthropic", "default"),
}
"""Under which names a provider's extractors read a shape, the best first."""
_REFERENCE: Final[Mapping[Shape, tuple[str, str]]] = {
    "chat": ("openai", "chat"),
    "completions": ("openai", "chat"),
    "responses": ("openai", "responses"),
    "embeddings": ("openai", "embeddings"),
    "images": ("openai", "images"),
    "messages": ("anthropic", "default"),
    "gemini": ("google", "default"),
    "converse": ("aws", "default"),
    "invoke": ("aws", "anthropic"),
}
"""Whose extractor knows a shape best: asked where the provider's own cannot read it, or has none."""
_DEFAULTS_FOR_MESSAGES: Final = frozenset({"anthropic", "minimax"})
"""Of the others' default extractors none reads messages: they would leave the cache out."""

_COUNTS: Final = (
    ("input_tokens", "input_tokens"),
    ("output_tokens", "output_tokens"),
    ("cache_read_tokens", "cache_read_tokens"),
    ("cache_write_tokens", "cache_write_tokens"),
    ("reasoning_tokens", "output_reasoning_tokens"),
)
_APART: Final = (
    ("cache_write_1h_tokens", "cache_write_1h_tokens"),
    ("citation_tokens", "output_citation_tokens"),
    ("input_audio_tokens", "input_audio_tokens"),
    ("cache_read_audio_tokens", "cache_audio_read_tokens"),
    ("output_audio_tokens", "output_audio_tokens"),
    ("input_image_tokens", "input_image_tokens"),
    ("cache_read_image_tokens", "cache_image_read_tokens"),
    ("output_image_tokens", "output_image_tokens"),
    ("input_video_tokens", "input_video_tokens"),
    ("output_video_tokens", "output_video_tokens"),
    ("web_searches", "web_searches"),
    ("file_searches", "file_searches"),
)
"""What is told apart: the contract's name, and the extractors'. A zero is not told."""


@dataclass(frozen=True, slots=True)
class Read:
    """Counts of the provider's own."""

    usage: ResourceUsage
    doubt: str | None = None
    """What of them does not add up, and was left out."""


@dataclass(frozen=True, slots=True)
class Unread:
    """The provider reported none that can be read."""

    why: str


class Extractors:
    """Reads usage. Making one loads the providers' tables: about 30 MB, once a process."""

    def __init__(self) -> None:
        from genai_prices.data_snapshot import get_snapshot  # noqa: PLC0415 - a sidecar that meters nothing does not pay

        self._providers = {provider.id: provider for provider in get_snapshot().providers}
        self._flavours = cache(self._flavours_of)

    def _flavours_of(self, provider: str, shape: Shape) -> tuple[tuple[str, str], ...]:
        known = self._providers.get(provider)
        has = {extractor.api_flavor for extractor in (known.extractors or ())} if known is not None else set()
        own = [flavour for flavour in _FLAVOURS[shape] if flavour in has]
        if shape == "messages" and provider not in _DEFAULTS_FOR_MESSAGES:
            own = [flavour for flavour in own if flavour != "default"]
        return tuple(dict.fromkeys([*((provider, flavour) for flavour in own), _REFERENCE[shape]]))

    def counts(self, provider: str, shape: Shape, document: Mapping[str, Any]) -> dict[str, int] | Unread:
        """The counts in ``document`` under the extractors' own names."""
        why = "the answer reports no usage"
        for owner, flavour in self._flavours(provider, shape):
            try:
                _, found = self._providers[owner].extract_usage(document, api_flavor=flavour)
            except (ValueError, TypeError, ArithmeticError) as error:
                why = str(error)
                continue
            return {name: int(count) for name, count in vars(found).items()}
        return Unread(why)

    def read(self, provider: str, answer: Answer) -> Read | Unread:
        """What ``answer`` reports."""
        if not answer.usage:
            return Unread("the answer reports no usage")
        found = self.counts(provider, answer.shape, answer.document())
        return found if isinstance(found, Unread) else fitted(found)


def fitted(counts: Mapping[str, int]) -> Read | Unread:
    """Counts of a provider as the contract has them; parts that exceed their whole are left out, and said to be."""
    plain = {ours: counts[theirs] for ours, theirs in _COUNTS if theirs in counts}
    apart = {ours: count for ours, theirs in _APART if (count := counts.get(theirs, 0)) > 0}
    plain = {"input_tokens": 0, "output_tokens": 0} | plain
    doubt = None
    fewer = plain | {"reasoning_tokens": min(plain.get("reasoning_tokens", 0), plain["output_tokens"])}
    for fields in (plain | apart, fewer, {name: plain[name] for name in ("input_tokens", "output_tokens")}):
        try:
            return Read(ResourceUsage.model_validate(fields), doubt)
        except ValidationError as error:
            doubt = doubt or _told(error.errors())
    return Unread(doubt or "the counts do not add up")


def _told(errors: Sequence[Any]) -> str:
    return str(errors[0]["msg"])[:200]


def estimated(answer: Answer, read: Read | Unread, asked_tokens: int) -> ResourceUsage:
    """What an answer that broke off used: what the provider reported of it, and an estimate for the rest."""
    wrote = tokens(answer.written)
    if isinstance(read, Read):
        known = read.usage
        return known.model_copy(
            update={"output_tokens": max(known.output_tokens, wrote), "total_tokens": None, "estimated": True}
        )
    return ResourceUsage(input_tokens=asked_tokens, output_tokens=wrote, estimated=True)
