"""The parameters of a fault, checked before anything is sent. Pure."""

from typing import Any

from pydantic import JsonValue, ValidationError

from agent_manager.cli.failure import CommandFailedError
from agent_manager.cli.when import NotATimeError, seconds
from schemas.commands import FaultParams
from schemas.errors import field_errors

_DEMO_LATENCY_MS = 2500.0


def fault_params(*, kind: str, duration: str, **given: Any) -> dict[str, JsonValue]:
    """``params`` of ``inject_fault``; raises CommandFailedError naming the option that is wrong."""
    try:
        duration_s = seconds(duration)
    except NotATimeError as error:
        raise CommandFailedError(f"--duration: {error}", code=2) from error
    if kind == "latency" and given.get("latency_ms") is None:
        given["latency_ms"] = _DEMO_LATENCY_MS
    try:
        params = FaultParams(kind=kind, duration_s=duration_s, **given)  # type: ignore[arg-type]
    except ValidationError as error:
        problems = "; ".join(
            found.told(
                f"--{found.loc.removeprefix('$.').replace('_', '-').replace('duration-s', 'duration').replace('after-s', 'after')}"
            )
            for found in field_errors(error)
        )
        raise CommandFailedError(problems, code=2) from error
    return params.model_dump(mode="json", exclude_none=True)
