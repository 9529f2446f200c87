"""The record of one unhealthy spell: began, detected, acted on, recovered."""

from datetime import datetime

from schemas.state import Incident


def is_open(incident: Incident | None) -> bool:
    """Whether ``incident`` is still going on."""
    return incident is not None and incident.recovered_at is None


def opened(*, began_at: datetime, detected_at: datetime, reason: str) -> Incident:
    """A spell just noticed. Clocks may disagree: it is never detected before it began."""
    began_at = min(began_at, detected_at)
    return Incident(
        began_at=began_at,
        detected_at=detected_at,
        reason=reason,
        time_to_detect_s=(detected_at - began_at).total_seconds(),
    )


def acted(incident: Incident, *, at: datetime, action: str) -> Incident:
    """Something was done about it."""
    return incident.model_copy(update={"acted_at": at, "action": action})


def recovered(incident: Incident, *, at: datetime) -> Incident:
    """It is over, at ``at`` or when it was detected, whichever is later."""
    at = max(at, incident.detected_at)
    return incident.model_copy(update={"recovered_at": at, "time_to_recover_s": (at - incident.began_at).total_seconds()})
