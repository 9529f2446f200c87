"""What a request says of the call it is, and how it is made to ask for its usage."""

from dataclasses import dataclass
from typing import Any, Final

import orjson

from sidecar.metering.apis import Api

_ASKS: Final = b'"stream_options":{"include_usage":true}'
SHAPES_THAT_ASK: Final = frozenset({"chat", "completions"})
"""Streams of these carry their usage only where ``stream_options.include_usage`` asks for it."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A request, read as far as metering needs it."""

    model: str | None
    streams: bool
    body: dict[str, Any] | None
    """None where it is no JSON object, or was too large to be read."""
    lacks_usage: bool = False
    """It streams, and its stream would end without usage."""


def read(api: Api, raw: bytes | None) -> Asked:
    """The request ``raw``; None stands for one that was not read."""
    body: Any = None
    if raw:
        try:
            body = orjson.loads(raw)
        except orjson.JSONDecodeError:
            body = None
    if not isinstance(body, dict):
        return Asked(api.model, bool(api.streams), None)
    model = body.get("model")
    streams = body.get("stream") is True if api.streams is None else api.streams
    options = body.get("stream_options")
    asks = isinstance(options, dict) and options.get("include_usage") is True
    return Asked(
        model if isinstance(model, str) and model else api.model,
        streams,
        body,
        lacks_usage=streams and api.shape in SHAPES_THAT_ASK and not asks,
    )


def with_usage(raw: bytes, body: dict[str, Any]) -> bytes:
    """The request ``raw``, asking for usage too: every other byte stays, unless it had stream options of its own."""
    if "stream_options" in body:
        options = body["stream_options"]
        return orjson.dumps({**body, "stream_options": {**(options if isinstance(options, dict) else {}), "include_usage": True}})
    # An object that says ``stream`` is not empty, so a comma follows.
    start = raw.index(b"{") + 1
    return raw[:start] + _ASKS + b"," + raw[start:]
