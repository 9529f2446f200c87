# ruff: noqa: PLC0415 - help and completion must not pay for NATS
from typing import Annotated, Literal

import typer

from agent_manager.cli import completion
from agent_manager.cli.failure import CommandFailedError
from agent_manager.cli.options import Data, Json, OneTenant, Timeout

app = typer.Typer(no_args_is_help=True, help="Break agents on purpose, for a limited time, and see them heal.")

Kind = Literal[
    "latency", "error", "crash", "hang", "blackhole", "throttle", "reset", "truncate", "cpu_pressure", "memory_pressure",
    "heartbeat_loss",
    "model_rate_limit", "model_error", "model_slow", "model_stall", "model_truncate", "model_malformed",
]  # fmt: skip


Intensity = Annotated[float | None, typer.Option("--intensity", help="throttle: bytes a second; truncate: bytes that come; cpu_pressure: cores; memory_pressure: megabytes.", show_default=False)]  # fmt: skip
Seed = Annotated[int | None, typer.Option("--seed", min=0, help="The same requests are struck every time.", show_default=False)]
Later = Annotated[str | None, typer.Option("--in", help="Begin later: 30s, 5m.", show_default=False)]


@app.command(
    epilog="Examples: agentops faults inject chat-service latency --latency-ms 2500 · agentops faults inject chat-service error --rate 0.8 --status-code 503 --duration 2m"
)
def inject(
    agent: Annotated[str, typer.Argument(metavar="AGENT", help="Agent id.", show_default=False, autocompletion=completion.agents)],
    kind: Annotated[
        Kind,
        typer.Argument(help="latency: slow answers; error: failing answers; crash: SIGKILL; hang: SIGSTOP; blackhole: no answers; throttle: slow bodies; reset: connections reset; truncate: answers that break off; cpu_pressure, memory_pressure: load beside it; heartbeat_loss: it is not heard of. Of model calls, for agents that are metered: model_rate_limit: 429; model_error: 500 (or --status-code 529); model_slow: a late first token; model_stall, model_truncate, model_malformed: answers that stop, break off, are no JSON.", show_default=False),
    ],
    latency_ms: Annotated[float | None, typer.Option("--latency-ms", help="Added to every request (latency), or before the first token (model_slow).", show_default=False)] = None,
    jitter_ms: Annotated[float | None, typer.Option("--jitter-ms", help="Spread around it.", show_default=False)] = None,
    rate: Annotated[float | None, typer.Option("--rate", help="Share of requests it strikes, 0 to 1 (default: all).", show_default=False)] = None,
    status_code: Annotated[int | None, typer.Option("--status-code", help="What failing requests are answered (error, model_error).", show_default=False)] = None,
    retry_after_s: Annotated[float | None, typer.Option("--retry-after", help="Seconds that model_rate_limit tells clients to wait.", show_default=False)] = None,
    intensity: Intensity = None, seed: Seed = None, later: Later = None,
    duration: Annotated[str, typer.Option("--duration", help="How long: 30s, 5m, 1h. The sidecar ends it by itself.")] = "5m",
    reason: Annotated[str | None, typer.Option("--reason", help="Kept in the audit trail.", show_default=False)] = None,
    data: Data = None, tenant: OneTenant = None, timeout: Timeout = 30, as_json: Json = False,
) -> None:  # fmt: skip
    """Inject a fault into an agent; it ends by itself after --duration."""
    from agent_manager.cli.fleet.injecting import fault_params
    from agent_manager.cli.fleet.telling import tell

    params = fault_params(
        kind=kind,
        duration=duration,
        latency_ms=latency_ms,
        jitter_ms=jitter_ms,
        rate=rate,
        status_code=status_code,
        retry_after_s=retry_after_s,
        intensity=intensity,
        seed=seed,
        later=later,
        reason=reason,
    )
    tell(data, [agent], tenant, "inject_fault", params, timeout_s=timeout, as_json=as_json)


@app.command(epilog="Example: agentops faults spread error --tag chat --percent 50 --seed 7 --rate 0.3 --duration 2m")
def spread(
    kind: Annotated[Kind, typer.Argument(metavar="KIND", help="As for `agentops faults inject`.", show_default=False)],
    tag: Annotated[str | None, typer.Option("--tag", help="Agents with this tag; default: every managed agent.", show_default=False)] = None,
    percent: Annotated[float, typer.Option("--percent", min=0, max=100, help="Of those, at least one.")] = 100,
    seed: Seed = None, rate: Annotated[float | None, typer.Option("--rate", help="Share of requests it strikes, 0 to 1.", show_default=False)] = None,
    latency_ms: Annotated[float | None, typer.Option("--latency-ms", show_default=False)] = None,
    status_code: Annotated[int | None, typer.Option("--status-code", show_default=False)] = None,
    intensity: Intensity = None, later: Later = None,
    duration: Annotated[str, typer.Option("--duration", help="How long; the sidecars end it by themselves.")] = "5m",
    reason: Annotated[str | None, typer.Option("--reason", help="Kept in the audit trail.", show_default=False)] = None,
    data: Data = None, tenant: OneTenant = None, timeout: Timeout = 30, as_json: Json = False,
) -> None:  # fmt: skip
    """Inject a fault into several agents: by tag, and a share of them; --seed chooses the same ones every time."""
    from agent_manager.cli.fleet.injecting import chosen, fault_params
    from agent_manager.cli.fleet.telling import tell

    params = fault_params(
        kind=kind,
        duration=duration,
        latency_ms=latency_ms,
        rate=rate,
        status_code=status_code,
        intensity=intensity,
        seed=seed,
        later=later,
        reason=reason,
    )
    tell(
        data,
        lambda fleet: chosen(fleet, tenant=tenant, tag=tag, percent=percent, seed=seed),
        tenant,
        "inject_fault",
        params,
        timeout_s=timeout,
        as_json=as_json,
    )


@app.command(
    epilog="Examples: agentops faults clear chat-service · agentops faults clear chat-service --kind latency · agentops faults clear --all"
)
def clear(
    agent: Annotated[str | None, typer.Argument(metavar="AGENT", help="Agent id.", show_default=False, autocompletion=completion.agents)] = None,
    kind: Annotated[Kind | None, typer.Option("--kind", help="Only faults of this kind.", show_default=False)] = None,
    everyone: Annotated[bool, typer.Option("--all", help="Faults of every agent.")] = False,
    data: Data = None, tenant: OneTenant = None, timeout: Timeout = 30, as_json: Json = False,
) -> None:  # fmt: skip
    """End an agent's faults now."""
    from agent_manager.cli.fleet.bulk import Everyone
    from agent_manager.cli.fleet.telling import tell

    if everyone and kind is None:
        from agent_manager.cli.fleet.clearing import clear_all

        clear_all(data, tenant, timeout_s=timeout, as_json=as_json)
        return
    if (agent is None) != everyone:
        raise CommandFailedError("whose faults?", "Name an agent (`agentops faults clear chat-service`) or give --all", code=2)
    tell(
        data,
        [agent] if agent else Everyone(),
        tenant,
        "clear_faults",
        {"kind": kind} if kind else {},
        timeout_s=timeout,
        as_json=as_json,
    )


@app.command("list", epilog="Example: agentops faults list --json")
def list_(
    agent: Annotated[str | None, typer.Argument(metavar="[AGENT]", help="Agent id.", show_default=False, autocompletion=completion.agents)] = None,
    data: Data = None, tenant: OneTenant = None, as_json: Json = False,
) -> None:  # fmt: skip
    """Show the faults now injected, and whether the sidecars apply them."""
    from agent_manager.cli.fleet import showing

    showing.faults(data, agent, tenant, as_json=as_json)
