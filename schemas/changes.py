"""Changes of what people set: asked of the service that makes them, which leaves an audit record of each."""

from typing import Annotated, Final

from pydantic import Field, JsonValue, StringConstraints

from schemas.model import NO_NUL_PATTERN, Count, Identifier, Lenient, Token, Wire

MOST_FIELDS: Final = 64


class RecordChange(Wire):
    """Asks that one value of a tenant's be another, or none. Who asks is the user token of the subject, whose the value is its last."""

    change_id: Identifier
    """One change for ever: its audit record is stored once, however often it is asked for."""
    record_id: Token
    revision: Count
    """Of the value this was made from; 0: there was none. Another by now: refused."""
    value: Annotated[dict[str, JsonValue], Field(max_length=MOST_FIELDS)] | None = None
    """The value whole; None removes it."""
    reason: Annotated[str, StringConstraints(min_length=1, max_length=1000, pattern=NO_NUL_PATTERN)]


class RecordChanged(Lenient):
    """The value is so now."""

    record_id: Token
    revision: Count
    """0: it is gone."""
