"""The named, read-only questions the warehouse answers on ``query.<name>``, and the shape of each answer's rows.

A request is the parameters as a JSON object; the answer is a ``Page``. Money is a decimal string,
times are RFC 3339, latencies milliseconds.
"""

from typing import Annotated, Any, Final, Literal

from pydantic import Field

from schemas.errors import FieldError
from schemas.model import Count, Identifier, Instant, Lenient, Name, Token, Wire
from schemas.sections import Severity

MAX_PAGE: Final = 5000


class _Paged(Wire):
    limit: Annotated[int, Field(ge=1, le=MAX_PAGE)] = 100
    offset: Annotated[int, Field(ge=0)] = 0
    format: Literal["json", "arrow"] = "json"
    """``arrow``: the reply's payload is an Arrow IPC stream, ``Content-Type: application/vnd.apache.arrow.stream``."""


class _Ranged(_Paged):
    tenant: Token | None = None
    agent: Token | None = None
    since: Instant | None = None
    """Inclusive, by ``occurred_at``. Default: the last 24 hours."""
    until: Instant | None = None
    """Exclusive."""


class FleetParams(_Paged):
    """``fleet``: one row an agent, now."""

    tenant: Token | None = None


class RunsParams(_Ranged):
    """``runs``: newest first."""

    status: Literal["running", "completed", "failed"] | None = None
    search: Annotated[str, Field(max_length=128)] | None = None
    """Part of a run id, agent id or workflow id."""


class RunParams(_Paged):
    """``run``: the spans of one run, parents before children."""

    run_id: Identifier
    tenant: Token | None = None


class FailuresParams(_Ranged):
    """``failures``: failed runs, steps, model and tool calls, and requests that failed at a sidecar's proxy; newest first.

    ``count`` is 1, and for requests how many of them failed of the same cause within seconds.
    """

    grouped: bool = False
    """Group by error type, agent and kind."""


class LogsParams(_Ranged):
    """``logs``: lines agents wrote and log records they sent, newest first."""

    level: Literal["debug", "info", "warning", "error", "critical"] | None = None
    """This level and those worse than it."""
    run: Identifier | None = None
    """Only lines of this run."""
    trace: Identifier | None = None
    """Only lines of this trace."""
    search: Annotated[str, Field(min_length=1, max_length=128)] | None = None
    """Part of the message, the logger's name or the error, in whatever case."""


class SpendParams(_Ranged):
    """``spend``: sums of the ledger."""

    by: tuple[Literal["tenant", "agent", "model", "provider", "workflow", "project", "day", "hour"], ...] = ("tenant",)


class LatencyParams(_Ranged):
    """``latency``: percentiles of runs, steps, model calls or tool calls.

    Exact for ranges of up to two days. Longer ones are read from sums, by whole hours: percentiles are at most 2 % off.
    """

    kind: Literal["run", "step", "model_call", "tool_call"] = "model_call"
    by: tuple[Literal["tenant", "agent", "model", "name"], ...] = ("agent",)
    exact: bool = False
    """Also of a longer range: every latency is read, which takes seconds for tens of millions."""


class TimeSeriesParams(_Ranged):
    """``timeseries``: one row a bucket of time."""

    metric: Literal["events", "runs", "errors", "tokens", "cost", "latency"] = "events"
    bucket: Literal["second", "minute", "hour", "day"] = "minute"


class ScopeSpendParams(_Paged):
    """``scope_spend``: what one tenant, workspace, project or agent spent, up to a position of the ledger.

    By the time that counts for money: ``priced_at`` where an entry has it, else ``min(occurred_at, received_at + tolerance)``.
    One row, or one a slot of time that has entries (and one without a slot where none has). Every row carries
    ``applied_sequence``, the ledger position the warehouse had applied when it answered: sums and position are of one snapshot.
    """

    tenant: Token
    workspace: Token | None = None
    project: Token | None = None
    agent: Token | None = None
    since: Instant
    """Inclusive."""
    until: Instant
    """Exclusive."""
    up_to_sequence: Count
    """Entries of later messages of LEDGER are left out."""
    tolerance_s: Annotated[int, Field(ge=0)] = 300
    slot_s: Annotated[int, Field(ge=60)] | None = None
    """Sums per slot of so many seconds since 1970 instead of one."""


class LedgerParams(_Ranged):
    """``ledger``: the entries themselves, with the client's own figure and the difference."""

    provider: Name | None = None
    model: Name | None = None
    """As the event named it, or as the price book does."""
    kind: Literal["charge", "reversal", "adjustment"] | None = None
    entry: Identifier | None = None
    """An entry's id or its beginning, or the id of its event or model call: those entries and what corrects them."""
    correction: Identifier | None = None
    """Only entries of this correction."""
    open: bool = False
    """Only what counts: neither reversals nor entries that were reversed."""
    newest_first: bool = False
    after_sequence: Count = 0
    """Only entries behind this message of LEDGER, and behind ``after_entry`` within it: how pages follow each other."""
    after_entry: Identifier | None = None
    up_to_sequence: Count | None = None
    """Only entries of messages of LEDGER up to this one."""


class LedgerDaysParams(_Ranged):
    """``ledger_days``: sums of the ledger by day and model, beside what clients reported."""

    provider: Name | None = None
    model: Name | None = None


class LedgerDuplicatesParams(_Ranged):
    """``ledger_duplicates``: open charges of calls that an earlier entry charges too."""


class LedgerProblemsParams(_Ranged):
    """``ledger_problems``: corrections that do not fit what they correct."""


class AlertsParams(_Ranged):
    """``alerts``: the latest state of each alert, newest first."""

    state: Literal["firing", "acknowledged", "resolved", "active"] | None = None
    severity: Severity | None = None
    history: bool = False
    """Every change instead of the latest state."""


class ThroughputParams(_Paged):
    """``throughput``: events a second over the last minute, total and by kind."""

    tenant: Token | None = None


class StatusParams(_Paged):
    """``status``: what the warehouse has applied: stream, sequence, lag, rows."""


class AuditParams(_Paged):
    """``audit``: what the warehouse holds of a range of each stream, to be compared with the streams themselves."""

    stream: Literal["EVENTS", "LEDGER", "ALERTS"] | None = None
    """Needed by every check but ``sums``, ``billing`` and ``corrections``; ``messages`` without it is one row a stream."""
    after: Count = 0
    """Messages after this sequence; of EVENTS for ``billing``, of LEDGER for ``corrections``."""
    until: Count | None = None
    """Messages up to this sequence, itself included."""
    tenant: Token | None = None
    """Only what is of this tenant; coverage records are of none."""
    stored_since: Instant | None = None
    """For ``head``: messages stored since then are counted apart."""
    check: Literal["messages", "extent", "problems", "coverage", "tenants", "head", "sums", "billing", "corrections"] = "messages"
    """``messages``: one row for each applied. ``extent``: how many there are, by ten thousand sequences. ``problems``: what
    does not add up. ``coverage``: sums of coverage records. ``tenants``: sums by tenant. ``head``: what is known of messages
    that are gone. ``sums``: rollups that are not the sums of their rows. ``billing``: model calls and charges that do
    not stand one to one. ``corrections``: reversals and adjustments that do not fit what they correct."""


QUERIES: Final[dict[str, type[_Paged]]] = {
    "fleet": FleetParams,
    "runs": RunsParams,
    "run": RunParams,
    "failures": FailuresParams,
    "logs": LogsParams,
    "spend": SpendParams,
    "latency": LatencyParams,
    "timeseries": TimeSeriesParams,
    "scope_spend": ScopeSpendParams,
    "ledger": LedgerParams,
    "ledger_days": LedgerDaysParams,
    "ledger_duplicates": LedgerDuplicatesParams,
    "ledger_problems": LedgerProblemsParams,
    "alerts": AlertsParams,
    "throughput": ThroughputParams,
    "status": StatusParams,
    "audit": AuditParams,
}
"""The parameters of each query."""


class Page(Lenient):
    """An answer in JSON."""

    query: str
    columns: tuple[str, ...]
    rows: tuple[dict[str, Any], ...]
    next_offset: int | None = None
    """Where the next page starts; absent on the last."""
    as_of: Instant
    elapsed_ms: float


class QueryError(Lenient):
    """An answer that is none."""

    query: str
    message: str
    errors: tuple[FieldError, ...] = ()
