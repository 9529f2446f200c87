"""An agent's document: what it says, and what others ask by changing it. Pure.

Whoever changes ``active_faults`` or ``config.desired_state`` asks for it. What we wrote there last stands beside it, in
``agentops``, in the same write: so a wish is told from our own words also by a mirror that has just begun.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, get_args

from pydantic import ValidationError

from agent_manager.cli.fleet.rows import Fleet, agent_row, standing
from schemas.commands import CommandName, FaultParams
from schemas.errors import FieldError, field_errors
from schemas.sections import FaultKind

OWN: Final = "agentops"
"""The field that is ours alone."""
KINDS: Final[tuple[str, ...]] = get_args(FaultKind)
_SUFFIX: Final = "_injection"
_USUAL: Final[Mapping[str, Mapping[str, Any]]] = {"latency": {"latency_ms": 2500.0}}
"""What a fault is that is only named."""
_METRICS: Final = ("latency_ms", "latency_p95_ms", "error_rate", "requests_per_s", "cpu_percent", "memory_rss_bytes")
_STATES: Final = ("running", "stopped")


def document(key: str, fleet: Fleet, now: datetime) -> dict[str, Any]:
    """What the agent's document is to say: the documented fields."""
    row, record, state = agent_row(key, fleet, now), fleet.records.get(key), fleet.states.get(key)
    faults = sorted({fault.kind for fault in standing(fleet.faults.get(key), now)})
    stopped = row.status in {"stopped", None} and row.desired == "stopped"
    config: dict[str, Any] = {
        "version": row.version, "environment": row.environment, "desired_state": row.desired, "proxy_url": row.proxy_url,
        "tags": list(record.tags) if record is not None else [], "revision": row.revision,
    }  # fmt: skip
    if record is not None and record.cloud_run is not None:
        config |= {"region": record.cloud_run.region, "project": record.cloud_run.project}
    observed = fleet.observations.get(key)
    metrics = observed.metrics.model_dump(include=set(_METRICS), exclude_none=True) if observed is not None else {}
    return {
        "agent_id": row.agent_id, "service_name": row.name,
        "status": "STOPPED" if stopped else row.health or (row.status or "unknown").upper(),
        "last_heartbeat": row.last_heartbeat, "metrics": metrics, "active_faults": [kind.upper() for kind in faults],
        "config": {name: value for name, value in config.items() if value is not None},
        OWN: {"active_faults": [kind.upper() for kind in faults], "desired_state": state.desired if state is not None else None},
    }  # fmt: skip


def steady(told: Mapping[str, Any]) -> dict[str, Any]:
    """A document without what is new with every heartbeat."""
    return {name: value for name, value in told.items() if name not in {"last_heartbeat", "metrics"}}


@dataclass(frozen=True, slots=True)
class Wish:
    """Something asked of the agent."""

    command: CommandName
    params: dict[str, Any]
    what: str
    """Names it within its document, whose time of change names the rest."""


@dataclass(frozen=True, slots=True)
class Wishes:
    """Everything a document asks that is not so yet."""

    wishes: tuple[Wish, ...] = ()
    errors: tuple[FieldError, ...] = ()


def _kind(given: str) -> str | None:
    """``LATENCY_INJECTION``, ``latency``: latency."""
    word = given.strip().lower().removesuffix(_SUFFIX)
    return word if word in KINDS else None


def _fault(place: int, given: object) -> Wish | FieldError:
    where = f"active_faults[{place}]"
    told: dict[str, Any] = {str(name): value for name, value in given.items()} if isinstance(given, Mapping) else {"kind": given}
    kind = _kind(told["kind"]) if isinstance(told.get("kind"), str) else None
    if kind is None:
        return FieldError(loc=where, msg=f"is no fault; there are {', '.join(KINDS).upper()}", value=str(told.get("kind"))[:120])
    try:
        params = FaultParams.model_validate({**_USUAL.get(kind, {}), **told, "kind": kind})
    except ValidationError as error:
        first = field_errors(error)[0]
        return FieldError(loc=f"{where}{first.loc.removeprefix('$')}", msg=first.msg, value=first.value)
    return Wish("inject_fault", params.model_dump(exclude_none=True), f"fault {kind}")


def wishes(told: Mapping[str, Any]) -> Wishes:
    """What others have asked by changing the document since we wrote it last; nothing of one we never wrote."""
    own = told.get(OWN)
    if not isinstance(own, Mapping):
        return Wishes()
    found: list[Wish] = []
    errors: list[FieldError] = []
    wanted, before = told.get("active_faults"), own.get("active_faults") or []
    if not isinstance(wanted, Sequence) or isinstance(wanted, str):
        errors.append(FieldError(loc="active_faults", msg="must be an array of names", value=str(wanted)[:120]))
    elif list(wanted) != list(before):
        asked = [(one, _fault(place, one)) for place, one in enumerate(wanted)]
        kinds = {one.params["kind"] for _, one in asked if isinstance(one, Wish)}
        errors += [one for _, one in asked if isinstance(one, FieldError)]
        if not errors:
            found += [
                Wish("clear_faults", {"kind": kind}, f"no fault {kind}")
                for each in before
                if (kind := _kind(str(each))) not in kinds
            ]
            # Those that are there already stay as they are, unless more is said of them than a name.
            found += [one for given, one in asked if isinstance(one, Wish) and given not in before]
    config = told.get("config")
    desired = config.get("desired_state") if isinstance(config, Mapping) else None
    if desired is not None and desired != own.get("desired_state"):
        if desired in _STATES:
            found.append(Wish("start" if desired == "running" else "stop", {}, f"be {desired}"))
        else:
            errors.append(FieldError(loc="config.desired_state", msg="must be running or stopped", value=str(desired)[:120]))
    return Wishes(tuple(found), tuple(errors))
