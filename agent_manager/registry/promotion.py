"""Whether a version may rise a stage: named checks over what was seen of it. Pure."""

from dataclasses import dataclass
from datetime import datetime

from agent_manager.healing.verdict import Fit, Verdict
from agent_manager.registry.releases import STAGES
from schemas.versions import CheckDone, PromoteParams, Release


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known of the version that runs now."""

    running: str | None
    """The version of the instance that runs; None when none does."""
    started_at: datetime | None
    verdict: Verdict
    error_rate: float | None
    score: float | None = None
    """Of the latest evaluation since the version was registered."""


def checks(release: Release, seen: Evidence, wanted: PromoteParams, now: datetime) -> tuple[CheckDone, ...]:
    """Every check, passed or not, in the order in which a person would ask."""
    done = [_stage(release, wanted), _running(release, seen), _healthy(seen, wanted, now), _errors(seen, wanted)]
    if wanted.min_score is not None:
        done.append(_evaluated(seen, wanted.suite, wanted.min_score))
    return tuple(done)


def _stage(release: Release, wanted: PromoteParams) -> CheckDone:
    ahead = STAGES.index(wanted.to) - STAGES.index(release.stage)
    message = f"{release.version} is at {release.stage}"
    if ahead > 1:
        message += f"; {STAGES[STAGES.index(release.stage) + 1]} comes before {wanted.to}"
    elif ahead < 1:
        message += f", which is not below {wanted.to}"
    return CheckDone(name="stage", passed=ahead == 1, message=message)


def _running(release: Release, seen: Evidence) -> CheckDone:
    runs = "nothing runs" if seen.running is None else f"{seen.running} runs"
    return CheckDone(name="running", passed=seen.running == release.version, message=runs)


def _healthy(seen: Evidence, wanted: PromoteParams, now: datetime) -> CheckDone:
    if not isinstance(seen.verdict, Fit):
        return CheckDone(name="health", passed=False, message=f"not HEALTHY: {seen.verdict.reason}")
    since = max(seen.verdict.since, seen.started_at or seen.verdict.since)
    lasted = max(0.0, (now - since).total_seconds())
    message = f"HEALTHY for {lasted:.0f} s; {wanted.healthy_for_s:g} s are asked for"
    return CheckDone(name="health", passed=lasted >= wanted.healthy_for_s, message=message, seen=round(lasted, 1))


def _errors(seen: Evidence, wanted: PromoteParams) -> CheckDone:
    rate = seen.error_rate or 0.0
    told = "no requests were seen" if seen.error_rate is None else f"{rate:.2%} of requests fail"
    message = f"{told}; at most {wanted.max_error_rate:.2%} may"
    return CheckDone(name="error budget", passed=rate <= wanted.max_error_rate, message=message, seen=seen.error_rate)


def _evaluated(seen: Evidence, suite: str | None, least: float) -> CheckDone:
    what = f"evaluation of {suite}" if suite else "evaluation"
    if seen.score is None:
        return CheckDone(name="evaluation", passed=False, message=f"no {what} since the version was registered")
    message = f"the latest {what} scored {seen.score:g}; {least:g} is asked for"
    return CheckDone(name="evaluation", passed=seen.score >= least, message=message, seen=seen.score)
