# ruff: noqa: PLC0415 - help and completion must not pay for NATS
import typer

NAMES = ("fleet", "runs", "run", "failures", "spend", "latency", "timeseries", "alerts", "throughput", "status", "audit")


def _names(incomplete: str) -> list[str]:
    return [name for name in NAMES if name.startswith(incomplete)]


def query(context: typer.Context) -> None:
    """Ask the warehouse a named question: fleet, runs, run, failures, spend, latency, timeseries, alerts, throughput, status, audit."""
    from agent_manager.cli.query.app import application

    application()(args=context.args, prog_name="agentops query", standalone_mode=True)
