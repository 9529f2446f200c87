# ruff: noqa: PLC0415 - help and completion must not pay for NATS
from typing import Annotated

import typer

NAMES = (
    "fleet",
    "runs",
    "run",
    "failures",
    "logs",
    "spend",
    "scope_spend",
    "latency",
    "timeseries",
    "ledger",
    "ledger_days",
    "ledger_duplicates",
    "ledger_problems",
    "alerts",
    "throughput",
    "status",
    "audit",
)
"""Kept here for the shell, which must not wait for the contract to load; a test compares them."""


def _names(incomplete: str) -> list[str]:
    return [name for name in NAMES if name.startswith(incomplete)]


Query = Annotated[str | None, typer.Argument(metavar="NAME", help="Which query.", show_default=False, autocompletion=_names)]


def query(context: typer.Context, name: Query = None) -> None:
    """Ask the warehouse a named question: fleet, runs, run, failures, logs, spend, scope_spend, latency, timeseries, ledger, ledger_days, ledger_duplicates, ledger_problems, alerts, throughput, status, audit."""
    from agent_manager.cli.query.app import application

    # Its own application, made from the contract, reads the rest: each query has options of its own.
    application()(args=[name, *context.args] if name is not None else [], prog_name="agentops query", standalone_mode=True)
