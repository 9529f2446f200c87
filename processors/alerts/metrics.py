"""What a rule may measure, where it comes from, and whose it is."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from schemas.events import Kind

Metric = Literal[
    "agent_unhealthy", "agent_stuck", "agent_gave_up",
    "latency_ms", "latency_p95_ms", "error_rate", "requests_per_s", "in_flight", "cpu_percent", "memory_rss_bytes",
    "spool_bytes", "spool_dropped",
    "run_failures", "model_call_failures", "tool_call_failures", "policy_blocks", "budget_crossings", "budgets_exhausted",
    "emitted_alerts",
    "dead_letters", "unpriced_model_calls", "spend_usd",
    "stream_fullness", "telemetry_lag_s", "events_lag_s",
]  # fmt: skip

Scope = Literal["agent", "tenant", "crossing", "system"]
"""``crossing``: each budget threshold that is reached is a subject of its own, so it has an alert of its own."""


@dataclass(frozen=True, slots=True)
class Measured:
    """How a metric comes about."""

    about: str
    source: Literal["EVENTS", "LEDGER", "agent_states", "checks"]
    counted: bool
    """Summed over the rule's window; otherwise the latest value stands."""
    scopes: tuple[Scope, ...]
    """Whose it can be; the first is the default."""
    kind: Kind | Literal["dead"] | None = None
    """The kind of messages in EVENTS it is read from."""


def _beat(about: str) -> Measured:
    return Measured(about, "EVENTS", counted=False, scopes=("agent",), kind="heartbeat")


def _count(about: str, kind: Kind) -> Measured:
    return Measured(about, "EVENTS", counted=True, scopes=("agent", "tenant"), kind=kind)


METRICS: Final[Mapping[Metric, Measured]] = {
    "agent_unhealthy": Measured(
        "1 from when the agent turns UNHEALTHY until it is HEALTHY again, else 0",
        "EVENTS",
        counted=False,
        scopes=("agent",),
        kind="agent",
    ),
    "agent_stuck": Measured(
        "1 while the agent is STUCK: it beats, has work, and gets nowhere; else 0",
        "EVENTS",
        counted=False,
        scopes=("agent",),
        kind="agent",
    ),
    "agent_gave_up": Measured(
        "1 while the manager has given an agent up (crash loop), else 0", "agent_states", counted=False, scopes=("agent",)
    ),
    "latency_ms": _beat("mean latency of the agent's requests"),
    "latency_p95_ms": _beat("95th percentile of the agent's requests"),
    "error_rate": _beat("share of the agent's requests that failed, 0 to 1"),
    "requests_per_s": _beat("requests a second"),
    "in_flight": _beat("requests under way"),
    "cpu_percent": _beat("CPU of the agent's processes, percent of one core"),
    "memory_rss_bytes": _beat("memory of the agent's processes"),
    "spool_bytes": _beat("events waiting on the agent's disk for NATS"),
    "spool_dropped": _beat("events its sidecar had to refuse because the disk spool was full"),
    "run_failures": _count("runs that failed", "run"),
    "model_call_failures": _count("model calls that failed", "model_call"),
    "tool_call_failures": _count("tool calls that failed", "tool_call"),
    "policy_blocks": _count("actions blocked by policy", "policy"),
    "budget_crossings": Measured(
        "budget thresholds reached; in scope crossing those below the limit",
        "EVENTS",
        counted=True,
        scopes=("agent", "tenant", "crossing"),
        kind="budget",
    ),
    "budgets_exhausted": Measured(
        "budgets that reached their limit", "EVENTS", counted=True, scopes=("tenant", "crossing"), kind="budget"
    ),
    "emitted_alerts": _count("alerts that agents and services raised themselves (alert.emitted)", "alert"),
    "dead_letters": Measured("events rejected into dead letters", "EVENTS", counted=True, scopes=("tenant",), kind="dead"),
    "unpriced_model_calls": Measured("model calls without a known price", "LEDGER", counted=True, scopes=("tenant", "agent")),
    "spend_usd": Measured("US dollars spent", "LEDGER", counted=True, scopes=("tenant", "agent")),
    "stream_fullness": Measured("share of a stream's size limit in use, 0 to 1", "checks", counted=False, scopes=("system",)),
    "telemetry_lag_s": Measured(
        "age of the oldest message validate has not covered, seconds", "checks", counted=False, scopes=("system",)
    ),
    "events_lag_s": Measured(
        "age of the oldest model call the cost processor has not covered, seconds", "checks", counted=False, scopes=("system",)
    ),
}
