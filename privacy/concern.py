"""Whether an event needs a closer look at all: what most events pay for privacy."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

from privacy.detectors import PREFILTER
from privacy.fields import CONTENT_KEYS, FOREIGN_CONTENT_KEYS, LISTS, NAMES, SECRET_NAME, TEXTS
from privacy.linear import compiled
from privacy.redaction import Tally, redact
from privacy.rules import KEYS_ALONE, STRICTEST
from privacy.sizes import MAX_KEY, MAX_LABEL, MAX_VALUE
from privacy.values import SMALLEST_CARD, Cleaner
from schemas.content import CONTENT_MARK, MARKS

_KEYS: Final = sorted({*CONTENT_KEYS, *FOREIGN_CONTENT_KEYS})
_CLOSER: Final = compiled(
    # What hides letters, what is nested, what might be content, what might be found.
    "|".join(
        (
            r"[^ -~]",
            r"[\\%&]",
            r"[:,\[][\[{]",
            rf'(?i:[".](?:{"|".join(name.replace(".", "[.]") for name in _KEYS)}))',
            PREFILTER,
        )
    )
)
_NO_LIST: Final[tuple[str, tuple[str, ...]]] = ("", ())
_SECTIONS: Final = {
    name: (NAMES.get(name, ()), TEXTS.get(name, ()), *LISTS.get(name, _NO_LIST)) for name in (*NAMES, *TEXTS, *LISTS)
}
_REMEMBERED: Final = 128
_FEW: Final = 16


@lru_cache(maxsize=8192)
def _plain_label(label: str) -> bool:
    return redact(label, KEYS_ALONE, Tally()) == label


def plain_label(label: str) -> bool:
    """Whether nothing is replaced in a label, nor cut from it. What is longer than the contract has it is not remembered."""
    return len(label) <= MAX_LABEL and _plain_label(label)


@lru_cache(maxsize=4096)
def _plain_short(text: str) -> bool:
    return _CLOSER.search(text) is None


def plain(text: Any) -> bool:
    """Whether ``text`` needs no closer look."""
    if text.__class__ is not str:
        return text is None
    return _plain_short(text) if len(text) <= _REMEMBERED else len(text) <= MAX_VALUE and _CLOSER.search(text) is None


@lru_cache(maxsize=8192)
def _plain_name(name: str) -> bool:
    """Whether an attribute of this name stays where its value is no text: ``gen_ai.request.max_tokens`` holds a number, and no token."""
    return name not in MARKS and redact(name, STRICTEST, Tally()) == name


@lru_cache(maxsize=8192)
def _names_texts(name: str) -> bool:
    """Whether a text below ``name`` is to be looked at for its own sake alone."""
    return _plain_name(name) and SECRET_NAME.search(name) is None and not Cleaner.is_content(name)


def stands(name: str, value: Any) -> bool:
    """Whether an attribute needs no closer look, where the tenant has no patterns of its own."""
    if len(name) > MAX_KEY:
        return False
    kind = value.__class__
    if kind is str:
        return _names_texts(name) and plain(value)
    if kind is int:
        return value < SMALLEST_CARD and (_plain_name(name) or (name in MARKS and name != CONTENT_MARK and value > 0))
    if kind is list:
        return (
            len(value) <= _FEW
            and _names_texts(name)
            and all(one.__class__ is str and len(one) <= _REMEMBERED and plain(one) for one in value)
        )
    return kind is not dict and _plain_name(name)


def concerns(event: Mapping[str, Any]) -> bool:
    """Whether privacy might change anything in ``event``, which keeps to the contract.

    For tenants without patterns of their own; theirs may match anything.
    """
    for section, found in event.items():
        if (fields := _SECTIONS.get(section)) is not None:
            labels, texts, several, inner = fields
            for name in labels:
                label = found.get(name)
                if label is not None and not plain_label(label):
                    return True
            for name in texts:
                if not plain(found.get(name)):
                    return True
            if several:
                for item in found.get(several) or ():
                    for name in inner:
                        if not plain(item.get(name)):
                            return True
    attributes = event.get("attributes") or {}
    return not all(stands(name, value) for name, value in attributes.items())
