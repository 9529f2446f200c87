"""Where content, free text and names stand in an event."""

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Final

CONTENT_KEYS: Final = (
    "gen_ai.input.messages", "gen_ai.output.messages", "gen_ai.system_instructions", "gen_ai.tool.call.arguments",
    "gen_ai.tool.call.result", "gen_ai.prompt", "gen_ai.completion", "input.value", "output.value",
)  # fmt: skip
"""The attributes in which our own doors put content."""

FOREIGN_CONTENT_KEYS: Final = (
    "gen_ai.content", "gen_ai.event.content", "gen_ai.input_messages", "gen_ai.output_messages", "gen_ai.request.messages",
    "gen_ai.response.content", "gen_ai.tool.definitions", "gen_ai.retrieval.documents", "gen_ai.retrieval.query",
    "llm.input_messages", "llm.output_messages", "llm.prompts", "llm.completions", "llm.prompt_template", "retrieval.documents",
    "embedding.text", "embedding.embeddings", "tool.parameters", "tool.output", "message.content", "traceloop.entity.input",
    "traceloop.entity.output", "ai.prompt", "ai.response.text", "ai.response.object", "ai.response.toolcalls",
    "ai.toolcall.args", "ai.toolcall.result", "all_messages_events", "pydantic_ai.all_messages", "tool_arguments", "tool_response",
    "prompt", "completion", "messages",
)  # fmt: skip
"""Those of others' instrumentations: an event that comes another way may have them."""

_CONTENT: Final = frozenset((*CONTENT_KEYS, *FOREIGN_CONTENT_KEYS))
_LONGEST: Final = max(key.count(".") + 1 for key in _CONTENT)
HOLDS_CONTENT: Final = (str, list, dict)
"""Classes of values that can be content: a number under the name ``messages`` is a count."""


_REMEMBERED: Final = 512
"""Characters of a path that is remembered: senders choose them."""


def is_content(path: str, *, inside: bool = False) -> bool:
    """Whether an attribute holds content: one of the names, or something below one (``gen_ai.prompt.0.content``).

    Names of several parts count wherever they stand in ``path``, names of one part at its beginning; ``inside`` a value, anywhere.
    """
    return _known(path, inside) if len(path) <= _REMEMBERED else _said(path, inside)


def _said(path: str, inside: bool) -> bool:
    parts = path.casefold().split(".")
    return any(
        ".".join(parts[start : start + count]) in _CONTENT
        for start in range(min(len(parts), 64))
        for count in range(1 if start == 0 or inside else 2, _LONGEST + 1)
    )


_known: Final = lru_cache(maxsize=8192)(_said)


TEXTS: Final[Mapping[str, tuple[str, ...]]] = {
    "error": ("message",),
    "policy": ("reason",),
    "alert": ("message", "destination"),
    "health": ("reason",),
    "agent": ("reason",),
    "fault": ("reason",),
    "log": ("message",),
    "cost": ("reason",),
}
"""Free text by section; besides it what ``LISTS`` names, and the attributes."""

LISTS: Final[Mapping[str, tuple[str, tuple[str, ...]]]] = {
    "health": ("checks", ("error",)),
    "metrics": ("samples", ("name", "unit")),
}
"""Free text in the items of a section's list. A sample's name carries labels, ``requests{path=/chat}``: whatever an exporter puts there."""

NAMES: Final[Mapping[str, tuple[str, ...]]] = {
    "step": ("step_type", "name"),
    "model_call": ("provider", "model", "operation", "service_tier", "finish_reason"),
    "tool_call": ("name",),
    "cost": ("price_book_version",),
    "budget": ("period", "result"),
    "policy": ("action",),
    "alert": ("type",),
    "error": ("type", "code"),
    "agent": ("name", "version", "agent_type", "previous_status"),
    "evaluation": ("evaluator", "suite", "label"),
    "fault": ("injected_by",),
    "log": ("logger",),
}
"""Labels by section: keys and tokens are replaced in them, nothing else."""

SECRET_NAME: Final = re.compile(
    r"passw(?:or)?d|passphrase|secret|api[_.-]?key|authorization|credential|private[_.-]?key|access[_.-]?key"
    r"|(?:^|[_.-])(?:token|pwd|cookie|set-cookie|bearer|jwt)$",
    re.IGNORECASE,
)
"""A field so named holds a secret, whatever it looks like."""
