"""Answers of the proxy's own, in the form of the provider whose place it takes: its SDKs understand them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from sidecar.metering.providers import Errors

_KINDS: Final[Mapping[Errors, Mapping[int, str]]] = {
    "openai": {400: "invalid_request_error", 403: "permission_error", 429: "rate_limit_error", 503: "server_error"},
    "anthropic": {
        400: "invalid_request_error",
        403: "permission_error",
        404: "not_found_error",
        429: "rate_limit_error",
        529: "overloaded_error",
    },
    "google": {
        400: "INVALID_ARGUMENT",
        403: "PERMISSION_DENIED",
        404: "NOT_FOUND",
        429: "RESOURCE_EXHAUSTED",
        503: "UNAVAILABLE",
        529: "UNAVAILABLE",
    },
    "aws": {
        400: "ValidationException",
        403: "AccessDeniedException",
        404: "ResourceNotFoundException",
        429: "ThrottlingException",
        503: "ServiceUnavailableException",
        529: "ServiceUnavailableException",
    },
}
_OTHERWISE: Final[Mapping[Errors, str]] = {
    "openai": "server_error",
    "anthropic": "api_error",
    "google": "INTERNAL",
    "aws": "InternalServerException",
}


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a call goes no further."""

    status: int
    code: str
    """One word, for programs."""
    message: str
    """One sentence, for people."""
    retry_after_s: int | None = None
    final: bool = True
    """Whether trying again at once cannot help: SDKs are told not to."""
    details: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Told:
    """A refusal as it is sent."""

    status: int
    body: dict[str, Any]
    headers: dict[str, str]


def kind_of(errors: Errors, status: int) -> str:
    """The provider's own name of such an error."""
    return _KINDS[errors].get(status, _OTHERWISE[errors])


def told(refusal: Refusal, errors: Errors) -> Told:
    """``refusal`` as a provider with such ``errors`` would say it."""
    kind = kind_of(errors, refusal.status)
    headers = dict(refusal.headers)
    if refusal.retry_after_s is not None:
        headers["Retry-After"] = str(refusal.retry_after_s)
    if refusal.final:
        headers["x-should-retry"] = "false"
    more = dict(refusal.details)
    body: dict[str, Any]
    match errors:
        case "openai":
            body = {"error": {"message": refusal.message, "type": kind, "param": None, "code": refusal.code, **more}}
        case "anthropic":
            body = {"type": "error", "error": {"type": kind, "message": refusal.message, "code": refusal.code, **more}}
        case "google":
            info = {
                "@type": "type.googleapis.com/google.rpc.ErrorInfo",
                "reason": refusal.code,
                "domain": "agentops",
                "metadata": more,
            }
            body = {"error": {"code": refusal.status, "message": refusal.message, "status": kind, "details": [info]}}
        case "aws":
            headers["x-amzn-ErrorType"] = kind
            body = {"message": refusal.message, "code": refusal.code, **more}
    return Told(refusal.status, body, headers)
