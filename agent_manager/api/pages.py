"""Pages of lists, and the cursors between them."""

import base64
import binascii
from collections.abc import Sequence
from typing import Any, Final

import orjson
from pydantic import Field

from agent_manager.api.problems import ProblemError
from schemas.errors import FieldError
from schemas.model import Instant, Lenient
from schemas.queries import Page

DEFAULT: Final = 100
MOST: Final = 1000


class Listed(Lenient):
    """One page of a list."""

    items: tuple[dict[str, Any], ...]
    next_cursor: str | None = Field(default=None, description="Give it as `cursor` for the next page; absent on the last.")
    as_of: Instant | None = None


def cursor(place: str | int) -> str:
    """A cursor that stands for ``place``; what it looks like is nobody's business."""
    return base64.urlsafe_b64encode(orjson.dumps(place)).decode().rstrip("=")


def _place(given: str) -> Any:
    try:
        return orjson.loads(base64.urlsafe_b64decode(given + "=" * (-len(given) % 4)))
    except (binascii.Error, ValueError):
        return None


def _refused() -> ProblemError:
    error = FieldError(loc="query.cursor", msg="is none of ours: take it from `next_cursor`, or leave it out")
    return ProblemError(422, "invalid", "the cursor is not valid", errors=(error,))


def offset(given: str | None) -> int:
    """How many rows come before the page; raises ProblemError (422)."""
    if given is None:
        return 0
    place = _place(given)
    if not isinstance(place, int) or isinstance(place, bool) or not 0 <= place < 2**31:
        raise _refused()
    return place


def after(given: str | None) -> str:
    """The key behind which the page begins; raises ProblemError (422)."""
    if given is None:
        return ""
    place = _place(given)
    if not isinstance(place, str):
        raise _refused()
    return place


def of_keys(found: Sequence[tuple[str, dict[str, Any]]], limit: int) -> Listed:
    """The first ``limit`` of what is left, by key."""
    shown = found[:limit]
    following = cursor(shown[-1][0]) if len(found) > limit else None
    return Listed(items=tuple(item for _, item in shown), next_cursor=following)


def of_query(page: Page) -> Listed:
    """A page of the warehouse's."""
    following = None if page.next_offset is None else cursor(page.next_offset)
    return Listed(items=page.rows, next_cursor=following, as_of=page.as_of)
