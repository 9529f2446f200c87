"""Alert rules: read from YAML, checked field by field."""

import re
from dataclasses import dataclass
from datetime import timedelta
from importlib.resources import files
from pathlib import Path
from string import Formatter
from typing import Annotated, Any, Final, Literal, Self

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from processors.alerts.metrics import METRICS, Measured, Metric, Scope
from schemas.errors import shown
from schemas.model import Finite, Token
from schemas.sections import Severity
from schemas.wording import said

Comparison = Literal[">", ">=", "<", "<=", "=="]

TEMPLATE_FIELDS: Final = frozenset({"rule", "metric", "tenant_id", "agent_id", "stream", "value", "threshold", "reason"})
"""What a summary may name in braces."""

_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d)")
_UNITS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}


class InvalidRulesError(ValueError):
    """A rules file cannot be used; the message names file, rule and field. Trying again does not help."""


def duration(value: Any) -> timedelta:
    """``500ms``, ``5s``, ``10m``, ``1h``, ``2d``, or a number of seconds."""
    if isinstance(value, timedelta):
        return value
    if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0:
        return timedelta(seconds=value)
    found = _DURATION.fullmatch(value.strip()) if isinstance(value, str) else None
    if found is None:
        msg = "must be a duration such as 500ms, 5s, 10m, 1h or 2d"
        raise ValueError(msg)
    return timedelta(seconds=float(found[1]) * _UNITS[found[2]])


Duration = Annotated[timedelta, BeforeValidator(duration)]


class Rule(BaseModel):
    """One condition that must not last, and how loudly it is told."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True, use_attribute_docstrings=True)

    name: Token
    metric: Metric
    comparison: Comparison = ">"
    threshold: Finite
    for_: Duration = Field(default=timedelta(0), alias="for", le=timedelta(days=7))
    """How long the condition must hold before the alert fires."""
    window: Duration | None = Field(default=None, ge=timedelta(seconds=1), le=timedelta(days=7))
    """Over how long is counted; for counted metrics, and only for them."""
    scope: Scope | None = None
    """One alert an agent, or one a tenant; what the metric allows."""
    severity: Severity
    summary: str = Field(default="{metric} is {value}, {comparison_text} {threshold}", max_length=1000)
    """What people read; may name ``{agent_id}``, ``{value:.0f}`` and the like."""
    labels: dict[str, str] = {}

    @property
    def measured(self) -> Measured:
        """How its metric comes about."""
        return METRICS[self.metric]

    @property
    def whose(self) -> Scope:
        """The scope given, or the metric's own."""
        return self.scope or self.measured.scopes[0]

    @model_validator(mode="after")
    def _fits(self) -> Self:
        measured = self.measured
        if measured.counted and self.window is None:
            msg = f"window: {self.metric} is counted, so the rule needs a window, such as 10m"
            raise ValueError(msg)
        if not measured.counted and self.window is not None:
            msg = f"window: {self.metric} is not counted; leave the window out"
            raise ValueError(msg)
        if self.scope is not None and self.scope not in measured.scopes:
            msg = f"scope: {self.metric} is measured per {' or '.join(measured.scopes)}"
            raise ValueError(msg)
        self._check_summary()
        return self

    def _check_summary(self) -> None:
        try:
            named = {field for _, field, _, _ in Formatter().parse(self.summary) if field is not None}
            unknown = sorted(named - TEMPLATE_FIELDS - {"comparison_text"})
            if unknown:
                msg = f"summary: unknown {{{unknown[0]}}}; it may name {', '.join(sorted(TEMPLATE_FIELDS))}"
                raise ValueError(msg)
            self.told({}, 1.5)
        except (ValueError, KeyError, IndexError, AttributeError) as error:
            text = str(error)
            msg = text if text.startswith("summary:") else f"summary: {text}"
            raise ValueError(msg) from error

    def told(self, about: dict[str, str], value: float | None) -> str:
        """The summary for one alert."""
        fields: dict[str, Any] = dict.fromkeys(TEMPLATE_FIELDS, "") | {
            "rule": self.name,
            "metric": self.metric,
            "comparison_text": {">": "above", ">=": "at or above", "<": "below", "<=": "at or below", "==": "exactly"}[
                self.comparison
            ],
            "threshold": self.threshold,
        }
        fields |= about | {"value": float("nan") if value is None else value}
        return Formatter().vformat(self.summary, (), fields)[:8192]

    def holds(self, value: float | None) -> bool:
        """Whether ``value`` meets the condition; what is unknown does not."""
        if value is None:
            return False
        match self.comparison:
            case ">":
                return value > self.threshold
            case ">=":
                return value >= self.threshold
            case "<":
                return value < self.threshold
            case "<=":
                return value <= self.threshold
            case "==":
                return value == self.threshold


@dataclass(frozen=True, slots=True)
class Rules:
    """A checked rules file."""

    source: str
    rules: tuple[Rule, ...]


def read_rules(text: str, source: str) -> Rules:
    """The rules in ``text``; raises InvalidRulesError that names every wrong field."""
    try:
        document = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise InvalidRulesError(f"{source}: not valid YAML: {error}") from error
    if not isinstance(document, dict) or not isinstance(document.get("rules"), list) or set(document) - {"rules"}:
        raise InvalidRulesError(f"{source}: must be a mapping with one key, 'rules', a list of rules")
    rules: list[Rule] = []
    problems: list[str] = []
    for number, entry in enumerate(document["rules"], 1):
        name = entry.get("name") if isinstance(entry, dict) else None
        where = f"rule {name!r}" if isinstance(name, str) else f"rule {number}"
        try:
            rule = Rule.model_validate(entry)
        except ValidationError as error:
            problems += [f"{where}: {_problem(item)}" for item in error.errors(include_url=False)]
            continue
        if any(rule.name == other.name for other in rules):
            problems.append(f"{where}: name: is used twice")
        rules.append(rule)
    if problems:
        raise InvalidRulesError(f"{source} cannot be used:\n  " + "\n  ".join(problems))
    return Rules(source, tuple(rules))


def _problem(item: Any) -> str:
    loc, message = item["loc"], said(item)
    if not loc:
        return message
    given = "" if item["type"] == "missing" else f" (found {shown(item.get('input'), str(loc[-1]))})"
    return f"{'.'.join(str(part) for part in loc)}: {message}{given}"


def load_rules(path: Path | None) -> Rules:
    """The rules of ``path``, or the ones shipped; raises InvalidRulesError."""
    if path is None:
        return read_rules((files("processors.alerts") / "default_rules.yaml").read_text("utf-8"), "default_rules.yaml")
    try:
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRulesError(f"{path}: cannot be read: {error}. Set AGENTOPS_RULES to a readable file, or unset it") from error
    return read_rules(text, str(path))
