"""What pydantic found wrong, as a person says it: what the value must be."""

from collections.abc import Mapping
from typing import Any, Final

from schemas.model import NO_NUL_PATTERN, TOKEN_PATTERN

_A_TIME: Final = "must be a time with a zone, such as 2026-11-20T08:00:00Z"
_A_NUMBER: Final = "must be a number"
_A_WHOLE_NUMBER: Final = "must be a whole number"
_A_TEXT: Final = "must be a text"
_A_LIST: Final = "must be a list"
_AN_OBJECT: Final = "must be an object"
_A_DECIMAL: Final = "must be a decimal number, such as 0.25"
_A_UUID: Final = "must be a UUID"
_YES_OR_NO: Final = "must be true or false"

_SAID: Final[Mapping[str, str]] = {
    "missing": "is required",
    "extra_forbidden": "is no field that is known here; leave it out, or correct its name",
    "int_type": _A_WHOLE_NUMBER, "int_parsing": _A_WHOLE_NUMBER, "int_parsing_size": _A_WHOLE_NUMBER, "int_from_float": _A_WHOLE_NUMBER,
    "float_type": _A_NUMBER, "float_parsing": _A_NUMBER, "finite_number": "must be a finite number",
    "string_type": _A_TEXT, "string_unicode": _A_TEXT,
    "string_too_short": "must have at least {min_length} characters", "string_too_long": "must have at most {max_length} characters",
    "bool_type": _YES_OR_NO, "bool_parsing": _YES_OR_NO, "none_required": "must be left out",
    "literal_error": "must be {expected}", "enum": "must be {expected}",
    "greater_than": "must be above {gt}", "greater_than_equal": "must be at least {ge}",
    "less_than": "must be below {lt}", "less_than_equal": "must be at most {le}", "multiple_of": "must be a multiple of {multiple_of}",
    "too_short": "must have at least {min_length} entries", "too_long": "must have at most {max_length} entries",
    "datetime_type": _A_TIME, "datetime_parsing": _A_TIME, "datetime_from_date_parsing": _A_TIME, "datetime_object_invalid": _A_TIME,
    "timezone_aware": _A_TIME, "timezone_naive": "must be a time without a zone",
    "date_type": "must be a date, such as 2026-11-20", "date_parsing": "must be a date, such as 2026-11-20",
    "date_from_datetime_parsing": "must be a date, such as 2026-11-20",
    "uuid_type": _A_UUID, "uuid_parsing": _A_UUID, "uuid_version": _A_UUID,
    "decimal_type": _A_DECIMAL, "decimal_parsing": _A_DECIMAL,
    "decimal_max_digits": "must have at most {max_digits} digits", "decimal_max_places": "must have at most {decimal_places} decimal places",
    "decimal_whole_digits": "must have at most {whole_digits} digits before the point",
    "model_type": _AN_OBJECT, "model_attributes_type": _AN_OBJECT, "dict_type": _AN_OBJECT, "mapping_type": _AN_OBJECT,
    "list_type": _A_LIST, "tuple_type": _A_LIST, "set_type": _A_LIST,
    "json_invalid": "is not JSON: {error}",
}  # fmt: skip
"""By pydantic's names of errors; what is in braces it tells with them."""

_PATTERNS: Final[Mapping[str, str]] = {
    TOKEN_PATTERN: "must be 1 to 64 letters, digits, _ or -",
    NO_NUL_PATTERN: "must not contain the character NUL",
}


def said(error: Mapping[str, Any]) -> str:
    """One of ``ValidationError.errors()`` in words; those of validators of our own as they are."""
    kind, context = str(error["type"]), error.get("ctx") or {}
    if kind == "string_pattern_mismatch":
        pattern = str(context.get("pattern", ""))
        return _PATTERNS.get(pattern, f"must match {pattern}")
    known = _SAID.get(kind)
    if known is not None:
        try:
            return known.format(**{name: _shown(value) for name, value in context.items()})
        except (KeyError, IndexError):
            pass
    message = str(error["msg"]).removeprefix("Value error, ").removeprefix("Assertion failed, ")
    return message.replace("Input should be", "must be").replace("Input should", "must")


def _shown(value: Any) -> str:
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
