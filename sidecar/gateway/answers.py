"""What a gateway answers, as models: the OpenAPI page is made of them."""

from typing import Annotated, Literal

from pydantic import Field

from schemas.errors import FieldError
from schemas.model import Lenient


class EventResult(Lenient):
    """What became of one event of the request."""

    index: int
    """Its place in the request, from 0."""
    event_id: str | None = None
    status: Literal["accepted", "duplicate", "rejected"]
    """``duplicate``: these very bytes came within the last two minutes. Later repeats are accepted, and recognised by their id."""
    reason: str | None = None
    """Why it was rejected: a stable word."""
    errors: Annotated[tuple[FieldError, ...], Field()] = ()
    """Where."""


class Receipt(Lenient):
    """What became of every event of the request, in its order. Rejected ones never will be accepted: do not send them again."""

    accepted: int
    """Acknowledged by NATS, repeats included."""
    rejected: int
    results: tuple[EventResult, ...]


class Problem(Lenient):
    """Why nothing was taken."""

    type: str
    """A stable word."""
    message: str
    """What to do."""


class Refusal(Lenient):
    """Nothing was taken."""

    error: Problem
