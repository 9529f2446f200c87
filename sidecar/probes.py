"""What a row of probe answers means, and how a probe is written on a command line."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from pydantic import ValidationError

from schemas.errors import field_errors
from schemas.sections import Check
from schemas.state import ProbeConfig

_OPTIONS: Final[Mapping[str, str]] = {
    "interval": "interval_s",
    "timeout": "timeout_s",
    "failures": "failure_threshold",
    "successes": "success_threshold",
}
_OPTION_LIST: Final = re.compile(r"\w+=[^,=]*(,\w+=[^,=]*)*")


class InvalidProbeError(ValueError):
    """A probe is not written as one. Trying again does not help."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What one probe met."""

    ok: bool
    latency_ms: float | None = None
    error: str | None = None
    at: float = 0.0
    """When it was known, in monotonic seconds."""


Verdict = Literal["starting", "passing", "failing"]


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a probe stands after its answers so far. ``starting`` until it passed once or its patience ended."""

    verdict: Verdict = "starting"
    failures: int = 0
    """In a row."""
    successes: int = 0
    """In a row."""
    last: Answer | None = None
    good_at: float | None = None
    """When it last passed."""
    failing_since: float | None = None
    """The last sign of life before the present failures in a row; where there was none, when the first was asked."""


@dataclass(frozen=True, slots=True)
class Health:
    """All probes together."""

    status: Literal["HEALTHY", "UNHEALTHY"]
    reason: str | None
    starting: bool = False
    """Not healthy only because it is still coming up."""


def judge(standing: Standing, answer: Answer, config: ProbeConfig, *, in_grace: bool) -> Standing:
    """The standing after ``answer``. During the grace of a start failures are counted but condemn nothing."""
    if answer.ok:
        successes = standing.successes + 1
        passes = standing.verdict == "passing" or successes >= config.success_threshold
        return Standing("passing" if passes else standing.verdict, 0, successes, answer, answer.at)
    failures = standing.failures + 1
    excused = failures < config.failure_threshold or (standing.verdict == "starting" and in_grace)
    since = standing.failing_since
    if since is None:
        since = standing.good_at if standing.good_at is not None else answer.at - (answer.latency_ms or 0.0) / 1000
    return Standing(standing.verdict if excused else "failing", failures, 0, answer, standing.good_at, since)


def failing_since(standings: Iterable[Standing]) -> float | None:
    """Since when something is wrong, of the probes that condemn the agent; None where none does."""
    return min(
        (one.failing_since for one in standings if one.verdict == "failing" and one.failing_since is not None), default=None
    )


def overall(standings: Mapping[str, Standing], ended: str | None) -> Health:
    """Healthy if every probe passes; ``ended`` says how the agent's process ended, if it did.

    An agent is ``starting`` until every probe passed once; it is up to the reader to be patient with that.
    """
    if ended is not None:
        return Health("UNHEALTHY", f"agent process ended: {ended}")
    for name, standing in standings.items():
        if standing.verdict == "failing":
            error = standing.last.error if standing.last is not None else None
            return Health("UNHEALTHY", f"probe {name} failed {standing.failures} times: {error or 'recovering'}")
    waiting = [name for name, standing in standings.items() if standing.verdict == "starting"]
    if waiting:
        return Health("UNHEALTHY", f"starting: waiting for {', '.join(waiting)}", starting=True)
    return Health("HEALTHY", None)


def name_of(config: ProbeConfig) -> str:
    """``http /health``, ``tcp`` or ``process``."""
    return f"http {config.path}" if config.kind == "http" else config.kind


def check(config: ProbeConfig, standing: Standing) -> Check:
    """The latest answer as it is reported."""
    last = standing.last
    return Check(
        name=name_of(config),
        kind=config.kind,
        ok=last is not None and last.ok,
        consecutive_failures=standing.failures,
        latency_ms=None if last is None else last.latency_ms,
        error="not asked yet" if last is None else last.error,
    )


def parse(text: str) -> ProbeConfig:
    """The probe ``text`` asks for; raises InvalidProbeError.

    ``http[:/path][:interval=1,timeout=2,failures=3,successes=1]``, ``tcp[:…]``, ``process[:…]``, or a ProbeConfig as JSON.
    """
    try:
        if text.lstrip().startswith("{"):
            return ProbeConfig.model_validate_json(text)
        kind, _, rest = text.partition(":")
        path, separator, options = rest.rpartition(":")
        if not _OPTION_LIST.fullmatch(options):
            path, options = f"{path}{separator}{options}", ""
        given: dict[str, object] = {"kind": kind}
        if path:
            if kind != "http" or not path.startswith("/"):
                raise InvalidProbeError(f"{text!r}: only http takes a path, and it begins with /")
            given["path"] = path
        for option in filter(None, options.split(",")):
            name, _, value = option.partition("=")
            field = _OPTIONS.get(name, name)
            if field not in _OPTIONS.values():
                raise InvalidProbeError(f"{text!r}: unknown option {name!r}; there are {', '.join(_OPTIONS)}")
            given[field] = int(value) if field.endswith("threshold") else float(value)
        return ProbeConfig.model_validate(given)
    except ValidationError as error:
        first = field_errors(error)[0]
        raise InvalidProbeError(f"{text!r}: {first.told(first.loc.removeprefix('$.'))}") from error
    except InvalidProbeError:
        raise
    except ValueError as error:
        raise InvalidProbeError(f"{text!r}: {error}") from error
