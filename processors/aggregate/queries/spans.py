"""``run``: the spans of one run, parents before children."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from processors.aggregate.asking import Conditions, Question, Row
from processors.aggregate.rollups import SEEN_TWICE
from schemas.queries import RunParams

COLUMNS: Final = (
    "span_id", "parent_span_id", "depth", "kind", "name", "status", "started_at", "ended_at", "latency_ms", "model", "provider",
    "input_tokens", "output_tokens", "cost_usd", "error_type", "error_message", "event_id", "observed_by", "duplicate_of",
)  # fmt: skip
MOST_EVENTS: Final = 50_000
"""Events of one run that are looked at; the earliest."""


def run(params: RunParams, _: datetime) -> Question:
    """Every run, step, model call and tool call of the run; started and ended events of the same thing are one span.

    A call seen twice is two spans: of the one that charges nothing ``duplicate_of`` names the entry that stands for both.
    """
    given = Conditions().equal(run_id=params.run_id, tenant_id=params.tenant)
    where = given.text()
    common = "tenant_id, event_id::VARCHAR AS event_id, event_type, occurred_at, span_id, parent_span_id"
    tail = "error_type, error_message"
    sql = f"""
        WITH events AS (
            SELECT {common}, 'run' AS kind, run_id AS thing, NULL AS step_id, coalesce(workflow_id, agent_id) AS name,
                duration_ms AS latency_ms, NULL AS model, NULL AS provider, NULL::BIGINT AS input_tokens,
                NULL::BIGINT AS output_tokens, {tail} FROM runs WHERE {where}
            UNION ALL
            SELECT {common}, 'step', step_id, NULL, coalesce(name, step_type), latency_ms, NULL, NULL, NULL, NULL, {tail}
            FROM steps WHERE {where}
            UNION ALL
            SELECT {common}, 'model_call', model_call_id, step_id, model, latency_ms, model, provider, input_tokens, output_tokens,
                {tail} FROM model_calls WHERE {where}
            UNION ALL
            SELECT {common}, 'tool_call', tool_call_id, step_id, name, latency_ms, NULL, NULL, NULL, NULL, {tail}
            FROM tool_calls WHERE {where}
        ),
        spent AS (
            SELECT tenant_id, event_id, sum(cost_usd)::DECIMAL(38,9) AS cost_usd, any_value(observed_by) AS observed_by,
                any_value(duplicate_of) FILTER ({SEEN_TWICE}) AS duplicate_of
            FROM ledger WHERE {where} GROUP BY tenant_id, event_id
        )
        SELECT events.*, spent.cost_usd, spent.observed_by, spent.duplicate_of FROM events LEFT JOIN spent USING (tenant_id, event_id)
        ORDER BY occurred_at, event_id LIMIT {MOST_EVENTS}
    """  # noqa: S608
    return Question(sql, given.parameters, tree, COLUMNS)


def _key(event: Row) -> tuple[object, ...]:
    """What makes two events tell of the same span: runs and steps have a beginning and an end, a call is one event."""
    if event["kind"] in {"run", "step"}:
        return (event["tenant_id"], event["kind"], event["thing"], event["span_id"] if event["kind"] == "step" else None)
    return (event["tenant_id"], event["event_id"])


def _span(events: Sequence[Row]) -> Row:
    """One span of the events that tell of it, in order of time."""
    ends = [event for event in events if not event["event_type"].endswith(".started")]
    begins = [event for event in events if event["event_type"].endswith(".started")]
    last = (ends or begins)[-1]
    ended: datetime | None = ends[-1]["occurred_at"] if ends else None
    latency: float | None = ends[-1]["latency_ms"] if ends else None
    if begins:
        started = begins[0]["occurred_at"]
    else:
        # No further back than time goes: an event from the year 1 must not make its run unreadable.
        lasted = timedelta(milliseconds=min(latency or 0.0, 10.0**12))
        started = last["occurred_at"] - min(lasted, last["occurred_at"] - datetime.min.replace(tzinfo=last["occurred_at"].tzinfo))
    if latency is None and ended is not None and begins:
        latency = (ended - started).total_seconds() * 1000
    word = last["event_type"].rpartition(".")[2]
    first_known = {
        name: next((event[name] for event in reversed(events) if event[name] is not None), None)
        for name in ("span_id", "parent_span_id", "name", "step_id", "thing")
    }
    return {
        **last,
        **first_known,
        "status": "running" if word == "started" else word,
        "started_at": started,
        "ended_at": ended,
        "latency_ms": latency,
    }


def _parents(spans: Sequence[Row]) -> dict[int, int | None]:
    by_span: dict[tuple[str, str], int] = {}
    by_step: dict[tuple[str, str], int] = {}
    roots: dict[str, int] = {}
    for number, span in enumerate(spans):
        tenant = span["tenant_id"]
        if span["span_id"] is not None:
            by_span.setdefault((tenant, span["span_id"]), number)
        if span["kind"] == "step":
            by_step.setdefault((tenant, span["thing"]), number)
        elif span["kind"] == "run":
            roots.setdefault(tenant, number)
    parents: dict[int, int | None] = {}
    for number, span in enumerate(spans):
        tenant = span["tenant_id"]
        found = by_span.get((tenant, span["parent_span_id"])) if span["parent_span_id"] is not None else None
        if (found is None or found == number) and span["step_id"] is not None:
            found = by_step.get((tenant, span["step_id"]))
        if found is None or found == number:
            found = roots.get(tenant)
        parents[number] = None if found == number else found
    return parents


def tree(events: list[Row]) -> list[Row]:
    """The spans of ``events`` (in order of time), each after its parent, siblings by start; a circle of parents is cut open."""
    grouped: dict[tuple[object, ...], list[Row]] = defaultdict(list)
    for event in events:
        grouped[_key(event)].append(event)
    spans = [_span(several) for several in grouped.values()]
    children: dict[int | None, list[int]] = defaultdict(list)
    for number, parent in _parents(spans).items():
        children[parent].append(number)

    def order(number: int) -> tuple[str, datetime, str]:
        return (spans[number]["tenant_id"], spans[number]["started_at"], spans[number]["event_id"])

    told: list[Row] = []
    seen: set[int] = set()

    def tell(root: int) -> None:
        waiting = [(root, 0)]
        while waiting:
            number, depth = waiting.pop()
            if number in seen:
                continue
            seen.add(number)
            told.append({name: depth if name == "depth" else spans[number][name] for name in COLUMNS})
            waiting += [(child, depth + 1) for child in sorted(children[number], key=order, reverse=True)]

    for root in sorted(children[None], key=order):
        tell(root)
    for left in sorted(set(range(len(spans))) - seen, key=order):
        tell(left)
    return told
