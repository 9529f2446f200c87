"""What an audit found, and the error for one that could not be made."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from streams.auditing.accounts import Finding, Severity


class AuditImpossibleError(Exception):
    """The audit could not read or ask what it needs. Trying again helps once that answers; the message says what."""


@dataclass(frozen=True, slots=True)
class AuditReport:
    """What an audit found. ``ok`` when nothing is wrong; warnings are things a person should know."""

    at: datetime
    findings: tuple[Finding, ...]
    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    """Figures by stream and processor, for the curious."""
    tenants: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Figures by tenant: events, dead letters, ledger entries, money as a decimal string."""
    took_s: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether there is no error."""
        return all(finding.severity != "error" for finding in self.findings)

    def of(self, severity: Severity) -> tuple[Finding, ...]:
        """The findings of one severity."""
        return tuple(finding for finding in self.findings if finding.severity == severity)
