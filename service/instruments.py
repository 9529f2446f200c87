"""Every metric of every service, in one place."""

from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.process_collector import ProcessCollector

REGISTRY: Final = CollectorRegistry()
ProcessCollector(registry=REGISTRY)

_LATENCY: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
_SIZES: Final = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000)

EVENTS_RECEIVED: Final = Counter(
    "agentops_events_received_total", "Events read by validate, before judgement.", ["processor"], registry=REGISTRY
)
EVENTS_VALID: Final = Counter("agentops_events_valid_total", "Events validated and stored.", ["kind"], registry=REGISTRY)
EVENTS_DUPLICATE: Final = Counter("agentops_events_duplicate_total", "Events recognised as already stored.", registry=REGISTRY)
DEAD_LETTERS: Final = Counter(
    "agentops_dead_letters_total", "Events parked as dead letters.", ["processor", "reason"], registry=REGISTRY
)
DEAD_ORIGINALS_OMITTED: Final = Counter(
    "agentops_dead_originals_omitted_total",
    "Dead letters that keep only the hash of their original, because their tenant's quota was used up.",
    ["processor"],
    registry=REGISTRY,
)
CONTENT_BYTES_DROPPED: Final = Counter(
    "agentops_content_bytes_dropped_total",
    "Bytes of prompts, completions and the like that a policy dropped.",
    ["at"],
    registry=REGISTRY,
)
FINDINGS_REDACTED: Final = Counter(
    "agentops_findings_redacted_total", "Findings replaced: addresses, numbers, keys.", ["at", "kind"], registry=REGISTRY
)
VALUES_TRUNCATED: Final = Counter(
    "agentops_values_truncated_total", "Values cut to the size an event may have.", ["at"], registry=REGISTRY
)
CONTENT_STORED: Final = Counter(
    "agentops_content_stored_total",
    "Large content by what became of it: stored, or lost to its limits.",
    ["outcome"],
    registry=REGISTRY,
)
EVENTS_FLAGGED: Final = Counter(
    "agentops_events_flagged_total", "Accepted events whose own time is odd.", ["flag"], registry=REGISTRY
)
BATCH_EVENTS: Final = Histogram(
    "agentops_batch_events", "Events one fetch brought.", ["processor"], buckets=_SIZES, registry=REGISTRY
)
BATCH_SECONDS: Final = Histogram(
    "agentops_batch_seconds", "Time from fetch to commit.", ["processor"], buckets=_LATENCY, registry=REGISTRY
)
LAG_MESSAGES: Final = Gauge("agentops_lag_messages", "Messages not yet read.", ["processor"], registry=REGISTRY)
END_TO_END_SECONDS: Final = Histogram(
    "agentops_end_to_end_seconds", "From arrival in JetStream to committed in the warehouse.", buckets=_LATENCY, registry=REGISTRY
)
READER_RESETS: Final = Counter(
    "agentops_reader_resets_total",
    "Times a stream had to be read again from a known position (redeliveries).",
    ["processor"],
    registry=REGISTRY,
)
FENCED: Final = Counter(
    "agentops_fenced_total",
    "Times this instance was refused because another had covered further.",
    ["processor"],
    registry=REGISTRY,
)
LEASES_HELD: Final = Gauge(
    "agentops_leases_held", "Partitions this instance works on; 0 on a standby.", ["processor"], registry=REGISTRY
)
LEDGER_ENTRIES: Final = Counter("agentops_ledger_entries_total", "Ledger entries written.", ["reason"], registry=REGISTRY)
LEDGER_USD: Final = Counter(
    "agentops_ledger_usd_total", "US dollars billed, for graphs; the ledger itself is exact.", registry=REGISTRY
)
BUDGET_CROSSINGS: Final = Counter(
    "agentops_budget_crossings_total", "Budget thresholds reached.", ["enforcement"], registry=REGISTRY
)
BUDGET_DETECTION_SECONDS: Final = Histogram(
    "agentops_budget_detection_seconds",
    "From a ledger entry's arrival in JetStream to the crossing it caused being written and its flag set.",
    buckets=_LATENCY,
    registry=REGISTRY,
)
WAREHOUSE_ROWS: Final = Counter("agentops_warehouse_rows_total", "Rows committed.", ["table"], registry=REGISTRY)
QUERY_SECONDS: Final = Histogram(
    "agentops_query_seconds", "Time to answer a named query.", ["query"], buckets=_LATENCY, registry=REGISTRY
)
QUERY_ERRORS: Final = Counter("agentops_query_errors_total", "Named queries that failed.", ["query"], registry=REGISTRY)
HEALTH_CHANGES: Final = Counter("agentops_health_changes_total", "Changes of an agent's health.", ["to"], registry=REGISTRY)
AGENTS: Final = Gauge("agentops_agents", "Agents by health.", ["health"], registry=REGISTRY)
ALERT_CHANGES: Final = Counter("agentops_alert_changes_total", "Changes of alert states.", ["rule", "state"], registry=REGISTRY)
NOTIFICATIONS: Final = Counter(
    "agentops_notifications_total", "Notifications by channel and outcome.", ["channel", "outcome"], registry=REGISTRY
)
COMMANDS: Final = Counter("agentops_commands_total", "Commands carried out.", ["command", "status"], registry=REGISTRY)
COMMAND_SECONDS: Final = Histogram(
    "agentops_command_seconds", "Time to carry a command out.", ["command"], buckets=_LATENCY, registry=REGISTRY
)
RESTARTS: Final = Counter("agentops_restarts_total", "Restarts of agents.", ["agent_id", "cause"], registry=REGISTRY)
DETECT_SECONDS: Final = Histogram(
    "agentops_detect_seconds", "From trouble to its detection.", buckets=_LATENCY, registry=REGISTRY
)
RECOVER_SECONDS: Final = Histogram(
    "agentops_recover_seconds", "From trouble to healthy again.", buckets=_LATENCY, registry=REGISTRY
)
PROXY_REQUESTS: Final = Counter(
    "agentops_proxy_requests_total", "Requests through the sidecar's proxy.", ["outcome"], registry=REGISTRY
)
PROXY_SECONDS: Final = Histogram("agentops_proxy_seconds", "Latency of those requests.", buckets=_LATENCY, registry=REGISTRY)
METERED_CALLS: Final = Counter(
    "agentops_metered_calls_total", "Model calls through the metering proxy.", ["provider", "outcome"], registry=REGISTRY
)
METERED_SECONDS: Final = Histogram(
    "agentops_metered_seconds", "Their length, to the last byte.", buckets=_LATENCY, registry=REGISTRY
)
SPOOL_BYTES: Final = Gauge("agentops_spool_bytes", "Bytes waiting on disk for NATS.", registry=REGISTRY)
SPOOL_DROPPED: Final = Counter(
    "agentops_spool_dropped_total",
    "Events given up because the spool was full: the oldest metrics, logs and heartbeats, and own ones that found no room.",
    ["kind"],
    registry=REGISTRY,
)
DOOR_EVENTS: Final = Counter(
    "agentops_door_events_total", "Events offered at a sidecar's or gateway's door.", ["outcome"], registry=REGISTRY
)
GATEWAY_REQUESTS: Final = Counter(
    "agentops_gateway_requests_total", "Requests at a gateway's doors.", ["door", "status"], registry=REGISTRY
)
GATEWAY_SECONDS: Final = Histogram(
    "agentops_gateway_seconds", "From a request's head to its answer.", ["door"], buckets=_LATENCY, registry=REGISTRY
)
GATEWAY_HELD_BYTES: Final = Gauge(
    "agentops_gateway_held_bytes", "Bytes of bodies being read, judged or published.", registry=REGISTRY
)
GATEWAY_KEYS_REFUSED: Final = Counter(
    "agentops_gateway_keys_refused_total", "Requests without a good API key.", ["reason"], registry=REGISTRY
)
API_REQUESTS: Final = Counter("agentops_api_requests_total", "Requests at the REST API.", ["route", "status"], registry=REGISTRY)
API_SECONDS: Final = Histogram(
    "agentops_api_seconds",
    "From a request's head to its answer, live streams left out.",
    ["route"],
    buckets=_LATENCY,
    registry=REGISTRY,
)
API_STREAMS: Final = Gauge("agentops_api_streams", "Live streams that are open.", registry=REGISTRY)
API_REFUSED: Final = Counter(
    "agentops_api_refused_total", "Requests at the REST API without a good key or token.", ["reason"], registry=REGISTRY
)
MIRROR_WRITES: Final = Counter(
    "agentops_mirror_writes_total",
    "Documents written to Firestore, or found to have been changed by others.",
    ["outcome"],
    registry=REGISTRY,
)
MIRROR_PENDING: Final = Gauge("agentops_mirror_pending", "Agents whose document in Firestore is old.", registry=REGISTRY)
CONNECTIONS_REFUSED: Final = Counter(
    "agentops_connections_refused_total",
    "Connections closed at a door: too many at once, or a head that did not arrive in time.",
    ["reason"],
    registry=REGISTRY,
)
OTLP_REQUESTS: Final = Counter(
    "agentops_otlp_requests_total", "Requests at the OTLP doors.", ["door", "signal", "answer"], registry=REGISTRY
)
OTLP_ITEMS: Final = Counter(
    "agentops_otlp_items_total", "Spans, log records and data points offered there.", ["signal", "outcome"], registry=REGISTRY
)
OTLP_TRACES_FORGOTTEN: Final = Counter(
    "agentops_otlp_traces_forgotten_total",
    "Traces forgotten before their time, because too many spans were remembered to tell wrappers from calls.",
    registry=REGISTRY,
)
AGENT_LOG_LINES: Final = Counter(
    "agentops_agent_log_lines_total", "Entries in an agent's output, by what became of them.", ["outcome"], registry=REGISTRY
)
PROBE_FAILURES: Final = Counter("agentops_probe_failures_total", "Failed health probes.", ["probe"], registry=REGISTRY)
SESSIONS: Final = Gauge("agentops_dashboard_sessions", "Open browser tabs.", registry=REGISTRY)
DOCUMENTS: Final = Gauge(
    "agentops_dashboard_documents", "Tabs' documents held in memory, closed ones included.", registry=REGISTRY
)
LOOP_ERRORS: Final = Counter("agentops_loop_errors_total", "Errors caught at the edge of a loop.", ["loop"], registry=REGISTRY)
