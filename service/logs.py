"""Structured logs: for people on a terminal, JSON elsewhere; never a secret."""

import logging
import os
import re
import sys
from collections.abc import MutableMapping
from typing import Any

import structlog

_SECRET_NAME = re.compile(r"passw|secret|api_?key|authorization|credential|^token$|_token$", re.IGNORECASE)
_URL_LOGIN = re.compile(r"(\w+://)[^/@\s]+@")


def _hide_secrets(_: Any, __: str, record: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for name, value in record.items():
        if _SECRET_NAME.search(name):
            record[name] = "(withheld)"
        elif isinstance(value, str) and "@" in value:
            record[name] = _URL_LOGIN.sub(r"\1", value)
    return record


def configure(service: str, *, level: str | None = None) -> None:
    """Sets logging up for this process. ``AGENTOPS_LOG_LEVEL`` (default INFO), ``AGENTOPS_LOG_FORMAT`` json|text."""
    chosen = (level or os.environ.get("AGENTOPS_LOG_LEVEL", "INFO")).upper()
    number = logging.getLevelNamesMapping().get(chosen, logging.INFO)
    form = os.environ.get("AGENTOPS_LOG_FORMAT", "text" if sys.stderr.isatty() else "json")
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _hide_secrets,
    ]
    last: list[Any]
    if form == "json":
        last = [structlog.processors.dict_tracebacks, structlog.processors.JSONRenderer()]
    else:
        last = [structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty() and "NO_COLOR" not in os.environ)]
    structlog.configure(
        processors=[*shared, *last],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    structlog.contextvars.bind_contextvars(service=service)
    logging.basicConfig(
        level=max(number, logging.WARNING), stream=sys.stderr, format="%(levelname)s %(name)s %(message)s", force=True
    )
    # FastStream tells of every message at INFO, on a handler of its own.
    logging.getLogger("faststream").setLevel(max(number, logging.WARNING))
