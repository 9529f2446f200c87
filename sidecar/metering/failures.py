"""Why a call failed, as its provider says it: types and codes, never its free text, which may quote the prompt."""

import re
from collections.abc import Mapping
from typing import Any, Final

from sidecar.metering.calls import Failed

_WORD: Final = re.compile(r"[A-Za-z0-9_.:/ -]{1,64}")
_RETRYABLE: Final = frozenset({408, 409, 425, 429})


def _word(value: Any) -> str | None:
    text = str(value) if isinstance(value, int) and not isinstance(value, bool) else value
    return text if isinstance(text, str) and _WORD.fullmatch(text) else None


def refused(status: int, data: Any, headers: Mapping[str, str]) -> Failed:
    """What an answer of ``status`` with the body ``data`` says."""
    first = data[0] if isinstance(data, list) and data else data
    error = first.get("error") if isinstance(first, dict) else None
    said = error if isinstance(error, dict) else {}
    kind = _word(said.get("type")) or _word(said.get("status"))
    code = _word(said.get("code"))
    if kind is None and (named := headers.get("x-amzn-errortype")):
        kind = _word(named.split(":")[0])
    message = f"the provider answered HTTP {status}" + (f" ({code or kind})" if code or kind else "")
    return Failed(kind or "http_error", message, code or str(status), status in _RETRYABLE or status >= 500)


CLIENT_LEFT: Final = Failed("cancelled", "the client left before the answer was whole", retryable=True)
BROKEN: Final = Failed("response_truncated", "the provider's answer broke off", retryable=True)
NO_ANSWER: Final = Failed("connection_error", "the provider closed the connection without an answer", retryable=True)


def unreachable(why: str) -> Failed:
    """The provider could not be asked."""
    return Failed("connection_error", f"the provider cannot be reached: {why}", retryable=True)


def ended(error: tuple[str, str | None]) -> Failed:
    """The answer ended with an error of the provider's."""
    kind, code = (_word(part) for part in error)
    return Failed(kind or "provider_error", "the provider ended the answer with an error", code)


def nothing(reason: str | None) -> Failed:
    """The answer is whole, says nothing, and reports nothing: a guard of the provider's stood before the model."""
    word = _word(reason)
    return Failed(word or "no_answer", "the provider answered without a word of a model and without usage", word)
