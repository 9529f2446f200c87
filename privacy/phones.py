"""Telephone numbers: written for the world, or as people of a country write theirs. Judged by Google's numbering plans."""

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Final

_INTERNATIONAL: Final = re.compile(r"(?<![\w+^*])(?:\+|00|011[ -])\(?\d(?:[ ().\-/\u00a0]{0,3}\d){6,17}(?!\w)")
_BEGINS: Final = r"(?<![\w.+/#,-])(?<!==)(?<!\d:)"
_ENDS: Final = r"(?![\w/:]|[.,-]\w)"
_NATIONAL: Final = tuple(
    (regions, re.compile(_BEGINS + written + _ENDS))
    for regions, written in (
        (("US", "CA"), r"(?:1[ .-])?(?:\([2-9]\d{2}\) ?|[2-9]\d{2}[.-])[2-9]\d{2}[ .-]\d{4}"),
        (("FR",), r"0[1-9](?:([ .-])\d{2})(?:\1\d{2}){3}"),
        (
            ("GB", "DE", "IT", "AT", "CH", "NL", "BE", "SE", "AU", "JP", "IE"),
            r"\(?0\d{1,5}\)?(?: ?[/-] ?| )\d{2,8}(?:[ -]\d{2,8}){0,3}",
        ),
        (("ES",), r"[6-9]\d{2}(?: \d{2} \d{2} \d{2}| \d{3} \d{3})"),
        (("BR",), r"\(\d{2}\) ?9?\d{4}-\d{4}"),
        (("IN",), r"[6-9]\d{4} \d{5}"),
        (("PL",), r"[4-8]\d{2}[ -]\d{3}[ -]\d{3}"),
    )
)
_WORDS: Final = re.compile(
    r"(?i)\b(?:phone|mobile|cell|tel|tel[eé]phone|telefon\w*|tel[eé]fono|telefone|fax|call (?:me|us|him|her|back)|text me|sms|whats ?app|ring|dial|reach (?:me|us|him|her)"
    r"|handy(?:nummer)?|rufnummer|mobil\w*|m[oó]vil|portable|cellulare|celular|appel\w*|ruf\w* (?:mich )?an|contact number)\b"
)
_ANNOUNCED: Final = re.compile(_BEGINS + r"\(?\d(?:[ ().\-/]{0,2}\d){6,13}" + _ENDS)
_AFTER: Final = 30
_LEAST: Final = 9
"""Digits of a number that nothing announces."""
_REGIONS: Final = (
    "US",
    "GB",
    "DE",
    "FR",
    "ES",
    "IT",
    "NL",
    "BE",
    "CH",
    "AT",
    "SE",
    "NO",
    "DK",
    "FI",
    "PL",
    "PT",
    "BR",
    "IN",
    "AU",
    "JP",
    "MX",
    "IE",
)
_DATED: Final = re.compile(r"(?:19|20)\d{6}\Z|\(?\d{1,4}[./-]\d{1,2}[./-]\d{1,4}(?!\d)|\d{4}-\d{2}\b")


@lru_cache(maxsize=1)
def _library() -> Any:
    import phonenumbers  # noqa: PLC0415 - read when the first candidate is met: most processes meet none

    return phonenumbers


@lru_cache(maxsize=2048)
def _valid(number: str, regions: tuple[str | None, ...]) -> bool:
    library = _library()
    for region in regions:
        try:
            if library.is_valid_number(library.parse(number, region)):
                return True
        except library.NumberParseException:
            continue
    return False


def find(text: str) -> Iterator[tuple[int, int]]:
    """Where telephone numbers stand in ``text``; may overlap."""
    for match in _INTERNATIONAL.finditer(text):
        number = match[0]
        # What follows with a blank between may be another number: the longest beginning that is one.
        for end in _ends(number):
            said = number[:end]
            international = "+" + said.removeprefix("011").removeprefix("00").lstrip(" -") if not said.startswith("+") else said
            if _valid(international, (None,)):
                yield match.start(), match.start() + end
                break
    for regions, written in _NATIONAL:
        for match in written.finditer(text):
            if not _DATED.match(match[0]) and sum(map(str.isdigit, match[0])) >= _LEAST and _valid(match[0], regions):
                yield match.span()
    for word in _WORDS.finditer(text):
        for match in _ANNOUNCED.finditer(text, word.end(), min(len(text), word.end() + _AFTER + 16)):
            if match.start() - word.end() <= _AFTER and not _DATED.match(match[0]) and _valid(match[0], _REGIONS):
                yield match.span()


def _ends(number: str) -> Iterator[int]:
    yield len(number)
    for place in range(len(number) - 1, 7, -1):
        if not number[place].isdigit() and number[place - 1].isdigit():
            yield place
