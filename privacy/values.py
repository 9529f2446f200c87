"""Values of JSON without findings: texts, texts that are JSON themselves, names of fields, numbers that are card numbers."""

import re
from dataclasses import dataclass
from typing import Any, Final

import orjson

from privacy import checksums
from privacy.fields import HOLDS_CONTENT, SECRET_NAME, is_content
from privacy.folding import folded
from privacy.redaction import Tally, redact
from privacy.rules import Rules
from privacy.sizes import MAX_DEPTH, MAX_KEY, cut

_JSON_IN_JSON: Final = 6
"""A text that is JSON is read as such so many times over; below that it is text."""
SMALLEST_CARD: Final = 10**13
"""Numbers above 16 digits are ids more often than cards, and those of 13 are moments."""
_BETWEEN_LABELS: Final = re.compile(r"([{},])")
_NOT_SECRET: Final = frozenset({"", "none", "null", "true", "false", "[key]"})


@dataclass(slots=True)
class Cleaner:
    """Goes through values by one tenant's rules and counts what it does."""

    rules: Rules
    tally: Tally
    dropped_bytes: int = 0
    dropped: int = 0

    def text(self, text: str, texts_in_texts: int = 0) -> str:
        """``text`` without findings; one that is JSON stays JSON."""
        start = text.lstrip()[:1]
        if start and start in '[{"' and texts_in_texts < _JSON_IN_JSON:
            try:
                inner = orjson.loads(text)
            except orjson.JSONDecodeError:
                inner = None
            if isinstance(inner, dict | list | str) and inner != text:
                cleaned = self.value(inner, "", 0, texts_in_texts + 1)
                return text if cleaned == inner else orjson.dumps(cleaned).decode()
        return redact(text, self.rules, self.tally)

    def labelled(self, text: str) -> str:
        """``text`` without findings, ``requests{path=/chat,token=…}`` perhaps: a label whose name says it is a secret has none either."""
        if "=" in text:
            text = "".join(self._label(part) for part in _BETWEEN_LABELS.split(text))
        return self.text(text)

    def _label(self, part: str) -> str:
        name, said, value = part.partition("=")
        if not said or value.casefold() in _NOT_SECRET:
            return part
        if SECRET_NAME.search(name) is None:
            # By itself: an address would take the sign before it for a part of itself.
            return f"{name}={self.text(value)}"
        self.tally.add("KEY")
        return f"{name}=[KEY]"

    def key(self, key: str) -> str:
        """The name of a field without findings."""
        return cut(redact(key, self.rules, self.tally), MAX_KEY)

    def value(self, value: Any, path: str, depth: int = 0, texts_in_texts: int = 0) -> Any:
        """``value`` of the attribute ``path`` without findings, and without content below it where that is dropped."""
        if isinstance(value, str):
            if SECRET_NAME.search(path) is not None and value.casefold() not in _NOT_SECRET:
                self.tally.add("KEY")
                return "[KEY]"
            return self.text(value, texts_in_texts)
        if isinstance(value, bool) or value is None or isinstance(value, float):
            return value
        if isinstance(value, int):
            return self._number(value)
        if depth > MAX_DEPTH:
            # Deeper than an event may be: nobody looks there, so nothing may stand there.
            self.dropped += 1
            return "[TRUNCATED]"
        if isinstance(value, list):
            return [self.value(item, path, depth + 1, texts_in_texts) for item in value]
        return self.fields(value, path, depth, texts_in_texts)

    def fields(self, fields: dict[str, Any], path: str, depth: int, texts_in_texts: int) -> dict[str, Any]:
        """The fields of an object below ``path``."""
        cleaned: dict[str, Any] = {}
        for name, item in fields.items():
            below = f"{path}.{name}" if path else name
            if self.rules.drops_content and item.__class__ in HOLDS_CONTENT and self.is_content(below, inside=True):
                self.drop(item)
                continue
            called = self.key(name)
            while called in cleaned:
                called += "'"
            cleaned[called] = self.value(item, below, depth + 1, texts_in_texts)
        return cleaned

    @staticmethod
    def is_content(path: str, *, inside: bool = False) -> bool:
        """Whether a field is content, however its name is spelled."""
        return is_content(path, inside=inside) or ((plain := folded(path)) is not None and is_content(plain.text, inside=inside))

    def drop(self, value: Any) -> None:
        """Counts content that goes."""
        self.dropped += 1
        self.dropped_bytes += len(value.encode()) if isinstance(value, str) else len(orjson.dumps(value))

    def _number(self, value: int) -> Any:
        if value >= SMALLEST_CARD and "CARD" in self.rules.kinds and len(digits := str(value)) <= 16 and checksums.card(digits):
            self.tally.add("CARD")
            return "[CARD]"
        return value
