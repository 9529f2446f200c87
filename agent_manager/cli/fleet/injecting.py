"""The parameters of a fault and whom it is for, checked before anything is sent. Pure."""

import math
import random
from typing import Any

from pydantic import JsonValue, ValidationError

from agent_manager.cli.failure import CommandFailedError
from agent_manager.cli.fleet.rows import Fleet
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
    if (later := given.pop("later", None)) is not None:
        try:
            given["begins_in_s"] = seconds(later)
        except NotATimeError as error:
            raise CommandFailedError(f"--in: {error}", code=2) from error
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


def chosen(fleet: Fleet, *, tenant: str | None, tag: str | None, percent: float, seed: int | None) -> list[str]:
    """The keys of the agents a fault is spread over: with the tag, and of those a share, at least one."""
    keys = sorted(
        key
        for key, record in fleet.records.items()
        if (tenant is None or record.tenant_id == tenant) and (tag is None or tag in record.tags)
    )
    if not keys:
        known = sorted({tag for record in fleet.records.values() for tag in record.tags})
        raise CommandFailedError(
            f"no agent has the tag {tag!r}" if tag else "there are no managed agents",
            f"There are the tags: {', '.join(known)}" if known else "Give agents `tags` in their agent.yaml",
        )
    return sorted(random.Random(seed).sample(keys, max(1, math.ceil(len(keys) * percent / 100))))
