"""How many tokens there were where the provider did not say: four characters a token, and marked as an estimate."""

from typing import Any, Final

_CHARACTERS_A_TOKEN: Final = 4
_A_MESSAGE: Final = 3
"""Tokens that frame a request, whatever it says."""
_NO_TEXT: Final = frozenset({
    "role", "type", "id", "index", "model", "object", "status", "signature", "thoughtSignature", "encrypted_content", "data",
    "bytes", "obfuscation", "call_id", "item_id", "tool_call_id", "finish_reason", "stop_reason", "mime_type", "mimeType",
    "metadata", "user", "response_format", "detail", "cache_control", "url", "file_data", "image_url",
})  # fmt: skip
"""Fields that hold no text, or one of which no token is made."""
_DEEPEST: Final = 32


def characters(value: Any, depth: int = 0) -> int:
    """How long the texts in a JSON value are."""
    if isinstance(value, str):
        return len(value)
    if depth > _DEEPEST:
        return 0
    if isinstance(value, dict):
        return sum(characters(inner, depth + 1) for name, inner in value.items() if name not in _NO_TEXT)
    if isinstance(value, list):
        return sum(characters(inner, depth + 1) for inner in value)
    return 0


def tokens(length: int) -> int:
    """About how many tokens a text of ``length`` characters is; 0 for none."""
    return -(-length // _CHARACTERS_A_TOKEN)


def asked_tokens(body: dict[str, Any] | None, size: int) -> int:
    """About how many tokens a request has, by its texts; by its ``size`` in bytes where it was not read."""
    return _A_MESSAGE + tokens(size if body is None else characters(body))
