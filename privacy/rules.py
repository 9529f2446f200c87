"""A tenant's policy made ready to be applied."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from privacy.patterns import Own, UnusablePatternError, made
from schemas.content import PERSONAL_KINDS, ContentMode, ContentPolicy, FindingKind


@dataclass(frozen=True, slots=True)
class Rules:
    """What is dropped, and what is looked for."""

    mode: ContentMode = "off"
    kinds: frozenset[FindingKind] = frozenset((*PERSONAL_KINDS, "KEY"))
    own: tuple[Own, ...] = ()

    @property
    def drops_content(self) -> bool:
        """Whether content goes."""
        return self.mode == "off"


STRICTEST: Final = Rules()
"""Of a tenant that said nothing, and of one whose policy is not known."""
KEYS_ALONE: Final = Rules("full", frozenset({"KEY"}))
"""What is looked for in labels."""


@lru_cache(maxsize=1024)
def _ready(policy: ContentPolicy) -> Rules:
    if policy.mode == "full":
        return KEYS_ALONE
    try:
        own = made(policy.patterns)
    except UnusablePatternError:
        # Written by another hand than ours, or another version's: nothing is kept that it might have meant.
        return STRICTEST
    return Rules(policy.mode, frozenset((*policy.kinds, "KEY")), own)


def ready(policy: ContentPolicy) -> Rules:
    """``policy`` as rules; one that cannot be used is the strictest."""
    return _ready(policy)
