"""Which call of which API a path is. Paths that call no model pass unmetered."""

import re
from dataclasses import dataclass
from typing import Final, Literal
from urllib.parse import unquote

Shape = Literal["chat", "completions", "responses", "embeddings", "images", "messages", "gemini", "converse", "invoke"]
"""How requests and answers of an API are built, whoever serves it."""

Framing = Literal["sse", "eventstream"]
"""How a streamed answer is cut into events: server-sent events, or Amazon's binary frames."""


@dataclass(frozen=True, slots=True)
class Api:
    """One kind of call."""

    shape: Shape
    operation: str
    """As OpenTelemetry names it."""
    model: str | None = None
    """Where the path names it."""
    streams: bool | None = None
    """Where the path says whether the answer streams; else the request's body does."""
    framing: Framing = "sse"
    retrieves: bool = False
    """Asks for the answer of an earlier call."""


@dataclass(frozen=True, slots=True)
class _Row:
    pattern: re.Pattern[str]
    shape: Shape
    operation: str
    method: str = "POST"
    streams: bool | None = None
    framing: Framing = "sse"
    retrieves: bool = False


_MODEL: Final = r"(?P<model>[^/:]+)"
_TABLE: Final = (
    _Row(re.compile(r"/(?:deployments/(?P<model>[^/]+)/)?chat/completions$"), "chat", "chat"),
    _Row(re.compile(r"/(?:deployments/(?P<model>[^/]+)/)?completions$"), "completions", "text_completion"),
    _Row(re.compile(r"/(?:deployments/(?P<model>[^/]+)/)?embeddings$"), "embeddings", "embeddings"),
    _Row(re.compile(r"/(?:deployments/(?P<model>[^/]+)/)?images/(?:generations|edits)$"), "images", "image_generation"),
    _Row(re.compile(r"/responses$"), "responses", "chat"),
    _Row(re.compile(r"/responses/[^/]+$"), "responses", "chat", method="GET", retrieves=True),
    _Row(re.compile(r"/messages$"), "messages", "chat"),
    _Row(re.compile(rf"/{_MODEL}:generateContent$"), "gemini", "generate_content", streams=False),
    _Row(re.compile(rf"/{_MODEL}:streamGenerateContent$"), "gemini", "generate_content", streams=True),
    _Row(re.compile(rf"/publishers/anthropic/models/{_MODEL}:rawPredict$"), "messages", "chat", streams=False),
    _Row(re.compile(rf"/publishers/anthropic/models/{_MODEL}:streamRawPredict$"), "messages", "chat", streams=True),
    _Row(re.compile(r"/model/(?P<model>[^/]+)/converse$"), "converse", "chat", streams=False),
    _Row(re.compile(r"/model/(?P<model>[^/]+)/converse-stream$"), "converse", "chat", streams=True, framing="eventstream"),
    _Row(re.compile(r"/model/(?P<model>[^/]+)/invoke$"), "invoke", "chat", streams=False),
    _Row(
        re.compile(r"/model/(?P<model>[^/]+)/invoke-with-response-stream$"), "invoke", "chat", streams=True, framing="eventstream"
    ),
)


def api_of(method: str, path: str) -> Api | None:
    """The call that ``method`` on ``path`` (as sent, without its query) is; None where it calls no model."""
    for row in _TABLE:
        if row.method == method and (found := row.pattern.search(path)) is not None:
            model = found.groupdict().get("model")
            return Api(
                row.shape,
                row.operation,
                model=None if model is None else unquote(model),
                streams=row.streams,
                framing=row.framing,
                retrieves=row.retrieves,
            )
    return None
