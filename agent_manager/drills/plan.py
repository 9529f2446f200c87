"""What a drill does: a YAML file of steps, judged by field before anything is injected."""

from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from agent_manager.cli.when import NotATimeError, seconds
from schemas.errors import field_errors
from schemas.model import Name, Text, Token
from schemas.sections import AgentStatus, FaultKind, HealthStatus

LIBRARY: Final = Path(__file__).parent / "library"
BUILTIN: Final = "builtin/"


class DrillError(ValueError):
    """A drill's file cannot be used. The message names field, value and what to do; trying again helps after it was mended."""


def _span(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    try:
        return seconds(value)
    except NotATimeError as error:
        raise ValueError(str(error)) from error


Span = Annotated[float, BeforeValidator(_span), Field(gt=0, le=86_400)]
"""Seconds, or ``30s``, ``2m``."""


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Targets(_Strict):
    """Whom it strikes, of the agents that are managed."""

    agent: Token | None = None
    tag: Name | None = None
    percent: Annotated[float, Field(gt=0, le=100)] = 100
    most: Annotated[int, Field(ge=1, le=1000)] = 1
    seed: Annotated[int, Field(ge=0)] = 1


class Inject(_Strict):
    """A fault, as ``agentops faults inject`` takes it."""

    fault: FaultKind
    duration: Span = 60.0
    latency_ms: float | None = None
    jitter_ms: float | None = None
    rate: float | None = None
    status_code: int | None = None
    retry_after_s: float | None = None
    intensity: float | None = None
    seed: int | None = None


class Condition(_Strict):
    """One thing that is to become, or to stay, true of every target."""

    alert: Token | None = None
    """An alert of this rule fires, after the last injection."""
    health: HealthStatus | None = None
    status: AgentStatus | None = None
    healed: Literal[True] | None = None
    """An unhealthy spell noticed after the last injection is over, and the agent is HEALTHY."""
    fault: FaultKind | None = None
    """Its sidecar says that this fault is in force."""
    no_fault: Literal[True] | None = None
    """Its sidecar says that none is."""
    stays: HealthStatus | None = None
    """Its health is this, for the whole of ``within``."""
    within: Span = 30.0

    @model_validator(mode="after")
    def _one(self) -> Self:
        given = [name for name in type(self).model_fields if name != "within" and getattr(self, name) is not None]
        if len(given) != 1:
            msg = f"name one condition (alert, health, status, healed, fault, no_fault or stays), not {len(given)}"
            raise ValueError(msg)
        return self

    @property
    def told(self) -> str:
        """In words."""
        name = next(name for name in type(self).model_fields if name != "within" and getattr(self, name) is not None)
        value = getattr(self, name)
        words = {"healed": "it is healed", "no_fault": "no fault is in force"}
        if name == "stays":
            return f"stays {value} for {self.within:g} s"
        return words.get(name) or f"{name} {value}"


class Step(_Strict):
    """One of: ``inject``, ``wait_for`` (else the drill ends), ``expect`` (scored), ``clear``, ``pause``."""

    inject: Inject | None = None
    wait_for: Condition | None = None
    expect: Condition | None = None
    clear: Literal["all"] | FaultKind | None = None
    pause: Span | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        given = [name for name in type(self).model_fields if getattr(self, name) is not None]
        if len(given) != 1:
            msg = f"name one of inject, wait_for, expect, clear, pause, not {', '.join(given) or 'none'}"
            raise ValueError(msg)
        return self


class Abort(_Strict):
    """When to stop at once, faults cleared."""

    unhealthy_share: Annotated[float, Field(gt=0, le=1)] | None = None
    """Of the agents that are no targets."""
    spend_usd: Annotated[float, Field(gt=0)] | None = None
    after: Span = 300.0


class AtEnd(_Strict):
    """What is looked at when the steps are over."""

    no_event_lost: bool = True
    """The audit of everything since the drill began finds no error, and no spool gave anything up."""
    no_wrong_restart: bool = True
    """No agent that is no target was restarted."""
    most_restarts: Annotated[int, Field(ge=0)] | None = None
    """Of the targets together."""
    most_spend_usd: Annotated[float, Field(ge=0)] | None = None


class Drill(_Strict):
    """A whole drill."""

    name: Token
    description: Text = ""
    targets: Targets = Targets()
    steps: Annotated[tuple[Step, ...], Field(min_length=1, max_length=200)]
    abort: Abort = Abort()
    finally_: Annotated[AtEnd, Field(alias="finally")] = AtEnd()


def parse(text: str, source: str) -> Drill:
    """The drill in ``text``; raises DrillError naming every wrong field of ``source``."""
    try:
        content = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}: " if mark is not None else ""
        raise DrillError(f"{source} is not YAML: {where}{getattr(error, 'problem', error)}. Mend the syntax there") from error
    if not isinstance(content, dict):
        raise DrillError(f"{source} must be keys and values. Begin with name and steps")
    try:
        return Drill.model_validate(content)
    except ValidationError as error:
        told = "; ".join(one.told(one.loc.removeprefix("$.")) for one in field_errors(error)[:10])
        raise DrillError(f"{source}: {told}. See docs/drills.md for what may stand there") from error


def builtin() -> tuple[str, ...]:
    """The names of the library."""
    return tuple(sorted(path.stem for path in LIBRARY.glob("*.yaml")))


def load(name: str) -> tuple[Drill, ...]:
    """The drill in a file, or ``builtin/<name>``, or all of ``builtin/all``; raises DrillError."""
    if name.startswith(BUILTIN):
        wanted = name.removeprefix(BUILTIN)
        known = builtin()
        if wanted != "all" and wanted not in known:
            raise DrillError(f"there is no drill {name!r}. There are: {', '.join(BUILTIN + one for one in (*known, 'all'))}")
        chosen = known if wanted == "all" else (wanted,)
        return tuple(parse((LIBRARY / f"{one}.yaml").read_text(encoding="utf-8"), f"{BUILTIN}{one}") for one in chosen)
    path = Path(name)
    try:
        return (parse(path.read_text(encoding="utf-8"), name),)
    except OSError as error:
        raise DrillError(
            f"{name} cannot be read: {error.strerror}. See `agentops drill list` for those that come along"
        ) from error
    except UnicodeDecodeError as error:
        raise DrillError(f"{name} is not UTF-8 text. Save it as such") from error
