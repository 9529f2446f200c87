"""Refusals as Google words them, and refusals that a test asks for."""

from dataclasses import dataclass
from typing import Any, Final

import grpc
from google.protobuf import any_pb2
from google.rpc import error_details_pb2, status_pb2

ANY_METHOD: Final = "*"


class Refusal(Exception):  # noqa: N818 - it is an answer, not an accident
    """What a call is answered with instead of a result."""

    def __init__(self, code: grpc.StatusCode, message: str, reason: str | None = None) -> None:
        super().__init__(message)
        self.code, self.message, self.reason = code, message, reason

    def trailers(self) -> tuple[tuple[str, bytes], ...]:
        """The details as gRPC carries them."""
        if self.reason is None:
            return ()
        detail = any_pb2.Any()
        detail.Pack(error_details_pb2.ErrorInfo(reason=self.reason, domain="run.googleapis.com"))
        status = status_pb2.Status(code=self.code.value[0], message=self.message, details=[detail])
        return (("grpc-status-details-bin", status.SerializeToString()),)


@dataclass(slots=True)
class Trouble:
    """Calls of ``method`` (``Services.UpdateService``, say, or ``*``) are refused ``times`` times."""

    method: str
    code: grpc.StatusCode
    message: str = "injected"
    times: int = 1
    """Negative: for ever."""
    after_effect: bool = False
    """The call takes effect, and its answer is lost."""
    reason: str | None = None

    def takes(self, method: str) -> bool:
        """Whether this call is one of them, which then is counted."""
        if self.times == 0 or self.method not in {ANY_METHOD, method}:
            return False
        self.times -= 1 if self.times > 0 else 0
        return True

    def refusal(self) -> Refusal:
        """The answer."""
        return Refusal(self.code, self.message, self.reason)


def not_found(name: str) -> Refusal:
    """There is no such resource."""
    return Refusal(grpc.StatusCode.NOT_FOUND, f"Resource '{name.rpartition('/')[2]}' does not exist")


def conflict(name: str, given: str, current: str) -> Refusal:
    """Somebody else wrote it since it was read."""
    short = name.rpartition("/")[2]
    text = f"Conflict for resource '{short}': version '{given}' was specified but current version is '{current}'."
    return Refusal(grpc.StatusCode.ABORTED, text)


def invalid(text: str) -> Refusal:
    """It cannot be like that."""
    return Refusal(grpc.StatusCode.INVALID_ARGUMENT, text)


def packed(message: Any) -> any_pb2.Any:
    """``message`` inside an Any."""
    found = any_pb2.Any()
    found.Pack(message)
    return found
