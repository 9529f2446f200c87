"""Numbers that states give to people, by country: how they are written, and what the well-kept library says of them."""

import re
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Final, cast


@dataclass(frozen=True, slots=True)
class _Form:
    module: str
    """Of ``stdnum``."""
    written: re.Pattern[str]
    announced: bool = False
    """Written without anything that marks it: counts only near a word that says what it is."""


def _form(module: str, written: str, *, announced: bool = False) -> _Form:
    return _Form(module, re.compile(rf"(?<![\w.+/-])(?:{written})(?![\w/]|-\w|\.\d)"), announced)


FORMS: Final = (
    _form("us.ssn", r"\d{3}-\d{2}-\d{4}"),
    _form("us.ssn", r"\d{3} \d{2} \d{4}|\d{9}", announced=True),
    _form("us.itin", r"9\d{2}-\d{2}-\d{4}"),
    _form("fr.nir", r"[12478] ?\d{2} ?(?:0[1-9]|1[0-2]|[2-9]\d) ?(?:\d{2}|2[AB]) ?\d{3} ?\d{3} ?\d{2}"),
    _form("it.codicefiscale", r"[A-Za-z]{6}\d{2}[A-Za-z]\d{2}[A-Za-z]\d{3}[A-Za-z]"),
    _form("es.dni", r"\d{8}[- ]?[A-Za-z]"),
    _form("es.nie", r"[XYZxyz][- ]?\d{7}[- ]?[A-Za-z]"),
    _form("ch.ssn", r"756\.\d{4}\.\d{4}\.\d{2}|756\d{10}"),
    _form("be.nn", r"\d{2}\.\d{2}\.\d{2}-\d{3}\.\d{2}"),
    _form("be.nn", r"\d{11}", announced=True),
    _form("br.cpf", r"\d{3}\.\d{3}\.\d{3}-\d{2}"),
    _form("br.cpf", r"\d{11}", announced=True),
    _form("fi.hetu", r"\d{6}[-+ABCDEFYXWVU]\d{3}[0-9A-Z]"),
    _form("mx.curp", r"[A-Z]{4}\d{6}[HM][A-Z]{5}[A-Z0-9]\d"),
    _form("cn.ric", r"[1-8]\d{5}(?:19|20)\d{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])\d{3}[0-9Xx]"),
    _form("kr.rrn", r"\d{6}-[1-8]\d{6}"),
    _form("se.personnummer", r"(?:\d{2})?\d{6}[-+]\d{4}"),
    _form("dk.cpr", r"(?:0[1-9]|[12]\d|3[01])(?:0[1-9]|1[0-2])\d{2}-\d{4}", announced=True),
    _form("pl.pesel", r"\d{11}", announced=True),
    _form("de.idnr", r"\d{11}|\d{2} \d{3} \d{3} \d{3}|\d{3} \d{3} \d{3} \d{2}", announced=True),
    _form("nl.bsn", r"\d{9}|\d{4}\.\d{2}\.\d{3}", announced=True),
    _form("no.fodselsnummer", r"\d{6} ?\d{5}", announced=True),
    _form("in_.aadhaar", r"[2-9]\d{3} \d{4} \d{4}"),
    _form("in_.aadhaar", r"[2-9]\d{11}", announced=True),
    _form("in_.pan", r"[A-Z]{3}[ABCFGHJLPT][A-Z]\d{4}[A-Z]"),
    _form("ca.sin", r"\d{3}[- ]\d{3}[- ]\d{3}|\d{9}", announced=True),
    _form("au.tfn", r"\d{3} \d{3} \d{3}|\d{8,9}", announced=True),
    _form("gb.nhs", r"\d{3}[ -]?\d{3}[ -]?\d{4}", announced=True),
    _form("tr.tckimlik", r"[1-9]\d{10}", announced=True),
    _form("za.idnr", r"\d{13}", announced=True),
    _form("ro.cnp", r"[1-9]\d{12}", announced=True),
    _form("cz.rc", r"\d{6}/\d{3,4}"),
    _form("ie.pps", r"\d{7}[A-W][A-IW]?", announced=True),
)  # fmt: skip

_INSURANCE: Final = re.compile(
    r"(?<![\w-])(?!BG|GB|KN|NK|NT|TN|ZZ)[A-CEGHJ-PR-TW-Z][A-CEGHJ-NPR-TW-Z]([ -]?)\d{2}\1\d{2}\1\d{2}\1[A-D](?![\w-])"
)
"""The United Kingdom's national insurance number, which has no check digit."""

_WORDS: Final = re.compile(
    r"(?i)\b(?:ssn|social security|national (?:id|insurance|identity)|identity (?:number|card|no)|tax (?:id|number|file)|id number"
    r"|nino|nhs|tfn|sin|social insurance|bsn|burgerservicenummer|sofi|pesel|cpf|aadhaar|uidai|steuer[- ]?id\w*|steuer(?:liche )?identifikations\w*"
    r"|idnr|personalausweis\w*|rijksregister\w*|registre national|num[eé]ro national|f[oø]dselsnummer|personnummer|personnr|cpr|t\.?c\.?(?: kimlik)?(?: no)?|kimlik"
    r"|cnp|pps|ppsn|rsa id|id[- ]?nr|national\s?number|insee|s[eé]curit[eé] sociale|dni|nif|codice fiscale)\b"
)
_NEAR: Final = 40
"""Characters before a number within which a word counts as said about it."""


@cache
def _module(name: str) -> object:
    # Read when the first number of its form is met: together they take a quarter of a second, and most processes meet none.
    return import_module(f"stdnum.{name}")


def _valid(module: str, number: str) -> bool:
    try:
        return cast("bool", _module(module).is_valid(number))  # type: ignore[attr-defined]
    except (ValueError, IndexError, ArithmeticError):
        return False


def _near(ends: list[int], at: int) -> bool:
    """Whether one of ``ends``, which are in order, lies just before ``at``."""
    place = bisect_right(ends, at)
    return place > 0 and at - ends[place - 1] <= _NEAR


def find(text: str) -> Iterator[tuple[int, int]]:
    """Where such numbers stand in ``text``; may overlap."""
    words = [match.end() for match in _WORDS.finditer(text)]
    for form in FORMS:
        if form.announced and not words:
            continue
        for match in form.written.finditer(text):
            if form.announced and not _near(words, match.start()):
                continue
            if _valid(form.module, match[0].upper()):
                yield match.span()
    for match in _INSURANCE.finditer(text):
        yield match.span()
