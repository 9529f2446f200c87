"""Which field of which message goes into which column: one table for each kind of event, and those beside them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

from schemas.events import KINDS
from schemas.prices.units import FIELDS

Type = Literal["text", "instant", "integer", "number", "flag", "uuid", "usd", "texts", "checks", "samples", "pairs"]
"""What a column holds. ``usd`` is exact, ``pairs`` an open map as a list of key and value."""

SQL_TYPES: Final[Mapping[Type, str]] = {
    "text": "VARCHAR",
    "instant": "TIMESTAMP",
    "integer": "BIGINT",
    "number": "DOUBLE",
    "flag": "BOOLEAN",
    "uuid": "UUID",
    "usd": "DECIMAL(18,9)",
    "texts": "VARCHAR[]",
    "checks": 'STRUCT("name" VARCHAR, kind VARCHAR, ok BOOLEAN, consecutive_failures BIGINT, latency_ms DOUBLE, error VARCHAR)[]',
    "samples": 'STRUCT("name" VARCHAR, "value" DOUBLE, unit VARCHAR)[]',
    "pairs": 'STRUCT("key" VARCHAR, "value" VARCHAR)[]',
}


@dataclass(frozen=True, slots=True)
class Column:
    """One column, and the path of the field it holds."""

    name: str
    path: tuple[str, ...]
    type: Type
    required: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """One table, itself alone: its columns in order (``stream_sequence`` follows them) and the sections kept as attributes instead."""

    name: str
    columns: tuple[Column, ...]
    left_over: tuple[str, ...] = ()
    """Sections and fields that such an event may carry though no column of its own holds them."""

    def column_names(self) -> tuple[str, ...]:
        """Every column, in the order of the table."""
        return (*(column.name for column in self.columns), "stream_sequence")


def _columns(section: str, prefix: str = "", **types: Type) -> tuple[Column, ...]:
    path = tuple(section.split(".")) if section else ()
    return tuple(Column(prefix + name, (*path, name), kind) for name, kind in types.items())


def _need(*columns: Column) -> tuple[Column, ...]:
    return tuple(Column(column.name, column.path, column.type, required=True) for column in columns)


ENVELOPE: Final = (
    *_need(*_columns("tenant", tenant_id="text")),
    *_columns("tenant", workspace_id="text", project_id="text"),
    *_need(*_columns("", event_id="uuid", event_type="text", occurred_at="instant")),
    *_need(*_columns("ingest", received_at="instant")),
    *_need(*_columns("run", agent_id="text")),
    *_columns("run", run_id="text", workflow_id="text"),
    *_columns("trace", trace_id="text", span_id="text", parent_span_id="text"),
    *_columns("ingest", flags="texts"),
)
"""What every event has."""

_ERROR: Final = _columns("error", "error_", type="text", message="text", code="text", retryable="flag")
_COUNTS: Final[Mapping[str, Type]] = dict.fromkeys(FIELDS.values(), "integer")
_UNIT_PRICES: Final[Mapping[str, Type]] = dict.fromkeys(FIELDS, "text")
"""What few calls have anything of, and its prices."""
_USAGE: Final = _columns(
    "resource_usage", input_tokens="integer", output_tokens="integer", cache_read_tokens="integer",
    cache_write_tokens="integer", reasoning_tokens="integer", total_tokens="integer", estimated="flag",
    **_COUNTS,
)  # fmt: skip
_CLIENT_COST: Final = (
    Column("client_cost_usd", ("cost", "cost_usd"), "usd"),
    Column("client_price_book_version", ("cost", "price_book_version"), "text"),
)
_METRICS: Final = _columns(
    "metrics", latency_ms="number", latency_p95_ms="number", error_rate="number", requests="integer", errors="integer",
    requests_per_s="number", in_flight="integer", cpu_percent="number", memory_rss_bytes="integer",
    memory_vms_bytes="integer", process_count="integer", threads="integer", system_cpu_percent="number",
    system_memory_percent="number", disk_read_bytes="integer", disk_write_bytes="integer", network_sent_bytes="integer",
    network_received_bytes="integer", spool_bytes="integer", spool_dropped="integer", samples="samples",
)  # fmt: skip
_HEALTH: Final = _columns(
    "health", "health_", status="text", previous_status="text", reason="text", checks="checks", active_faults="texts",
    interval_s="number",
)  # fmt: skip
_AGENT: Final = (
    *_columns(
        "agent", "agent_", name="text", version="text", status="text", previous_status="text", pid="integer",
        started_at="instant", exit_code="integer", signal="text", reason="text", proxy_url="text",
    ),
    Column("agent_type", ("agent", "agent_type"), "text"),
)  # fmt: skip

_OWN: Final[Mapping[str, tuple[str, tuple[Column, ...]]]] = {
    "run": ("runs", (
        Column("run_status", ("run", "status"), "text"), *_columns("run", duration_ms="number"), *_ERROR,
    )),
    "step": ("steps", (
        *_columns("step", step_id="text", step_type="text", name="text", status="text", latency_ms="number"), *_ERROR,
    )),
    "model_call": ("model_calls", (
        *_columns(
            "model_call", model_call_id="text", provider="text", model="text", step_id="text", response_id="text",
            operation="text", service_tier="text", latency_ms="number", time_to_first_token_ms="number",  # noqa: S106
            finish_reason="text", streamed="flag",
        ),
        *_USAGE, *_CLIENT_COST, *_ERROR,
    )),
    "tool_call": ("tool_calls", (
        *_columns("tool_call", tool_call_id="text", name="text", step_id="text", latency_ms="number"), *_ERROR,
    )),
    "heartbeat": ("heartbeats", (*_HEALTH, *_AGENT, *_METRICS)),
    "agent": ("agent_events", (*_AGENT, *_HEALTH, *_ERROR)),
    "policy": ("policies", (
        *_columns("policy", policy_id="text", decision="text", action="text", reason="text"),
        *_columns("policy.actor", actor_id="text", actor_type="text"),
    )),
    "budget": ("budgets", _columns(
        "budget", budget_id="text", scope="text", period="text", threshold="number", limit_usd="usd", spent_usd="usd",
        enforcement="text", result="text",
    )),
    "alert": ("alerts_emitted", _columns(
        "alert", alert_id="text", type="text", severity="text", threshold="number", current_value="number",
        destination="text", sent_at="instant", message="text",
    )),
    "fault": ("faults", (
        *_columns("fault", fault_id="text"), Column("fault_kind", ("fault", "kind"), "text"),
        Column("fault_until", ("fault", "until"), "instant"),
        *_columns("fault", latency_ms="number", jitter_ms="number", rate="number", status_code="integer", retry_after_s="number",
                  injected_by="text", reason="text"),
    )),
    "evaluation": ("evaluations", _columns(
        "evaluation", evaluation_id="text", evaluator="text", score="number", suite="text", passed="flag", label="text",
    )),
    "metric": ("metrics", _METRICS),
    "log": ("logs", (*_columns("log", level="text", message="text", logger="text"), *_ERROR)),
}  # fmt: skip

_SECTIONS: Final = (
    "step", "model_call", "tool_call", "resource_usage", "cost", "budget", "policy", "alert", "error", "health", "metrics",
    "agent", "evaluation", "fault", "log",
)  # fmt: skip


_OF_THE_RUN: Final = ("run.status", "run.duration_ms")


def _table(kind: str) -> Table:
    name, own = _OWN[kind]
    held = {column.path[0] for column in own}
    left_over = tuple(section for section in _SECTIONS if section not in held)
    return Table(name, (*ENVELOPE, *own), left_over if kind == "run" else (*left_over, *_OF_THE_RUN))


EVENTS: Final[Mapping[str, Table]] = {kind: _table(kind) for kind in KINDS}
"""The table of each kind of event."""

LEDGER: Final = Table(
    "ledger",
    (
        *_need(*_columns("", entry_id="text", kind="text", reason="text")),
        *_columns("", corrects="text"),
        *_need(*_columns("", tenant_id="text")),
        *_columns("", workspace_id="text", project_id="text"),
        *_need(*_columns("", agent_id="text")),
        *_columns("", run_id="text", workflow_id="text", step_id="text", model_call_id="text"),
        *_need(*_columns("", event_id="text")),
        *_columns("", response_id="text", provider="text", model="text", service_tier="text", priced_as="text"),
        *_need(*_columns("", occurred_at="instant", received_at="instant")),
        *_columns(
            "", input_tokens="integer", output_tokens="integer", cache_read_tokens="integer", cache_write_tokens="integer",
            reasoning_tokens="integer", estimated="flag", price_book_version="text",
            **_COUNTS,
        ),
        *_columns(
            "unit_prices", "unit_price_", input="text", output="text", cache_read="text", cache_write="text", reasoning="text", requests_k="text",
            **_UNIT_PRICES,
        ),
        *_need(*_columns("", cost_usd="usd")),
        *_columns("", currency="text", client_cost_usd="usd"),
        *_columns("", priced_at="instant", price_override="text", correction_id="text", corrected_by="text", note="text"),
        *_columns("", observed_by="text", trace_id="text", span_id="text", duplicate_of="text", differs="flag"),
    ),
)  # fmt: skip
"""Unit prices are kept as the exact text of their decimals: they have no fixed number of digits."""

ALERTS: Final = Table(
    "alert_changes",
    (
        *_need(*_columns("", change_id="text", alert_id="text", rule="text", severity="text", state="text", tenant_id="text")),
        *_columns("", agent_id="text", metric="text", value="number", threshold="number"),
        *_need(*_columns("", started_at="instant", at="instant")),
        *_columns("", summary="text", labels="pairs", acknowledged_by="text", note="text"),
    ),
)

DEAD: Final = Table(
    "dead_letters",
    (
        *_need(*_columns("", letter_id="text", processor="text", reason="text")),
        *_columns(
            "", events="integer", tenant_id="text", kind="text", event_id="text", event_type="text", source_subject="text",
            source_stream="text", source_sequence="integer", position="integer", received_at="instant", encoding="text",
            original_bytes="integer", original_sha256="text", content_type="text",
        ),
    ),
)  # fmt: skip
"""Metadata only: the original bytes stay in the stream."""

COVERAGE: Final = Table(
    "coverage",
    (
        *_need(*_columns("", batch_id="text", processor="text", partition="integer")),
        *_columns("", instance="text"),
        *_need(*_columns("", input_stream="text", first_sequence="integer", last_sequence="integer")),
        *_columns(
            "", messages="integer", missing="integer", received="integer", valid="integer", dead="integer", duplicates="integer", skipped="integer",
            valid_by_kind="pairs", at="instant",
        ),
    ),
)  # fmt: skip

TABLES: Final = (*EVENTS.values(), LEDGER, ALERTS, DEAD, COVERAGE)
"""Every table filled line by line from a stream."""
