"""An event as it may be kept: by its tenant's policy, in the words of any version of the contract. Done again it changes nothing."""

from dataclasses import dataclass
from typing import Any, Final, Literal

import orjson

from privacy.concern import plain, plain_label, stands
from privacy.fields import HOLDS_CONTENT, LISTS, NAMES, TEXTS
from privacy.redaction import Tally, redact
from privacy.rules import KEYS_ALONE, Rules
from privacy.sizes import MAX_CONTENT, MAX_LABEL, MAX_VALUE, cut, preview
from privacy.values import Cleaner
from schemas.content import CONTENT_MARK, DROPPED_MARK, MARKS, REDACTED_MARK, TRUNCATED_MARK
from schemas.events import MAX_ATTRIBUTES

_LONGEST_TEXT: Final = 8_192
_MOST: Final = 2**53


LargeContent = Literal["cut", "refer", "leave"]
"""What becomes of content that is too large: ``refer`` leaves its beginning and a name for all of it."""


@dataclass(frozen=True, slots=True)
class Large:
    """Content too large for an event, with its name in the object store."""

    reference: str
    text: str


@dataclass(frozen=True, slots=True)
class Treated:
    """What became of an event."""

    event: dict[str, Any]
    touched: bool
    """Whether it is another than before."""
    dropped: int
    """Values of content that were dropped."""
    dropped_bytes: int
    found: dict[str, int]
    """Findings replaced, by kind."""
    truncated: int
    large: tuple[Large, ...]
    """To be kept before the event is, or else ``sizes.without_reference``."""


class _Treatment:
    def __init__(self, rules: Rules, large: LargeContent) -> None:
        self.tally = Tally()
        self.cleaner = Cleaner(rules, self.tally)
        self.rules = rules
        self.large_content = large
        self.truncated = 0
        self.large: list[Large] = []
        self._usual = not rules.own

    def _cut(self, text: str, most: int) -> str:
        if len(text) <= most:
            return text
        self.truncated += 1
        return cut(text, most)

    def section(self, name: str, section: dict[str, Any]) -> dict[str, Any]:
        changed = dict(section)
        for field in TEXTS.get(name, ()):
            if isinstance(text := section.get(field), str):
                cleaned = text if self._usual and plain(text) else self.cleaner.text(text)
                changed[field] = self._cut(cleaned, _LONGEST_TEXT if field != "destination" else MAX_LABEL)
        for field in NAMES.get(name, ()):
            if isinstance(text := section.get(field), str) and not plain_label(text):
                changed[field] = self._cut(redact(text, KEYS_ALONE, self.tally), MAX_LABEL)
        if name in LISTS:
            several, fields = LISTS[name]
            if isinstance(items := section.get(several), list):
                changed[several] = [self._item(item, fields) if isinstance(item, dict) else item for item in items]
        return changed

    def _item(self, item: dict[str, Any], fields: tuple[str, ...]) -> dict[str, Any]:
        changed = dict(item)
        for field in fields:
            if isinstance(text := item.get(field), str):
                cleaned = text if self._usual and plain(text) else self.cleaner.labelled(text)
                changed[field] = self._cut(cleaned, _LONGEST_TEXT if field == "error" else MAX_LABEL)
        return changed

    def attributes(self, given: dict[str, Any], event_id: str, tenant: str) -> dict[str, Any]:
        kept: dict[str, Any] = {}
        marks: dict[str, Any] = {name: given[name] for name in MARKS if name in given}
        for name, value in given.items():
            if name in MARKS:
                continue
            if self._usual and stands(name, value) and name not in kept:
                kept[name] = value
                continue
            content = value.__class__ in HOLDS_CONTENT and self.cleaner.is_content(name)
            if content and self.rules.drops_content:
                self.cleaner.drop(value)
                continue
            called = self.cleaner.key(name)
            while called in kept or called in MARKS:
                called += "'"
            cleaned = self.cleaner.value(value, name)
            kept[called] = self._fitting(cleaned, f"{tenant}.{event_id}.{len(kept)}" if content else None)
        told = self._marked(marks)
        if len(kept) + len(told) > MAX_ATTRIBUTES:
            # Only an event with more attributes of its own than it should have: the marks must find room.
            over = len(kept) + len({*told, TRUNCATED_MARK}) - MAX_ATTRIBUTES
            for name in sorted(kept)[-over:]:
                del kept[name]
            self.truncated += over
            told = self._marked(marks)
        return kept | told

    def _fitting(self, value: Any, reference: str | None) -> Any:
        most = MAX_VALUE if reference is None else MAX_CONTENT
        if isinstance(value, str):
            text = value
        elif isinstance(value, dict | list):
            text = orjson.dumps(value).decode()
        else:
            return value
        if len(text) <= most or (reference is not None and self.large_content == "leave"):
            return value
        self.truncated += 1
        if reference is not None and self.large_content == "refer":
            self.large.append(Large(reference, text))
            return preview(text, reference)
        return cut(text, most)

    def _marked(self, marks: dict[str, Any]) -> dict[str, Any]:
        """The marks of what was done, now and before."""
        told: dict[str, Any] = {}
        cleaner = self.cleaner
        if marks.get(CONTENT_MARK) == "off" or cleaner.dropped:
            told[CONTENT_MARK] = "off"
        for name, more in (
            (DROPPED_MARK, cleaner.dropped_bytes),
            (REDACTED_MARK, self.tally.total),
            (TRUNCATED_MARK, self.truncated + self.tally.withheld),
        ):
            before = marks.get(name)
            count = more + (before if before.__class__ is int and 0 <= before <= _MOST else 0)
            if count:
                told[name] = count
        return told


def treat(event: dict[str, Any], rules: Rules, *, large: LargeContent = "cut") -> Treated:
    """``event``, as JSON's reader found it, without what ``rules`` do not let pass; sections that are none are left to the contract."""
    work = _Treatment(rules, large)
    treated: dict[str, Any] = {}
    given: dict[str, Any] = {}
    for name, value in event.items():
        if name == "attributes" and isinstance(value, dict):
            given = value
        elif isinstance(value, dict) and (name in TEXTS or name in NAMES or name in LISTS):
            treated[name] = work.section(name, value)
        else:
            treated[name] = value
    tenant = event.get("tenant")
    whose = tenant.get("tenant_id") if isinstance(tenant, dict) else None
    attributes = work.attributes(given, str(event.get("event_id")), str(whose))
    if attributes or "attributes" in event:
        treated["attributes"] = attributes
    cleaner = work.cleaner
    return Treated(
        treated,
        treated != event,
        cleaner.dropped,
        cleaner.dropped_bytes,
        dict(work.tally.found),
        work.truncated + work.tally.withheld,
        tuple(work.large),
    )
