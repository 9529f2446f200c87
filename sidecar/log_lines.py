"""An agent's output as log entries: whole lines, a traceback as one, each with its level and ids where it tells them. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

import orjson

Level = Literal["debug", "info", "warning", "error", "critical"]

LEVELS: Final[tuple[Level, ...]] = ("debug", "info", "warning", "error", "critical")
MOST_CHARACTERS: Final = 8_000
"""Of one entry; the contract takes 8,192."""
MOST_LINES: Final = 200
"""Of one entry."""
_MOST_PENDING_BYTES: Final = 65_536

_WORDS: Final[Mapping[str, Level]] = {
    "trace": "debug", "debug": "debug", "dbg": "debug", "verbose": "debug", "info": "info", "information": "info", "notice": "info",
    "log": "info", "warn": "warning", "warning": "warning", "wrn": "warning", "error": "error", "err": "error", "severe": "error",
    "exception": "error", "critical": "critical", "crit": "critical", "fatal": "critical", "panic": "critical",
    "alert": "critical", "emergency": "critical",
}  # fmt: skip
_KLOG: Final[Mapping[str, Level]] = {"I": "info", "W": "warning", "E": "error", "F": "critical"}

_NAMES: Final = "|".join(sorted(_WORDS, key=len, reverse=True))
_COLOURS: Final = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_STDLIB: Final = re.compile(rf"(?P<level>{_NAMES}):(?:(?P<logger>[\w.\-]+):)?\s*(?P<message>.*)", re.IGNORECASE | re.DOTALL)
_BRACKETED: Final = re.compile(rf"\[\s*(?P<level>{_NAMES})\s*\]:?\s*(?P<message>.*)", re.IGNORECASE | re.DOTALL)
_DATED: Final = re.compile(
    r"[\[(]?\d{4}[-/]\d\d[-/]\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d+)?\s?(?:Z|[+-]\d\d:?\d\d)?[\])]?[\s|:\-]*(?P<rest>.*)", re.DOTALL
)
_AFTER_DATE: Final = re.compile(
    rf"[\[(]?\s*(?P<level>{_NAMES})\s*[\])]?(?=[\s:|\-]|$)[\s:|\-]*(?P<message>.*)", re.IGNORECASE | re.DOTALL
)
_LOGGER_FIRST: Final = re.compile(
    rf"(?P<logger>[\w.\-]+)\s+[-|:\s]*[\[(]?(?P<level>{_NAMES})[\])]?[\s:|\-]+(?P<message>.*)", re.IGNORECASE | re.DOTALL
)
_KLOG_LINE: Final = re.compile(
    r"(?P<level>[IWEF])\d{4} \d\d:\d\d:\d\d\.\d+\s+\d+ (?P<logger>[\w.\-]+:\d+)\] (?P<message>.*)", re.DOTALL
)
_TRACEPARENT: Final = re.compile(r"\b00-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}\b")
_TRACE_WORD: Final = re.compile(r"\btrace[_.\-]?id[=: \"']+([0-9a-f]{16,32})\b", re.IGNORECASE)
_SPAN_WORD: Final = re.compile(r"\bspan[_.\-]?id[=: \"']+([0-9a-f]{16})\b", re.IGNORECASE)

_LEVEL_KEYS: Final = ("level", "levelname", "severity", "log.level", "lvl", "severity_text")
_MESSAGE_KEYS: Final = ("message", "msg", "event", "text", "body")
_LOGGER_KEYS: Final = ("logger", "logger_name", "log.logger", "name")
_TRACE_KEYS: Final = ("trace_id", "traceId", "trace.id", "dd.trace_id", "otelTraceID", "traceid")
_SPAN_KEYS: Final = ("span_id", "spanId", "span.id", "dd.span_id", "otelSpanID", "spanid")
_TRACEBACK: Final = "Traceback (most recent call last):"
_BETWEEN: Final = ("During handling of the above exception", "The above exception was the direct cause")


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing the agent said."""

    level: Level
    message: str
    logger: str | None = None
    trace_id: str | None = None
    span_id: str | None = None
    run_id: str | None = None


class Lines:
    """Bytes in, entries' texts out. Bounded: a line that goes on for 64 kB is cut there, an entry has at most 200 lines."""

    def __init__(self) -> None:
        self._rest = b""
        self._skipping = False
        self._entry: list[str] = []
        self._traceback = False

    def feed(self, data: bytes) -> list[str]:
        """The texts that are complete now; the last one may still go on."""
        found: list[str] = []
        *whole, self._rest = (self._rest + data).split(b"\n")
        for raw in whole:
            if self._skipping:
                # The rest of a line that was cut.
                self._skipping = False
                continue
            found += self._line(raw)
        if len(self._rest) > _MOST_PENDING_BYTES:
            if not self._skipping:
                found += self._line(self._rest[:_MOST_PENDING_BYTES])
            self._rest, self._skipping = b"", True
        return found

    @property
    def pending(self) -> bool:
        """Whether an entry waits for lines that may belong to it."""
        return bool(self._entry or self._rest)

    def flush(self) -> list[str]:
        """What waits, as nothing more comes for now."""
        found = self._line(self._rest) if self._rest and not self._skipping else []
        self._rest = b""
        return [*found, *self._close()]

    def _line(self, raw: bytes) -> list[str]:
        line = _COLOURS.sub("", raw.decode("utf-8", "replace")).replace("\x00", "�").rstrip()
        if not line:
            # Between chained tracebacks stand empty lines.
            return []
        if self._entry and self._goes_on(line):
            if len(self._entry) < MOST_LINES:
                self._entry.append(line)
            return []
        done = self._close()
        self._entry = [line]
        self._traceback = line.startswith(_TRACEBACK)
        return done

    def _goes_on(self, line: str) -> bool:
        if line.startswith(_TRACEBACK):
            # It belongs to a line that complains, or to the traceback it follows; not to what was printed before by chance.
            self._traceback = _TRACEBACK in "\n".join(self._entry) or read(self._entry[0]).level not in {"debug", "info"}
            return self._traceback
        if line[0] in " \t" or line.startswith(("Caused by: ", *_BETWEEN)):
            return True
        if self._traceback:
            # The exception itself ends it; its own further lines cannot be told from what is printed next.
            self._traceback = False
            return True
        return False

    def _close(self) -> list[str]:
        entry, self._entry, self._traceback = self._entry, [], False
        return ["\n".join(entry)] if entry else []


def level_of(value: Any) -> Level | None:
    """A level by its name, or by the number pino and bunyan give it."""
    if isinstance(value, str):
        return _WORDS.get(value.strip().lower())
    if isinstance(value, int) and not isinstance(value, bool):
        return LEVELS[max(0, min(4, (value - 11) // 10))] if 0 < value <= 60 else None
    return None


def read(text: str) -> Entry:
    """What ``text`` says: level ``error`` where it holds a traceback, ``info`` where nothing tells."""
    if text.startswith("{") and (found := _json(text)) is not None:
        return found
    level, logger, message = _plain(text)
    if level is None:
        level = "error" if _TRACEBACK in text else "info"
    trace, span = _ids(text)
    return Entry(level, cut(message), logger, trace, span)


def cut(message: str) -> str:
    """``message``, at most 8,000 characters, the end telling how many are missing."""
    if len(message) <= MOST_CHARACTERS:
        return message
    return f"{message[:MOST_CHARACTERS]}… ({len(message) - MOST_CHARACTERS:,} more characters)"


def _plain(text: str) -> tuple[Level | None, str | None, str]:
    if found := _KLOG_LINE.match(text):
        return _KLOG[found["level"]], found["logger"], found["message"]
    dated = _DATED.match(text)
    rest = dated["rest"] if dated else text
    patterns = (_AFTER_DATE, _LOGGER_FIRST) if dated else (_STDLIB, _BRACKETED)
    for pattern in patterns:
        if found := pattern.match(rest):
            named = found.groupdict()
            return _WORDS[named["level"].lower()], named.get("logger"), named["message"] or rest
    return None, None, rest or text


def _ids(text: str) -> tuple[str | None, str | None]:
    if found := _TRACEPARENT.search(text):
        return found[1], found[2]
    trace, span = _TRACE_WORD.search(text), _SPAN_WORD.search(text)
    return (trace[1] if trace else None), (span[1] if span and trace else None)


def _json(text: str) -> Entry | None:
    try:
        said = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    if not isinstance(said, dict):
        return None

    def told(keys: tuple[str, ...], most: int = 128) -> str | None:
        for key in keys:
            value = said.get(key)
            if value is None and "." in key:
                outer, _, inner = key.partition(".")
                value = said[outer].get(inner) if isinstance(said.get(outer), dict) else None
            if isinstance(value, str | int) and not isinstance(value, bool) and str(value):
                return str(value).replace("\x00", "")[:most] or None
        return None

    level = next((found for key in _LEVEL_KEYS if (found := level_of(_at(said, key))) is not None), None)
    message = told(_MESSAGE_KEYS, 1_000_000)
    trace, span = told(_TRACE_KEYS), told(_SPAN_KEYS)
    if trace is None and isinstance(parent := said.get("traceparent"), str):
        trace, span = _ids(parent)
    failed = told(("exception", "exc_info", "stack", "stacktrace"), 1_000_000)
    if message is not None and failed is not None and failed not in {"True", "1"}:
        message = f"{message}\n{failed}"
    return Entry(
        level or ("error" if failed else "info"), cut(message or text), told(_LOGGER_KEYS, 256), trace, span if trace else None,
        told(("run_id", "runId", "agentops.run_id")),
    )  # fmt: skip


def _at(said: Mapping[str, Any], key: str) -> Any:
    if key in said or "." not in key:
        return said.get(key)
    outer, _, inner = key.partition(".")
    return said[outer].get(inner) if isinstance(said.get(outer), dict) else None
