"""What becomes of content (prompts, completions, what tools are given and answer), said for each tenant."""

from typing import Annotated, Final, Literal, get_args

from pydantic import Field, StringConstraints

from schemas.model import NO_NUL_PATTERN, Identifier, Instant, Lenient, Name, Text, Token, Wire

ContentMode = Literal["off", "redacted", "full"]
"""``off``: content is dropped. ``redacted``: kept, with findings replaced. ``full``: kept as it is, but for keys and tokens."""

FindingKind = Literal["EMAIL", "PHONE", "CARD", "IBAN", "NATIONAL_ID", "IP", "KEY"]
"""What is looked for; ``[EMAIL]`` stands where one was found."""

FINDING_KINDS: Final[tuple[FindingKind, ...]] = get_args(FindingKind)
PERSONAL_KINDS: Final[tuple[FindingKind, ...]] = tuple(kind for kind in FINDING_KINDS if kind != "KEY")
"""Those a tenant may choose among; keys and tokens are always replaced."""

MAX_PATTERNS: Final = 20
MAX_PATTERN: Final = 500

CONTENT_MARK: Final = "agentops.content"
"""This attribute says ``off`` where content was dropped."""
DROPPED_MARK: Final = "agentops.content_bytes"
"""Bytes of content that were dropped."""
REDACTED_MARK: Final = "agentops.redacted"
"""How many findings were replaced."""
TRUNCATED_MARK: Final = "agentops.truncated"
"""How many values were cut short."""
MARKS: Final = (CONTENT_MARK, DROPPED_MARK, REDACTED_MARK, TRUNCATED_MARK)


class OwnPattern(Lenient):
    """Something a tenant looks for beyond what everybody does."""

    name: Annotated[str, StringConstraints(pattern=r"^[A-Z][A-Z0-9_]{0,31}$")]
    """``[NAME]`` stands where it was found."""
    pattern: Annotated[str, StringConstraints(min_length=1, max_length=MAX_PATTERN, pattern=NO_NUL_PATTERN)]
    """A regular expression in RE2's language."""


class ContentPolicy(Lenient):
    """The bucket ``content``, key ``<tenant>``. Without an entry a tenant's mode is ``off``."""

    tenant_id: Token
    mode: ContentMode = "off"
    kinds: Annotated[tuple[FindingKind, ...], Field(max_length=len(FINDING_KINDS))] = PERSONAL_KINDS
    """What is replaced in texts besides keys and tokens, in modes ``off`` and ``redacted``."""
    patterns: Annotated[tuple[OwnPattern, ...], Field(max_length=MAX_PATTERNS)] = ()
    updated_at: Instant | None = None
    updated_by: Name | None = None
    reason: Text | None = None


class ContentChange(Wire):
    """Asks for another policy, whole. Who asks is the subject's user token."""

    change_id: Identifier
    tenant_id: Token
    revision: int
    """Of the entry this was made from; 0: there was none. Another by now: refused."""
    mode: ContentMode
    kinds: Annotated[tuple[FindingKind, ...], Field(max_length=len(FINDING_KINDS))] = PERSONAL_KINDS
    patterns: Annotated[tuple[OwnPattern, ...], Field(max_length=MAX_PATTERNS)] = ()
    reason: Annotated[str, StringConstraints(min_length=1, max_length=1000, pattern=NO_NUL_PATTERN)]


class ContentChanged(Lenient):
    """A policy as it is in force now."""

    policy: ContentPolicy
    revision: int
