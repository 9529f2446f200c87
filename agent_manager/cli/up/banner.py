"""What ``up`` says once the system runs, and the line it keeps below. Pure."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from agent_manager.cli.readable import duration


@dataclass(frozen=True, slots=True)
class Facts:
    """What there is to say."""

    command: str
    """How this program is called here."""
    data: Path
    default_data: bool
    nats_url: str
    own_nats: bool
    dashboard_url: str | None
    demo: bool
    model: str | None
    """Where the demo's answers come from."""
    not_ready: Mapping[str, str]
    agents: Sequence[str] = ()
    gateway: str = "not started (--no-gateway)"
    """Where agents without sidecars send their events, and how to get a key."""
    api: str = "not started (--no-api)"
    """Where the REST API is, and how to get a key."""


def banner(facts: Facts) -> str:
    """Addresses, files, and what to try next."""
    where = "" if facts.default_data else f" --data {shlex.quote(str(facts.data))}"
    rows = [
        ("dashboard", facts.dashboard_url or "not started (--no-dashboard)"),
        ("gateway", facts.gateway),
        ("REST API", facts.api),
        ("NATS", facts.nats_url),
    ]
    if facts.own_nats:
        rows.append(("login", f'eval "$({facts.command} env{where})"'))
    rows += [("data", str(facts.data)), ("logs", str(facts.data / "logs"))]
    if facts.model:
        rows.append(("models", facts.model))
    agent = "chat-service" if facts.demo else "AGENT"
    hints = [
        (f"agents list{where}", "what runs, and how it is"),
        (f"faults inject {agent} latency --latency-ms 2500{where}", "make it slow for five minutes"),
        (f"faults inject {agent} error{where}", "break it, and see it heal"),
        (f"alerts tail{where}", "alerts as they happen"),
        (f"query spend --by model{where}", "what it costs"),
        (f"doctor{where}", "is everything all right?"),
    ]
    width = max(len(command) for command, _ in hints)
    lines = ["AgentOps runs." if not facts.not_ready else "AgentOps runs, but not all of it:"]
    lines += [f"  {name}: {why}" for name, why in facts.not_ready.items()]
    lines += ["", *(f"  {name:<10} {value}" for name, value in rows), "", "Try next, in another terminal:"]
    lines += [f"  {facts.command} {command:<{width}}  {about}" for command, about in hints]
    return "\n".join([*lines, "", "Ctrl-C stops everything; data is kept."])


def status(running: int, wanted: int, health: Mapping[str, int], up_s: float, trouble: str | None) -> str:
    """One line: processes, agents by health, how long."""
    agents = ", ".join(f"{count} {name}" for name, count in sorted(health.items())) or "none yet"
    since = "just started" if up_s < 60 else f"up {duration(up_s // 60 * 60)}"
    parts = [f"{running}/{wanted} services", f"agents: {agents}", since]
    if trouble:
        parts.insert(0, trouble)
    return " · ".join(parts)
