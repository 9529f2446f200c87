"""What went wrong, as the ``error`` section says it."""

from typing import Any, Final

from sidecar.tracing.values import name, text, words

_MOST_CHARACTERS: Final = 2_000
_CANCELLED: Final = frozenset({"CancelledError", "GeneratorExit", "KeyboardInterrupt", "SystemExit"})


def is_cancelled(error: BaseException | None) -> bool:
    """Whether ``error`` is somebody's wish to stop, not a failure of the work."""
    return error is not None and type(error).__name__ in _CANCELLED


def describe(error: BaseException | str, *, messages: bool = True) -> dict[str, Any]:
    """The section for ``error``; without ``messages`` its text stays out, which may quote what was being read."""
    if isinstance(error, str):
        return {"type": "error", "message": text(error, _MOST_CHARACTERS)}
    kind = "cancelled" if is_cancelled(error) else type(error).__name__
    found: dict[str, Any] = {"type": name(getattr(error, "kind", None) or kind, kind)}
    if messages:
        found["message"] = text(words(error), _MOST_CHARACTERS)
    code = getattr(error, "code", None) or getattr(error, "status_code", None)
    if isinstance(code, str | int) and not isinstance(code, bool):
        found["code"] = name(str(code), "unknown")
    retryable = getattr(error, "retryable", None)
    if isinstance(retryable, bool):
        found["retryable"] = retryable
    return found
