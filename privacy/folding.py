"""Text as a person would read it: what hides a letter (escapes, invisible and look-alike characters) undone, with the way back."""

import re
import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

_ESCAPED: Final = re.compile(
    r"%(?P<percent>[0-9A-Fa-f]{2})|\\+u(?P<unicode>[0-9A-Fa-f]{4})|\\+u\{(?P<braced>[0-9A-Fa-f]{1,6})\}|\\+x(?P<hex>[0-9A-Fa-f]{2})"
    r"|&#(?P<decimal>[0-9]{1,7});?|&#[xX](?P<entity>[0-9A-Fa-f]{1,6});?|&(?P<named>commat|period|colon|num|plus|lowbar|hyphen);"
    r"|\\(?P<break>[nrtbf\"'/])"
)
_NAMED: Final = {"commat": "@", "period": ".", "colon": ":", "num": "#", "plus": "+", "lowbar": "_", "hyphen": "-"}
_HIDES: Final = re.compile(r"[^\x00-\x7f]|%[0-9A-Fa-f]|\\|&[#a-z]")


@dataclass(frozen=True, slots=True)
class Folded:
    """``text`` and, for each of its characters, where in the original what it stands for begins and ends."""

    text: str
    begins: tuple[int, ...]
    ends: tuple[int, ...]

    def span(self, start: int, end: int) -> tuple[int, int]:
        """The place in the original of ``text[start:end]``, which is not empty."""
        return self.begins[start], self.ends[end - 1]


@lru_cache(maxsize=4096)
def _letter(letter: str) -> str:
    """The ASCII a character is read as, or the character; nothing for one that is not seen."""
    category = unicodedata.category(letter)
    if category in {"Cf", "Mn", "Me"} or letter in "\u115f\u1160\u3164\uffa0\u2800":
        return ""
    if category == "Zs":
        return " "
    if category == "Pd" or letter == "\u2212":
        return "-"
    if category == "Nd":
        return str(unicodedata.digit(letter))
    plain = unicodedata.normalize("NFKC", letter)
    return {"\u3002": ".", "\u2024": ".", "\uff61": ".", "\u2215": "/", "\u2044": "/", "\ua789": ":", "\u2236": ":"}.get(
        plain, plain
    )


def _unescaped(match: re.Match[str]) -> str | None:
    kind = match.lastgroup
    assert kind is not None
    value = match[kind]
    if kind == "named":
        return _NAMED[value]
    if kind == "break":
        return value if value in "\"'/" else " "
    code = int(value, 10 if kind == "decimal" else 16)
    # Only what is printed: a percent sign before two digits is more often a percentage.
    return (
        chr(code)
        if 32 <= code < 127 or (code > 160 and kind != "percent" and not 0xD800 <= code < 0xE000 and code < 0x110000)
        else None
    )


def folded(text: str) -> Folded | None:
    """``text`` read as a person would; None where it says plainly what it says."""
    if _HIDES.search(text) is None:
        return None
    letters: list[str] = []
    begins: list[int] = []
    ends: list[int] = []

    def put(letter: str, begin: int, end: int) -> None:
        for one in letter if letter.isascii() else _letter(letter) if len(letter) == 1 else "".join(map(_letter, letter)):
            letters.append(one)
            begins.append(begin)
            ends.append(end)

    at, length = 0, len(text)
    while at < length:
        letter = text[at]
        if letter in "%\\&" and (match := _ESCAPED.match(text, at)) is not None and (said := _unescaped(match)) is not None:
            put(said, at, match.end())
            at = match.end()
            continue
        put(letter, at, at + 1)
        at += 1
    whole = "".join(letters)
    return None if whole == text else Folded(whole, tuple(begins), tuple(ends))
