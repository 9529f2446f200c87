"""Log records become ``log.emitted``; those of the GenAI conventions what they tell of."""

from collections.abc import Callable, Iterable, Iterator
from itertools import count
from typing import Any, Final

import orjson

from schemas.ids import derived_text
from sidecar.otlp.clipping import IDENTIFIER, NAME, TEXT, clipped
from sidecar.otlp.evaluations import EVALUATION, evaluation
from sidecar.otlp.exports import Export, Group
from sidecar.otlp.moments import moment
from sidecar.otlp.reading import LogLine
from sidecar.otlp.records import OBSERVED_BY, attributes
from sidecar.otlp.sources import UNKNOWN_AGENT, Source, Whose, whose
from sidecar.otlp.spans import sort

LEVELS: Final = ("debug", "debug", "info", "warning", "error", "critical")
"""Of severities 1–4, 5–8 and so on."""
_NAMES: Final = {
    "trace": "debug", "debug": "debug", "info": "info", "notice": "info", "warn": "warning", "warning": "warning",
    "error": "error", "err": "error", "critical": "critical", "fatal": "critical", "emergency": "critical",
}  # fmt: skip
MESSAGES: Final = {
    "gen_ai.system.message": "gen_ai.input.messages",
    "gen_ai.user.message": "gen_ai.input.messages",
    "gen_ai.assistant.message": "gen_ai.input.messages",
    "gen_ai.tool.message": "gen_ai.input.messages",
    "gen_ai.choice": "gen_ai.output.messages",
}
"""Events whose body is content, and where that belongs."""
_TRACE_ID: Final = 32
_SPAN_ID: Final = 16


def level_of(severity: int, text: str) -> str:
    """The level of a severity; where none is numbered, of its name."""
    if 1 <= severity <= 24:
        return LEVELS[(severity - 1) // 4]
    return _NAMES.get(text.strip().lower(), "info")


def _message(body: Any) -> str:
    if body is None:
        return ""
    text = body if isinstance(body, str) else orjson.dumps(body).decode()
    return clipped(text, TEXT) or ""


class LogReader:
    """Reads the logs of one source."""

    def __init__(self, source: Source, now: Callable[[], int]) -> None:
        self._source = source
        self._now = now

    def steps(self, groups: Iterable[Group[LogLine]], export: Export) -> Iterator[None]:
        """Reads a request into ``export``; yields after each record, so that others get their turn."""
        now = self._now()
        numbers = count()
        for group in groups:
            about = sort(group.resource)
            owner = whose(self._source, about.fields, about.extra)
            for line in group.items:
                yield
                export.accepted += 1
                self._add(export, owner, group.scope, line, line.at or now, next(numbers))

    @staticmethod
    def _add(export: Export, owner: Whose, scope: str, line: LogLine, at: int, number: int) -> None:
        told = sort(line.attributes)
        agent = owner.agent or UNKNOWN_AGENT
        run: dict[str, Any] = {"agent_id": agent}
        event: dict[str, Any] = {
            "event_version": "v1",
            "event_type": "log.emitted",
            "occurred_at": moment(at),
            "tenant": owner.tenant,
            "run": run,
        }
        traced = len(line.trace_id) == _TRACE_ID and line.trace_id.strip("0")
        run_id = owner.run_id or clipped(told.fields.get("run_id"), IDENTIFIER) or (line.trace_id if traced else None)
        if run_id:
            run["run_id"] = run_id
        if traced:
            event["trace"] = {"trace_id": line.trace_id}
            if len(line.span_id) == _SPAN_ID and line.span_id.strip("0"):
                event["trace"]["span_id"] = line.span_id
        extra = told.extra
        name = line.event_name or extra.pop("event.name", None)
        about = {**owner.about, **({"otel.scope.name": scope} if scope else {}), OBSERVED_BY: "otel"}
        if name == EVALUATION and (found := evaluation(told, str(number))) is not None:
            event |= {"event_type": "evaluation.completed", "evaluation": found}
        else:
            body = line.body
            if name in MESSAGES:
                extra.setdefault(MESSAGES[name], [body])
                body = None
            event["log"] = {"level": level_of(line.severity, line.level), "message": _message(name if body is None else body)}
            if (logger := clipped(scope, NAME)) is not None:
                event["log"]["logger"] = logger
            if (kind := clipped(told.fields.get("error_type"), NAME)) is not None:
                event["error"] = {"type": kind, "message": clipped(told.fields.get("error_message"), TEXT) or ""}
        if isinstance(name, str) and name:
            about["otel.event.name"] = name
        event["attributes"] = attributes({**about, **extra})
        said = orjson.dumps(event).decode()
        export.add(agent, event | {"event_id": derived_text("otel.log", str(number), said)})
