"""The named, read-only questions the warehouse answers on ``query.<name>``, and the shape of each answer's rows.

A request is the parameters as a JSON object; the answer is a ``Page``. Money is a decimal string,
times are RFC 3339, latencies milliseconds.
"""

from typing import Annotated, Any, Final, Literal

from pydantic import Field

from schemas.errors import FieldError
from schemas.model import Count, Identifier, Instant, Lenient, Token, Wire
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
    """``failures``: failed runs, steps, model and tool calls, newest first."""

    grouped: bool = False
    """Group by error type, agent and kind."""


class SpendParams(_Ranged):
    """``spend``: sums of the ledger."""

    by: tuple[Literal["tenant", "agent", "model", "provider", "workflow", "project", "day", "hour"], ...] = ("tenant",)


class LatencyParams(_Ranged):
    """``latency``: percentiles of runs, steps, model calls or tool calls."""

    kind: Literal["run", "step", "model_call", "tool_call"] = "model_call"
    by: tuple[Literal["tenant", "agent", "model", "name"], ...] = ("agent",)


class TimeSeriesParams(_Ranged):
    """``timeseries``: one row a bucket of time."""

    metric: Literal["events", "runs", "errors", "tokens", "cost", "latency"] = "events"
    bucket: Literal["second", "minute", "hour", "day"] = "minute"


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
    """``audit``: what the warehouse holds of each stream, to be compared with the streams themselves."""

    stream: Literal["EVENTS", "LEDGER", "ALERTS"] | None = None
    """One row for each message applied; without it one row a stream."""
    after: Count = 0
    """Messages after this sequence."""
    check: Literal["messages", "billing"] = "messages"
    """``billing``: model calls and ledger entries that do not stand one to one."""


QUERIES: Final[dict[str, type[_Paged]]] = {
    "fleet": FleetParams,
    "runs": RunsParams,
    "run": RunParams,
    "failures": FailuresParams,
    "spend": SpendParams,
    "latency": LatencyParams,
    "timeseries": TimeSeriesParams,
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
