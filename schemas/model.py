"""The strictness every wire model shares, and the constrained types they are made of."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    StringConstraints,
)

TOKEN_PATTERN = r"^[A-Za-z0-9_-]{1,64}$"
"""What an id must look like to stand in a NATS subject."""

NO_NUL_PATTERN = r"^[^\x00]*$"

Token = Annotated[str, StringConstraints(pattern=TOKEN_PATTERN)]
"""An id that appears in a subject: letters, digits, ``_`` and ``-``, at most 64."""

Identifier = Annotated[str, StringConstraints(min_length=1, max_length=128, pattern=NO_NUL_PATTERN)]
"""An id that never appears in a subject: any text of 1 to 128 characters without NUL."""

Name = Annotated[str, StringConstraints(min_length=1, max_length=256, pattern=NO_NUL_PATTERN)]
Text = Annotated[str, StringConstraints(max_length=8192, pattern=NO_NUL_PATTERN)]

Tokens = Annotated[int, Field(ge=0, le=10**12)]
"""A count of model tokens; a trillion in one call is a mistake, not a bill."""

Milliseconds = Annotated[float, Field(ge=0, le=10**12, allow_inf_nan=False)]
Ratio = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]
Count = Annotated[int, Field(ge=0, le=2**62)]


def _nine_digits(value: Decimal) -> Decimal:
    if not value.is_finite():
        msg = "must be a finite decimal number"
        raise ValueError(msg)
    exponent = value.normalize().as_tuple().exponent
    if isinstance(exponent, int) and exponent < -9:
        msg = "must have at most nine fractional digits"
        raise ValueError(msg)
    if abs(value) >= Decimal(10) ** 9:
        msg = "must be below one billion"
        raise ValueError(msg)
    return value


def _plain(value: Decimal) -> str:
    return format(value, "f")


def utc(value: datetime) -> datetime:
    """The same moment in UTC; raises ValueError where that has no year of four digits."""
    try:
        return value.astimezone(UTC)
    except OverflowError as error:
        msg = "must lie between the years 1 and 9999 in UTC"
        raise ValueError(msg) from error


Usd = Annotated[Decimal, AfterValidator(_nine_digits), PlainSerializer(_plain, return_type=str, when_used="json")]
"""US dollars, exact, at most nine fractional digits; a decimal string in JSON."""

UnitPrice = Annotated[Decimal, PlainSerializer(_plain, return_type=str, when_used="json")]
"""US dollars per million units, exact; a decimal string in JSON."""

Instant = Annotated[AwareDatetime, AfterValidator(utc)]
"""A moment with a time zone; kept in UTC."""


class Wire(BaseModel):
    """A frozen value that says exactly what it declares: unknown fields and coerced types are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, ser_json_inf_nan="null", use_attribute_docstrings=True)


class Lenient(Wire):
    """A wire value read by older readers than its writer: unknown fields are left aside."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True, use_attribute_docstrings=True)
