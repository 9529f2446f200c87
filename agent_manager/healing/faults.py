"""The set of faults asked of an agent, and its changes. Deadlines are the sidecar's to enforce; here they only tidy up."""

from datetime import datetime, timedelta

from schemas.commands import FaultParams
from schemas.sections import Fault
from schemas.state import AskedFault, FaultSet


def active(faults: FaultSet | None, now: datetime) -> tuple[Fault, ...]:
    """Those whose deadline has not passed."""
    return () if faults is None else tuple(fault for fault in faults.faults if fault.until > now)


def requested(params: FaultParams, *, fault_id: str, by: str, now: datetime) -> Fault:
    """The fault that ``params`` ask for, beginning now unless they say later."""
    begins = now + timedelta(seconds=params.begins_in_s or 0)
    fault = Fault(
        fault_id=fault_id,
        kind=params.kind,
        until=begins + timedelta(seconds=params.duration_s),
        latency_ms=params.latency_ms,
        jitter_ms=params.jitter_ms,
        rate=params.rate,
        status_code=params.status_code,
        retry_after_s=params.retry_after_s,
        injected_by=by,
        reason=params.reason,
    )
    if params.intensity is None and params.seed is None and params.begins_in_s is None:
        return fault
    begins_at = begins if params.begins_in_s is not None else None
    return AskedFault(**fault.model_dump(), intensity=params.intensity, seed=params.seed, begins_at=begins_at)


def added(current: tuple[Fault, ...], fault: Fault) -> tuple[Fault, ...]:
    """``current`` with ``fault`` in place of any other of its kind."""
    return (*(kept for kept in current if kept.kind != fault.kind), fault)


def cleared(current: tuple[Fault, ...], kind: str | None) -> tuple[tuple[Fault, ...], tuple[Fault, ...]]:
    """What stays and what goes when ``kind`` (None: every kind) is cleared."""
    gone = tuple(fault for fault in current if kind is None or fault.kind == kind)
    return tuple(fault for fault in current if fault not in gone), gone
