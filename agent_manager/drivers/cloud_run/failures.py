"""What an error of the Admin API means, and what the person in front of it can do. Pure."""

import re
from typing import Final

import google.auth.exceptions
from google.api_core import exceptions

from agent_manager.drivers.cloud_run.place import Place

MANAGING: Final = "roles/run.developer"
ACTING: Final = "roles/iam.serviceAccountUser"

AGAIN: Final = (
    exceptions.ServiceUnavailable,
    exceptions.TooManyRequests,
    exceptions.Aborted,
    exceptions.InternalServerError,
    exceptions.BadGateway,
    exceptions.DeadlineExceeded,
    exceptions.GatewayTimeout,
    exceptions.Unknown,
)
"""Trying again helps. Whether what was asked has happened is not known: look before asking again."""
NEVER: Final = (exceptions.GoogleAPICallError, google.auth.exceptions.GoogleAuthError)
"""Every other answer: somebody must mend something first."""

_ACCOUNT: Final = re.compile(r"[\w.-]+@[\w.-]+")


def _reason(error: Exception) -> str:
    return str(getattr(error, "reason", None) or "")


def explained(error: Exception, place: Place, doing: str) -> str:
    """One sentence on why ``doing`` failed and one on what helps."""
    said = getattr(error, "message", None) or str(error) or type(error).__name__
    if isinstance(error, google.auth.exceptions.GoogleAuthError | exceptions.Unauthenticated):
        return (
            f"{doing} {place.said}: the manager has no valid Google login ({said}). "
            "Run it under a service account, or `gcloud auth application-default login` on its machine"
        )
    if isinstance(error, exceptions.Forbidden):
        return f"{doing} {place.said}: permission denied ({said}). {_missing(error, said, place)}"
    if isinstance(error, exceptions.NotFound):
        flag = "cloud_run.service" if place.kind == "service" else "cloud_run.worker_pool"
        return (
            f"{doing} {place.said}: not found ({said}). Deploy it once, or correct cloud_run.project, cloud_run.region and {flag} in "
            f"agent.yaml; where it does exist the manager's service account lacks {MANAGING} on project {place.project!r}"
        )
    if isinstance(error, AGAIN):
        return f"{doing} {place.said}: Google did not do it in time ({said}). Trying again helps"
    return f"{doing} {place.said}: refused ({said})"


def _missing(error: Exception, said: str, place: Place) -> str:
    if _reason(error) == "SERVICE_DISABLED" or "has not been used in project" in said:
        return f"Switch the API on: `gcloud services enable run.googleapis.com --project {place.project}`"
    if "actas" in said.lower():
        account = _ACCOUNT.search(said)
        on = account.group() if account else "the service account that the agent runs as"
        return f"The manager's service account lacks {ACTING} on {on}"
    return f"The manager's service account lacks {MANAGING} on project {place.project!r}"
