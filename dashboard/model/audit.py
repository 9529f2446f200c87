"""The latest audit as the page shows it. Pure."""

from typing import Any, Final

from streams.auditing.report import AuditReport

_SHOWN: Final = 3
"""Findings told on the page; the command line tells all."""
_USUAL: Final = ".lag"
"""What is just being applied waits for a moment: nothing to tell of on a page that is read while work goes on."""


def told(report: AuditReport, now_ms: int) -> dict[str, Any]:
    """State, counts and the first findings of an audit that was made."""
    errors = report.of("error")
    warnings = [finding for finding in report.of("warning") if not finding.check.endswith(_USUAL)]
    found = [*errors, *warnings]
    validated = report.counts.get("validate", {})
    return {
        "state": "wrong" if errors else "ok",
        "at": now_ms,
        "errors": len(errors),
        "warnings": len(warnings),
        "findings": [{"severity": one.severity, "check": one.check, "message": one.message} for one in found[:_SHOWN]],
        "more": max(0, len(found) - _SHOWN),
        "events": report.counts.get("EVENTS", {}).get("events", 0),
        "duplicates": validated.get("duplicates", 0),
        "dead": validated.get("dead", 0),
        "entries": sum(figures.get("charges", 0) for figures in report.tenants.values()),
    }


def impossible(why: str, now_ms: int) -> dict[str, Any]:
    """State of an audit that could not be made."""
    return {"state": "impossible", "at": now_ms, "message": why}
