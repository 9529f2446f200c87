"""What goes wrong, as RFC 9457 has it: ``application/problem+json``, with each wrong field."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final

import orjson
from starlette.responses import Response

from schemas.errors import FieldError
from schemas.model import Lenient

MEDIA_TYPE: Final = "application/problem+json"


class Problem(Lenient):
    """Why a request was not carried out."""

    type: str
    """A stable word below ``/problems/``."""
    title: str
    status: int
    detail: str
    """What to do."""
    errors: tuple[FieldError, ...] = ()
    """Each wrong field."""
    command_id: str | None = None
    """Of the command that failed: the audit trail has it."""


class ProblemError(Exception):
    """Ends a request with a problem."""

    def __init__(
        self, status: int, kind: str, detail: str, *, errors: Sequence[FieldError] = (), headers: Mapping[str, str] | None = None,
        command_id: str | None = None,
    ) -> None:  # fmt: skip
        super().__init__(detail)
        self.problem = Problem(
            type=f"/problems/{kind}", title=HTTPStatus(status).phrase, status=status, detail=detail, errors=tuple(errors),
            command_id=command_id,
        )  # fmt: skip
        self.headers = dict(headers or {})

    def response(self) -> Response:
        """The answer."""
        told: dict[str, Any] = self.problem.model_dump(exclude_none=True)
        if not self.problem.errors:
            told.pop("errors")
        return Response(orjson.dumps(told), self.problem.status, self.headers, MEDIA_TYPE)


def unauthorized(detail: str) -> ProblemError:
    """Nobody knows who asks."""
    return ProblemError(401, "unauthorized", detail, headers={"WWW-Authenticate": 'Bearer realm="agentops"'})


def away(detail: str, retry_after_s: int = 2) -> ProblemError:
    """Something this needs is away: the same request may succeed later."""
    return ProblemError(503, "unavailable", detail, headers={"Retry-After": str(retry_after_s)})


def not_found(detail: str) -> ProblemError:
    """There is no such thing, or it is another tenant's."""
    return ProblemError(404, "not_found", detail)


def invalid(detail: str, errors: Sequence[FieldError] = ()) -> ProblemError:
    """The request breaks the contract."""
    return ProblemError(422, "invalid", detail, errors=errors)
