"""Alerts: one message for each change of an alert's state."""

from typing import Literal

from schemas.model import Finite, Identifier, Instant, Lenient, Name, Text, Token
from schemas.sections import Severity

AlertState = Literal["firing", "acknowledged", "resolved"]


class AlertChange(Lenient):
    """An alert began, was acknowledged, or ended."""

    change_id: Identifier
    """Derived from alert, state and moment: the same change twice is a duplicate."""
    alert_id: Identifier
    """One id from firing to resolved."""
    rule: Token
    severity: Severity
    state: AlertState
    tenant_id: Token
    agent_id: Token | None = None
    metric: Name
    value: Finite | None = None
    threshold: Finite | None = None
    started_at: Instant
    at: Instant
    """When this change happened."""
    summary: Text
    labels: dict[str, str] = {}
    acknowledged_by: Name | None = None
    note: Text | None = None


class Acknowledgement(Lenient):
    """Bucket value: a person has seen an alert. Key: the alert id."""

    alert_id: Identifier
    by: Name
    at: Instant
    note: Text | None = None
