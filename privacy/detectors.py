"""What is found in a text, by kind. Linear in its length; the same text always gives the same."""

import re
from collections.abc import Callable, Iterator, Mapping
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from typing import Final

from privacy import checksums, national_ids, phones, secrets
from schemas.content import FindingKind

Span = tuple[int, int]

_LOCAL: Final = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.!#$%&'*+-=?^_`{|}~")
_LONGEST_LOCAL: Final = 64
_DOMAIN: Final = re.compile(r"(?:[^\W_](?:[\w-]{0,61}[^\W_])?\.){1,8}[^\W\d_]{2,24}(?![\w])", re.UNICODE)


def emails(text: str) -> Iterator[Span]:
    """Addresses with a domain of several labels, the last of letters."""
    at = text.find("@")
    while at >= 0:
        begin = at
        while (
            begin
            and at - begin < _LONGEST_LOCAL
            and (text[begin - 1] in _LOCAL or (text[begin - 1].isalpha() and text[begin - 1] > "\x7f"))
        ):
            begin -= 1
        while begin < at and text[begin] in ".'`{|}=!?#$%&*/":
            begin += 1
        domain = _DOMAIN.match(text, at + 1) if begin < at else None
        # An address of a repository is nobody's mailbox.
        if domain is not None and not (text[begin:at] == "git" and text[domain.end() : domain.end() + 1] == ":"):
            yield begin, domain.end()
        at = text.find("@", at + 1)


_CARD: Final = re.compile(
    r"(?<![\w+])(?<!\d[.,-])(?<!\d [ ])(?:\d{13,19}|\d{4}([ -])\d{4}\1\d{4}\1\d{1,7}|\d{4}([ -])\d{6}\2\d{4,5}|\d{4}[ -]{1,3}\d{4}[ -]{1,3}\d{4}[ -]{1,3}\d{4})(?![\w]|[.,-]\d)"
)


def cards(text: str) -> Iterator[Span]:
    """Payment cards: issuer, length and Luhn's check digit right."""
    for match in _CARD.finditer(text):
        if checksums.card("".join(filter(str.isdigit, match[0]))):
            yield match.span()


_IBAN: Final = re.compile(r"(?:(?<![A-Za-z0-9])|(?<=IBAN)|(?<=iban))([A-Za-z]{2})(?=\d{2}[ -]?[A-Za-z0-9])")


def ibans(text: str) -> Iterator[Span]:
    """Bank accounts: the country's length and the check digits right."""
    for match in _IBAN.finditer(text):
        length = checksums.IBAN_LENGTH.get(match[1].upper())
        if length is None:
            continue
        taken: list[str] = []
        at = match.start()
        while at < len(text) and len(taken) < length:
            letter = text[at]
            if letter.isascii() and letter.isalnum():
                taken.append(letter)
            elif letter not in " -\u00a0." or (at and text[at - 1] in " -\u00a0."):
                break
            at += 1
        if len(taken) == length and not (at < len(text) and text[at].isalnum()) and checksums.iban("".join(taken)):
            yield match.start(), at


_IPV4: Final = re.compile(r"(?<![\w.])(?<![A-Za-z_]/)(?<![-+~^<>])(?<!==)(?:\d{1,3}\.){3}\d{1,3}(?![\w]|\.\d|-[A-Za-z])")
_VERSIONED: Final = re.compile(
    r"(?i)(?:\bv|\bver|version|release|build|firmware|revision|section|chapter|§|schema|driver|oid|clause|article)s?[ :=]{0,3}\Z"
)
_IPV6: Final = re.compile(r"(?<![\w:.])(?:[0-9A-Fa-f]{0,4}:){2,7}(?:(?:\d{1,3}\.){3}\d{1,3}|[0-9A-Fa-f]{0,4})(?![\w:])")


def addresses(text: str) -> Iterator[Span]:
    """IP addresses that may be somebody's: loopback and the unspecified address are nobody's."""
    for match in _IPV4.finditer(text):
        try:
            four = IPv4Address(match[0])
        except AddressValueError:
            continue
        whole_net = match[0] in {"0.0.0.0", "255.255.255.255", "255.255.255.0"}  # noqa: S104 - nothing is bound to it
        if not four.is_loopback and not whole_net and not _VERSIONED.search(text[max(0, match.start() - 16) : match.start()]):
            yield match.span()
    for match in _IPV6.finditer(text):
        try:
            six = IPv6Address(match[0])
        except AddressValueError:
            continue
        # Of the short forms only those with enough in them: ``::`` joins the names of things in some languages.
        if not six.is_loopback and not six.is_unspecified and sum(letter != ":" for letter in match[0]) >= 4:
            yield match.span()


FINDERS: Final[Mapping[FindingKind, Callable[[str], Iterator[Span]]]] = {
    "KEY": secrets.find,
    "EMAIL": emails,
    "IBAN": ibans,
    "CARD": cards,
    "NATIONAL_ID": national_ids.find,
    "PHONE": phones.find,
    "IP": addresses,
}
"""In the order in which a place that is several is named."""

PREFILTER: Final = (
    rf"{secrets.PREFILTER}|@|[0-9](?:[ .()/-]{{0,3}}[0-9]){{6}}|[0-9]{{1,3}}\.[0-9]{{1,3}}\.[0-9]{{1,3}}\.[0-9]|[0-9A-Fa-f]?:[0-9A-Fa-f]{{0,4}}:[0-9A-Fa-f:]"
    r"|[A-Za-z]{2}[ -]?[0-9]{2}[ -]?[0-9]{2}[ -]?[0-9]{2}[ -]?[A-D]|[A-Za-z]{6}[0-9]{2}[A-Za-z]|[A-Z]{4}[0-9]{6}|[A-Za-z]{2}[0-9]{2}[ .-]?[A-Za-z0-9]{4}[ .-]?[0-9]{3}"
    r"|[0-9]{6}[A-FU-Y][0-9]{3}|[A-Z]{5}[0-9]{4}[A-Z]"
)
"""Where this matches nothing, none of the finders finds anything."""
