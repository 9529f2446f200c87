"""Whether an event needs a closer look at all: what most events pay for privacy."""

from functools import lru_cache
from typing import Any, Final

from privacy.detectors import PREFILTER
from privacy.fields import CONTENT_KEYS, FOREIGN_CONTENT_KEYS, LISTS, NAMES, TEXTS
from privacy.linear import compiled
from privacy.redaction import Tally, redact
from privacy.rules import KEYS_ALONE
from privacy.sizes import MAX_VALUE

_EMPTY: Final = b'"attributes":{}}'
_ATTRIBUTES: Final = b',"attributes":'
_KEYS: Final = sorted({*CONTENT_KEYS, *FOREIGN_CONTENT_KEYS})
"""Whole, as a flat attribute is called: ``gen_ai.request.max_tokens`` is none, and every model call has such."""
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
_WITH_TEXT: Final = frozenset(TEXTS)
_LISTED: Final = tuple((section, several, names) for section, (several, names) in LISTS.items())
_LABELLED: Final = tuple((section, names) for section, names in NAMES.items())
_REMEMBERED: Final = 128


@lru_cache(maxsize=8192)
def _plain_label(label: str) -> bool:
    return redact(label, KEYS_ALONE, Tally()) == label


@lru_cache(maxsize=4096)
def _plain_short(text: str) -> bool:
    return _CLOSER.search(text) is None


def _plain(text: Any) -> bool:
    """Whether ``text`` needs no closer look."""
    if text.__class__ is not str:
        return text is None
    return _plain_short(text) if len(text) <= _REMEMBERED else len(text) <= MAX_VALUE and _CLOSER.search(text) is None


def concerns(event: dict[str, Any], attributes: bytes) -> bool:
    """Whether privacy might change anything in ``event``. ``attributes``: JSON that ends with them, flat, as the contract's last field.

    For tenants without patterns of their own; theirs may match anything.
    """
    for section, names in _LABELLED:
        if (labelled := event.get(section)) is not None:
            for name in names:
                label = labelled.get(name)
                if label is not None and not _plain_label(label):
                    return True
    if not _WITH_TEXT.isdisjoint(event):
        for section in _WITH_TEXT:
            if (found := event.get(section)) is not None:
                for name in TEXTS[section]:
                    if not _plain(found.get(name)):
                        return True
    for section, several, names in _LISTED:
        if (found := event.get(section)) is not None:
            for item in found.get(several) or ():
                for name in names:
                    if not _plain(item.get(name)):
                        return True
    if attributes.endswith(_EMPTY):
        return False
    start = attributes.find(_ATTRIBUTES)
    return len(attributes) - start > MAX_VALUE or _CLOSER.search(attributes[start + len(_ATTRIBUTES) + 1 :]) is not None
