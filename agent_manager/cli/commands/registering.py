# ruff: noqa: PLC0415 - help and completion must not pay for NATS
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from agent_manager.cli import completion
from agent_manager.cli.options import Data, Json, OneTenant, Timeout

if TYPE_CHECKING:
    from pydantic import JsonValue

AgentId = Annotated[str, typer.Argument(metavar="AGENT", help="Agent id.", show_default=False, autocompletion=completion.agents)]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")]
Reason = Annotated[str | None, typer.Option("--reason", help="Kept in the history and the audit trail.", show_default=False)]
Stage = Literal["dev", "staging", "prod"]


def _asked(dry_run: bool, reason: str | None, **more: "JsonValue") -> dict[str, "JsonValue"]:
    said: dict[str, JsonValue] = {name: value for name, value in more.items() if value is not None}
    return said | ({"dry_run": True} if dry_run else {}) | ({"reason": reason} if reason else {})


def register(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="An agent.yaml, or the folder it is in.", show_default=False)],
    later: Annotated[bool, typer.Option("--later", help="Keep it for a canary or rollback; what is current stays.")] = False,
    dry_run: DryRun = False, reason: Reason = None,
    data: Data = None, tenant: OneTenant = None, timeout: Timeout = 30, as_json: Json = False,
) -> None:  # fmt: skip
    """Register an agent, or another version of one, from its manifest."""
    from agent_manager.cli.registry import giving

    params = _asked(dry_run, reason, current=False if later else None)
    giving.register(data, path, tenant, params, timeout_s=timeout, as_json=as_json)


def update(
    agent: AgentId,
    fields: Annotated[list[str], typer.Argument(metavar="FIELD=VALUE…", help="Values as JSON, or as text.", show_default=False)],
    dry_run: DryRun = False, reason: Reason = None,
    data: Data = None, tenant: OneTenant = None, timeout: Timeout = 30, as_json: Json = False,
) -> None:  # fmt: skip
    """Change fields of what an agent is; its agent.yaml, where it has one, wins again once it is edited."""
    from agent_manager.cli.fleet.telling import tell
    from agent_manager.cli.registry.giving import assigned

    params = _asked(dry_run, reason, fields=assigned(fields))
    tell(data, [agent], tenant, "update", params, timeout_s=timeout, as_json=as_json)


def delete(
    agent: AgentId, dry_run: DryRun = False, reason: Reason = None,
    data: Data = None, tenant: OneTenant = None, timeout: Timeout = 30, as_json: Json = False,
) -> None:  # fmt: skip
    """Forget an agent that is stopped and has no agent.yaml any more; its history stays."""
    from agent_manager.cli.fleet.telling import tell

    tell(data, [agent], tenant, "delete", _asked(dry_run, reason), timeout_s=timeout, as_json=as_json)


def history(
    agent: AgentId,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="How many changes, the newest first.")] = 50,
    data: Data = None, tenant: OneTenant = None, as_json: Json = False,
) -> None:  # fmt: skip
    """Show every change of an agent: what, when, by whom and why; deleted agents have theirs, too."""
    from agent_manager.cli.registry import showing

    showing.history(data, agent, tenant, limit, as_json=as_json)


def diff(
    agent: AgentId,
    before: Annotated[str | None, typer.Argument(metavar="[VERSION]", help="Default: the one before.", show_default=False)] = None,
    after: Annotated[str | None, typer.Argument(metavar="[VERSION]", help="Default: the current one.", show_default=False)] = None,
    data: Data = None, tenant: OneTenant = None, as_json: Json = False,
) -> None:  # fmt: skip
    """Show what two versions of an agent have otherwise."""
    from agent_manager.cli.registry import showing

    showing.diff(data, agent, tenant, before, after, as_json=as_json)


def promote(
    agent: AgentId,
    to: Annotated[Stage, typer.Option("--to", help="The stage above the present one.", show_default=False)],
    version: Annotated[str | None, typer.Option("--version", help="Default: the current one.", show_default=False)] = None,
    healthy_for: Annotated[str, typer.Option("--healthy-for", help="How long it must have been HEALTHY.")] = "5m",
    max_error_rate: Annotated[float, typer.Option("--max-error-rate", min=0, max=1, help="Its error budget.")] = 0.01,
    suite: Annotated[str | None, typer.Option("--suite", help="Of evaluations.", show_default=False)] = None,
    min_score: Annotated[float | None, typer.Option("--min-score", help="What its latest evaluation must reach.", show_default=False)] = None,
    dry_run: DryRun = False, reason: Reason = None,
    data: Data = None, tenant: OneTenant = None, timeout: Timeout = 30, as_json: Json = False,
) -> None:  # fmt: skip
    """Raise a version from dev to staging, or from staging to prod, where every check passes."""
    from agent_manager.cli.fleet.telling import tell
    from agent_manager.cli.registry.giving import span

    params = _asked(
        dry_run,
        reason,
        to=to,
        version=version,
        healthy_for_s=span("--healthy-for", healthy_for),
        max_error_rate=max_error_rate,
        suite=suite,
        min_score=min_score,
    )
    tell(data, [agent], tenant, "promote", params, timeout_s=timeout, as_json=as_json)


def rollback(
    agent: AgentId,
    version: Annotated[str | None, typer.Argument(metavar="[VERSION]", help="Default: the last good one.", show_default=False)] = None,
    dry_run: DryRun = False, reason: Reason = None,
    data: Data = None, tenant: OneTenant = None, timeout: Timeout = 60, as_json: Json = False,
) -> None:  # fmt: skip
    """Make an earlier version the current one, and restart the agent as it."""
    from agent_manager.cli.fleet.telling import tell

    tell(data, [agent], tenant, "rollback", _asked(dry_run, reason, version=version), timeout_s=timeout, as_json=as_json)


def canary(
    agent: AgentId,
    version: Annotated[str, typer.Argument(metavar="VERSION", help="A registered one.", show_default=False)],
    lasting: Annotated[str, typer.Option("--for", help="How long it is on trial.")] = "5m",
    percent: Annotated[int, typer.Option("--percent", min=1, max=100, help="Of traffic or instances; local agents: 100.")] = 100,
    max_error_rate: Annotated[float, typer.Option("--max-error-rate", min=0, max=1, help="Beyond it, it is taken back.")] = 0.05,
    dry_run: DryRun = False, reason: Reason = None,
    data: Data = None, tenant: OneTenant = None, timeout: Timeout = 60, as_json: Json = False,
) -> None:  # fmt: skip
    """Run a version on trial; it is taken back by itself as soon as it is not well."""
    from agent_manager.cli.fleet.telling import tell
    from agent_manager.cli.registry.giving import span

    params = _asked(
        dry_run,
        reason,
        version=version,
        duration_s=span("--for", lasting),
        percent=percent,
        max_error_rate=max_error_rate,
    )
    tell(data, [agent], tenant, "canary", params, timeout_s=timeout, as_json=as_json)


def add_to(app: typer.Typer) -> None:
    """Adds these commands to ``agents``."""
    app.command(epilog="Example: agentops agents register ./agents/chat --reason 'first version'")(register)
    app.command(epilog="Example: agentops agents update chat-service owner=research 'tags=[\"chat\"]'")(update)
    app.command(epilog="Example: agentops agents delete chat-service --dry-run")(delete)
    app.command(epilog="Example: agentops agents history chat-service --json")(history)
    app.command(epilog="Example: agentops agents diff chat-service 1.0.0 1.1.0")(diff)
    app.command(epilog="Example: agentops agents promote chat-service --to staging --healthy-for 10m")(promote)
    app.command(epilog="Example: agentops agents rollback chat-service 1.0.0 --reason 'answers in the wrong language'")(rollback)
    app.command(epilog="Example: agentops agents canary chat-service 1.1.0 --for 10m")(canary)
