"""Every query's columns and figures, against the same sums done in plain Python."""

import random
import statistics
from collections import defaultdict
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pytest
from nats import micro
from nats.aio.client import Client

from processors.aggregate.answering import BUILD
from schemas.alerts import AlertChange
from schemas.events import AcceptedEvent
from schemas.ledger import LedgerEntry
from schemas.queries import QUERIES, QueryError
from streams import subjects
from streams.apply import apply
from streams.connect import connect
from streams.embedded import EmbeddedServer
from tests.processors_aggregate.conftest import Running
from tests.processors_aggregate.wire import Wire, accepted, ask, charge

START = datetime.now(UTC).replace(microsecond=0) - timedelta(hours=3)


class Fleet:
    """A small history and what is true of it."""

    def __init__(self) -> None:
        self.chance = random.Random(7)
        self.events: list[AcceptedEvent] = []
        self.entries: list[LedgerEntry] = []
        for number in range(60):
            self._run(number)
        for agent in ("planner", "writer"):
            self.events.append(
                accepted(
                    "agent.heartbeat",
                    tenant="acme",
                    at=START,
                    run={"agent_id": agent},
                    agent={"name": f"The {agent}", "version": "1.0"},
                )
            )
            self.events.append(
                accepted(
                    "agent.heartbeat",
                    tenant="acme",
                    at=START + timedelta(hours=1),
                    run={"agent_id": agent},
                    agent={"name": f"The {agent}", "version": "2.0"},
                )
            )

    def _run(self, number: int) -> None:
        tenant, agent = ("acme", "planner") if number % 3 else ("acme", "writer")
        if number % 10 == 9:
            tenant = "other"
        at = START + timedelta(minutes=number * 2, microseconds=number)
        run = {"agent_id": agent, "run_id": f"run-{number}", "workflow_id": "summary" if number % 2 else "chat"}

        def add(event_type: str, after_s: float, **sections: Any) -> AcceptedEvent:
            made = accepted(
                event_type, tenant=tenant, run={**run, **sections.pop("more", {})}, at=at + timedelta(seconds=after_s), **sections
            )
            self.events.append(made)
            return made

        add("run.started", 0)
        add("step.started", 1, step={"step_id": "s1", "step_type": "plan"})
        for index in range(number % 4):
            call: dict[str, Any] = {
                "model_call_id": f"c{number}-{index}",
                "provider": "openai",
                "model": self.chance.choice(["gpt-4o", "gpt-4o-mini"]),
                "step_id": "s1",
            }
            call["latency_ms"] = self.chance.lognormvariate(6, 1)
            usage = {
                "input_tokens": self.chance.randrange(1, 5000),
                "output_tokens": self.chance.randrange(1, 500),
                "cache_read_tokens": 1,
            }
            made = add("model_call.completed", 2 + index, model_call=call, resource_usage=usage)
            unpriced = number % 15 == 6
            cost = "0" if unpriced else f"{self.chance.random():.9f}"
            self.entries.append(charge(made, cost, reason="unpriced" if unpriced else "priced"))
        add(
            "tool_call.completed" if number % 5 else "tool_call.failed",
            6,
            tool_call={"tool_call_id": "t", "name": "search", "latency_ms": 5.0},
        )
        add("step.completed", 7, step={"step_id": "s1", "step_type": "plan", "latency_ms": 6000.0})
        if number % 7 == 3:
            add("run.failed", 10, more={"duration_ms": 10_000.0 + number}, error={"type": "Boom", "message": f"m{number}"})
        elif number != 58:
            add("run.completed", 9, more={"duration_ms": 9_000.0 + number})

    def of(self, event_type: str, **where: Any) -> list[AcceptedEvent]:
        return [
            one for one in self.events
            if one.event_type.startswith(event_type)
            and all(getattr(one.run, key, None) == value or getattr(one.tenant, key, None) == value for key, value in where.items())
        ]  # fmt: skip


@pytest.fixture(scope="module")
def fleet() -> Fleet:
    return Fleet()


@pytest.fixture(scope="module")
async def asked(tmp_path_factory: pytest.TempPathFactory, fleet: Fleet) -> AsyncIterator[tuple[Client, Running]]:
    """One system for all questions of this module: they change nothing."""
    directory: Path = tmp_path_factory.mktemp("asking")
    server = EmbeddedServer(directory / "nats")
    await server.start()
    client = await connect(server.settings(), "test")
    await apply(client)
    running = Running(server, directory / "data", client)
    await running.start()
    wire = Wire(client)
    half = len(fleet.events) // 2
    await wire.events(*fleet.events[:half], per_message=7)
    await running.caught_up()
    assert running.processor._warehouse is not None
    # Half of it in folded sums, half in facts: answers must not differ.
    running.processor._warehouse.fold()
    await wire.events(*fleet.events[half:], per_message=7)
    await wire.ledger(*fleet.entries)
    for number, state in enumerate(("firing", "acknowledged", "firing", "resolved")):
        alert = "a1" if number < 2 else "a2"
        await wire.alert(
            AlertChange(
                change_id=f"c{number}", alert_id=alert, rule="errors", severity="critical" if alert == "a1" else "warning", state=state,  # type: ignore[arg-type]
                tenant_id="acme", agent_id="planner", metric="error_rate", value=0.5, threshold=0.25, started_at=START,
                at=START + timedelta(minutes=number), summary="too many errors", labels={"team": "x"},
            )
        )  # fmt: skip
    await running.caught_up()
    yield client, running
    await running.stop()
    await client.close()
    await server.stop()


def test_every_query_of_the_contract_is_answered() -> None:
    assert set(BUILD) == set(QUERIES)


async def test_fleet(asked: tuple[Client, Running], fleet: Fleet) -> None:
    page = await ask(asked[0], "fleet", tenant="acme")
    assert page.columns == (
        "tenant_id", "agent_id", "name", "version", "last_seen", "runs_24h", "failures_24h", "cost_usd_24h", "tokens_24h",
        "latency_p50_ms", "latency_p95_ms",
    )  # fmt: skip
    assert [row["agent_id"] for row in page.rows] == ["planner", "writer"]
    for row in page.rows:
        agent = row["agent_id"]
        calls = fleet.of("model_call", agent_id=agent, tenant_id="acme")
        durations = sorted(
            one.run.duration_ms for one in fleet.of("run", agent_id=agent, tenant_id="acme") if one.run.duration_ms
        )
        costs = sum(
            (entry.cost_usd for entry in fleet.entries if (entry.agent_id, entry.tenant_id) == (agent, "acme")), Decimal(0)
        )
        assert (row["name"], row["version"]) == (f"The {agent}", "2.0")
        assert row["runs_24h"] == len(fleet.of("run.started", agent_id=agent, tenant_id="acme"))
        assert row["failures_24h"] == len(fleet.of("run.failed", agent_id=agent, tenant_id="acme"))
        assert Decimal(row["cost_usd_24h"]) == costs
        assert row["tokens_24h"] == sum(
            one.resource_usage.input_tokens + one.resource_usage.output_tokens for one in calls if one.resource_usage
        )
        assert row["latency_p50_ms"] == pytest.approx(statistics.median_low(durations), rel=0.021)
        assert row["latency_p95_ms"] == pytest.approx(durations[-(-len(durations) * 95 // 100) - 1], rel=0.021)


async def test_runs(asked: tuple[Client, Running], fleet: Fleet) -> None:
    page = await ask(asked[0], "runs", tenant="acme", limit=1000)
    assert page.columns == (
        "run_id", "tenant_id", "agent_id", "workflow_id", "status", "started_at", "ended_at", "duration_ms", "model_calls",
        "tool_calls", "input_tokens", "output_tokens", "cost_usd", "error_type", "error_message", "trace_id",
    )  # fmt: skip
    numbers = [int(row["run_id"].removeprefix("run-")) for row in page.rows]
    assert numbers == sorted((n for n in range(60) if n % 10 != 9), reverse=True)
    for row in page.rows:
        number = int(row["run_id"].removeprefix("run-"))
        calls = fleet.of("model_call", run_id=row["run_id"])
        assert row["status"] == ("failed" if number % 7 == 3 else "completed" if number != 58 else "running")
        assert row["duration_ms"] == ((10_000.0 if number % 7 == 3 else 9_000.0) + number if number != 58 else None)
        assert datetime.fromisoformat(row["started_at"]) == START + timedelta(minutes=number * 2, microseconds=number)
        assert (row["model_calls"], row["tool_calls"]) == (number % 4, 1)
        assert row["input_tokens"] == sum(one.resource_usage.input_tokens for one in calls if one.resource_usage)
        assert Decimal(row["cost_usd"]) == sum(
            (entry.cost_usd for entry in fleet.entries if entry.run_id == row["run_id"]), Decimal(0)
        )
        assert row["error_message"] == (f"m{number}" if number % 7 == 3 else None)


async def test_runs_are_filtered_and_paged(asked: tuple[Client, Running]) -> None:
    client = asked[0]
    failed = await ask(client, "runs", status="failed", limit=1000)
    assert {row["run_id"] for row in failed.rows} == {f"run-{n}" for n in range(60) if n % 7 == 3}
    assert [row["run_id"] for row in (await ask(client, "runs", status="running")).rows] == ["run-58"]
    assert [row["run_id"] for row in (await ask(client, "runs", search="RUN-12")).rows] == ["run-12"]
    since, until = START + timedelta(minutes=20), START + timedelta(minutes=30)
    ranged = await ask(client, "runs", since=since.isoformat(), until=until.isoformat())
    assert [row["run_id"] for row in ranged.rows] == [f"run-{n}" for n in range(14, 9, -1)]
    seen, offset = [], 0
    while True:
        page = await ask(client, "runs", limit=13, offset=offset)
        seen += [row["run_id"] for row in page.rows]
        if page.next_offset is None:
            break
        assert page.next_offset == offset + 13
        offset = page.next_offset
    assert len(seen) == len(set(seen)) == 60


async def test_run_gives_its_spans_parents_first(asked: tuple[Client, Running], fleet: Fleet) -> None:
    page = await ask(asked[0], "run", run_id="run-3")
    assert page.columns == (
        "span_id", "parent_span_id", "depth", "kind", "name", "status", "started_at", "ended_at", "latency_ms", "model", "provider",
        "input_tokens", "output_tokens", "cost_usd", "error_type", "error_message", "event_id", "observed_by",
        "duplicate_of",
    )  # fmt: skip
    assert [(row["kind"], row["depth"]) for row in page.rows] == [
        ("run", 0), ("step", 1), ("model_call", 2), ("model_call", 2), ("model_call", 2), ("tool_call", 1),
    ]  # fmt: skip
    assert [row["status"] for row in page.rows] == ["failed", "completed", "completed", "completed", "completed", "completed"]
    call = fleet.of("model_call", run_id="run-3")[0]
    row = next(row for row in page.rows if row["event_id"] == str(call.event_id))
    assert call.model_call is not None
    assert call.model_call.latency_ms is not None
    began = call.occurred_at - timedelta(milliseconds=call.model_call.latency_ms)
    assert abs(datetime.fromisoformat(row["started_at"]) - began) < timedelta(milliseconds=1)
    assert Decimal(row["cost_usd"]) == next(entry.cost_usd for entry in fleet.entries if entry.event_id == str(call.event_id))
    assert (await ask(asked[0], "run", run_id="run-3", tenant="other")).rows == ()
    assert (await ask(asked[0], "run", run_id="run-3", limit=2)).next_offset == 2


async def test_failures_one_by_one_and_grouped(asked: tuple[Client, Running], fleet: Fleet) -> None:
    failed = [one for one in fleet.events if one.event_type.endswith(".failed")]
    page = await ask(asked[0], "failures", limit=1000)
    assert page.columns == (
        "occurred_at",
        "tenant_id",
        "agent_id",
        "run_id",
        "kind",
        "name",
        "error_type",
        "error_message",
        "event_id",
        "count",
    )
    assert [row["event_id"] for row in page.rows] == [
        str(one.event_id) for one in sorted(failed, key=lambda one: one.occurred_at, reverse=True)
    ]
    grouped = await ask(asked[0], "failures", grouped=True)
    assert grouped.columns == (
        "error_type",
        "agent_id",
        "kind",
        "count",
        "first_at",
        "last_at",
        "sample_message",
        "sample_run_id",
    )
    counts: dict[tuple[str, str, str], int] = defaultdict(int)
    for one in failed:
        assert one.error is not None
        counts[one.error.type, one.run.agent_id, one.kind] += 1
    assert {(row["error_type"], row["agent_id"], row["kind"]): row["count"] for row in grouped.rows} == counts


async def test_requests_that_failed_at_a_sidecars_proxy_are_failures_and_no_runs(
    client: Client, running: Running, wire: Wire
) -> None:
    """Whoever breaks an agent sees what its callers met: in the failures and in errors a second, in no count of runs."""
    at = datetime.now(UTC).replace(microsecond=0) - timedelta(seconds=30)

    def failed(*samples: tuple[str, float, str]) -> AcceptedEvent:
        told = [{"name": name, "value": value, "unit": unit} for name, value, unit in samples]
        return accepted("metric.sampled", at=at, metrics={"errors": 7, "samples": told}, run={"agent_id": "planner"})

    await wire.events(
        failed(
            ("injected_fault: POST /chat: answered 500 by a fault instead of the agent", 5.0, "failed_requests"),
            ("agent_unreachable: GET /x: no process: killed", 2.0, "failed_requests"),
            ("queue", 9.0, "messages"),
        ),
        # Anyone may publish a measurement: it must not break the sums of others.
        failed(("liar: GET /: so it says", 1e300, "failed_requests"), ("liar: GET /: so it says", -1e300, "failed_requests")),
        accepted("run.failed", at=at, run={"agent_id": "planner", "run_id": "r"}),
    )
    await running.caught_up()
    page = await ask(client, "failures", agent="planner")
    told = {(row["kind"], row["error_type"]): (row["name"], row["error_message"], row["count"]) for row in page.rows}
    assert told["request", "injected_fault"] == ("POST /chat", "answered 500 by a fault instead of the agent", 5)
    assert told["request", "agent_unreachable"] == ("GET /x", "no process: killed", 2)
    assert ("request", "queue") not in told
    grouped = await ask(client, "failures", grouped=True)
    assert {row["error_type"]: row["count"] for row in grouped.rows}["injected_fault"] == 5
    for bucket in ("second", "hour"):
        series = await ask(
            client, "timeseries", metric="errors", bucket=bucket, limit=5000, since=(at - timedelta(minutes=1)).isoformat()
        )
        assert sum(row["value"] for row in series.rows) == 8
        assert sum(row["count"] for row in series.rows) == 8
    fleet = await ask(client, "fleet")
    assert [(row["runs_24h"], row["failures_24h"]) for row in fleet.rows] == [(1, 1)]
    assert (await ask(client, "spend")).rows == ()


async def test_log_lines_are_found_by_agent_level_run_trace_text_and_time(client: Client, running: Running, wire: Wire) -> None:
    """Newest first; a level stands for those worse than it, and a text is found in whatever case."""
    at = datetime.now(UTC).replace(microsecond=0) - timedelta(minutes=30)
    trace = {"trace_id": "0af7651916cd43dd8448eb211c80319c", "span_id": "b7ad6b7169203331"}

    def line(number: int, level: str, message: str, **given: Any) -> AcceptedEvent:
        run = {"agent_id": "planner", **given.pop("run", {})}
        said = {"level": level, "message": message} | given.pop("log", {})
        return accepted("log.emitted", at=at + timedelta(minutes=number), run=run, log=said, **given)

    await wire.events(
        line(0, "debug", "opening the shop"),
        line(1, "info", "asked for 100% of it", log={"logger": "Shop.Orders"}),
        line(2, "warning", "slow answer", run={"run_id": "run-1"}, trace=trace),
        line(3, "error", "no answer", run={"run_id": "run-1"}, error={"type": "TimeoutError", "message": "Timed OUT"}),
        line(4, "critical", "giving up", run={"agent_id": "writer"}),
        line(5, "error", "of others", tenant="other"),
    )
    await running.caught_up()

    async def found(**params: Any) -> list[str]:
        return [row["message"] for row in (await ask(client, "logs", **params)).rows]

    everything = ["of others", "giving up", "no answer", "slow answer", "asked for 100% of it", "opening the shop"]
    assert await found() == everything
    assert await found(tenant="other") == ["of others"]
    assert await found(agent="writer") == ["giving up"]
    assert await found(level="warning", tenant="acme") == ["giving up", "no answer", "slow answer"]
    assert await found(level="critical") == ["giving up"]
    assert await found(run="run-1") == ["no answer", "slow answer"]
    assert await found(trace=trace["trace_id"]) == ["slow answer"]
    assert await found(search="ANSWER") == ["no answer", "slow answer"]
    assert await found(search="shop.orders") == ["asked for 100% of it"]
    assert await found(search="timed out") == ["no answer"]
    assert await found(search="100%") == ["asked for 100% of it"], "it is a text, no pattern"
    assert await found(since=(at + timedelta(minutes=2)).isoformat(), until=(at + timedelta(minutes=4)).isoformat()) == [
        "no answer",
        "slow answer",
    ]
    first = await ask(client, "logs", limit=4)
    assert first.next_offset == 4
    assert await found(limit=4, offset=4) == everything[4:]
    failed = (await ask(client, "logs", search="timed out")).rows[0]
    assert (failed["level"], failed["error_type"], failed["error_message"]) == ("error", "TimeoutError", "Timed OUT")
    with pytest.raises(AssertionError, match="level"):
        await ask(client, "logs", level="loud")


async def test_spend_is_exact(asked: tuple[Client, Running], fleet: Fleet) -> None:
    page = await ask(asked[0], "spend", by=["tenant", "model", "day"], tenant="acme")
    assert page.columns == (
        "tenant_id", "model", "day", "cost_usd", "entries", "unpriced", "input_tokens", "output_tokens", "cache_read_tokens",
        "cache_write_tokens",
    )  # fmt: skip
    wanted: dict[tuple[str, str], list[LedgerEntry]] = defaultdict(list)
    for entry in fleet.entries:
        if entry.tenant_id == "acme":
            wanted[entry.model, entry.occurred_at.date().isoformat()].append(entry)
    assert {(row["model"], row["day"]) for row in page.rows} == set(wanted)
    for row in page.rows:
        entries = wanted[row["model"], row["day"]]
        assert Decimal(row["cost_usd"]) == sum(entry.cost_usd for entry in entries)
        assert row["entries"] == len(entries)
        assert row["unpriced"] == sum(entry.reason == "unpriced" for entry in entries)
        assert row["input_tokens"] == sum(entry.input_tokens for entry in entries)
        assert row["cache_read_tokens"] == len(entries)
    [total] = (await ask(asked[0], "spend", by=[])).rows
    assert Decimal(total["cost_usd"]) == sum(entry.cost_usd for entry in fleet.entries)
    every = ["tenant", "agent", "model", "provider", "workflow", "project", "day", "hour"]
    assert (await ask(asked[0], "spend", by=every)).columns[:8] == (
        "tenant_id", "agent_id", "model", "provider", "workflow_id", "project_id", "day", "hour",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "by"), [("model_call", ["model", "agent"]), ("run", ["tenant"]), ("tool_call", []), ("run", ["name"])]
)
async def test_latency_of_long_ranges_is_read_from_the_sums_two_per_cent_off_at_most(
    asked: tuple[Client, Running], kind: str, by: list[str]
) -> None:
    since = (START - timedelta(days=40)).isoformat()
    told = await ask(asked[0], "latency", kind=kind, by=by, since=since, limit=1000)
    exact = await ask(asked[0], "latency", kind=kind, by=by, since=since, exact=True, limit=1000)
    assert told.columns == exact.columns
    keys = exact.columns[: len(by)]
    wanted = {tuple(row[key] for key in keys): row for row in exact.rows}
    assert {tuple(row[key] for key in keys) for row in told.rows} == set(wanted)
    for row in told.rows:
        of = wanted[tuple(row[key] for key in keys)]
        assert (row["count"], row["max_ms"]) == (of["count"], pytest.approx(of["max_ms"]))
        if row["count"] > 40:
            assert [row[name] for name in ("p50_ms", "p95_ms")] == pytest.approx(
                [of[name] for name in ("p50_ms", "p95_ms")], rel=0.06
            )


async def test_latency_percentiles_are_exact(asked: tuple[Client, Running], fleet: Fleet) -> None:
    page = await ask(asked[0], "latency", by=["model"])
    assert page.columns == ("model", "count", "p50_ms", "p95_ms", "p99_ms", "max_ms")
    for row in page.rows:
        found = [
            one.model_call.latency_ms for one in fleet.of("model_call") if one.model_call and one.model_call.model == row["model"]
        ]
        values = sorted(value for value in found if value is not None)
        cuts = statistics.quantiles(values, n=100, method="inclusive")
        assert row["count"] == len(values)
        assert (row["p50_ms"], row["p95_ms"], row["p99_ms"], row["max_ms"]) == pytest.approx(
            (cuts[49], cuts[94], cuts[98], values[-1])
        )
    assert (await ask(asked[0], "latency", kind="step", by=["name", "agent", "tenant"])).columns[:3] == (
        "name",
        "agent_id",
        "tenant_id",
    )


@pytest.mark.parametrize("bucket", ["second", "minute", "hour", "day"])
async def test_timeseries_has_a_row_for_every_bucket(asked: tuple[Client, Running], fleet: Fleet, bucket: str) -> None:
    length = {"second": 1, "minute": 60, "hour": 3600, "day": 86400}[bucket]
    since, until = START, START + timedelta(hours=1)
    inside = [one for one in fleet.events if since <= one.occurred_at < until]

    async def series(metric: str) -> dict[int, Any]:
        page = await ask(
            asked[0], "timeseries", metric=metric, bucket=bucket, since=since.isoformat(), until=until.isoformat(), limit=5000
        )
        assert page.columns == (("at", "value", "count", "p50", "p95") if metric == "latency" else ("at", "value", "count"))
        return {int(datetime.fromisoformat(row["at"]).timestamp()) // length: row for row in page.rows}

    events = await series("events")
    assert (
        len(events)
        == {"second": 3600, "minute": 61 if since.second else 60, "hour": 2 if since.minute or since.second else 1, "day": 1}[
            bucket
        ]
        or bucket == "day"
    )
    if bucket in {"second", "minute"}:
        wanted: dict[int, int] = defaultdict(int)
        for one in inside:
            wanted[int(one.occurred_at.timestamp()) // length] += 1
        edge = {min(events), max(events)} if since.second else set()
        assert {at: row["value"] for at, row in events.items() if row["value"] and at not in edge} == {
            at: n for at, n in wanted.items() if at not in edge
        }
    for metric in ("runs", "errors", "tokens", "cost", "latency"):
        rows = await series(metric)
        assert len(rows) == len(events)
        assert all(isinstance(row["value"], str) for row in rows.values()) == (metric == "cost")


async def test_timeseries_sums_are_the_sums_of_the_events(asked: tuple[Client, Running], fleet: Fleet) -> None:
    """Over all of the history, from sums and facts together."""
    since, until = START - timedelta(hours=1), START + timedelta(hours=4)

    async def total(metric: str) -> Decimal:
        page = await ask(
            asked[0], "timeseries", metric=metric, bucket="minute", since=since.isoformat(), until=until.isoformat(), limit=5000
        )
        return sum((Decimal(row["value"]) for row in page.rows), Decimal(0))

    calls = fleet.of("model_call")
    assert await total("events") == len(fleet.events)
    assert await total("runs") == 59
    assert await total("errors") == sum(one.event_type.endswith(".failed") for one in fleet.events)
    assert await total("tokens") == sum(
        one.resource_usage.input_tokens + one.resource_usage.output_tokens for one in calls if one.resource_usage
    )
    assert await total("cost") == sum(entry.cost_usd for entry in fleet.entries)


async def test_alerts_latest_and_history(asked: tuple[Client, Running]) -> None:
    client = asked[0]
    page = await ask(client, "alerts")
    assert page.columns == (
        "change_id", "alert_id", "rule", "severity", "state", "tenant_id", "agent_id", "metric", "value", "threshold", "started_at",
        "at", "summary", "labels", "acknowledged_by", "note",
    )  # fmt: skip
    assert [(row["alert_id"], row["state"]) for row in page.rows] == [("a2", "resolved"), ("a1", "acknowledged")]
    assert page.rows[0]["labels"] == {"team": "x"}
    assert [row["change_id"] for row in (await ask(client, "alerts", history=True)).rows] == ["c3", "c2", "c1", "c0"]
    assert [row["alert_id"] for row in (await ask(client, "alerts", state="active")).rows] == ["a1"]
    assert [row["alert_id"] for row in (await ask(client, "alerts", severity="warning")).rows] == ["a2"]


async def test_throughput_and_status(asked: tuple[Client, Running], fleet: Fleet) -> None:
    page = await ask(asked[0], "throughput")
    assert page.columns == ("kind", "events_per_s", "events")
    assert page.rows[0] == {"kind": "total", "events": len(fleet.events), "events_per_s": pytest.approx(len(fleet.events) / 60)}
    assert sum(row["events"] for row in page.rows[1:]) == len(fleet.events)
    status = await ask(asked[0], "status")
    assert {"stream", "applied_sequence", "applied_at", "events", "rows"} <= set(status.columns)
    assert [row["stream"] for row in status.rows] == ["ALERTS", "EVENTS", "LEDGER"]
    assert next(row["rows"] for row in status.rows if row["stream"] == "LEDGER") == len(fleet.entries)


async def test_a_run_known_by_its_calls_alone_appears(running: Running, wire: Wire, client: Client) -> None:
    await wire.events(accepted("model_call.completed", run={"agent_id": "a", "run_id": "silent"}))
    await running.caught_up()
    [row] = (await ask(client, "runs")).rows
    assert (row["run_id"], row["status"], row["model_calls"]) == ("silent", "unknown", 1)


async def test_arrow_carries_the_same_rows(asked: tuple[Client, Running]) -> None:
    client = asked[0]
    reply = await client.request(subjects.query("runs"), orjson.dumps({"format": "arrow", "limit": 10}), timeout=10)
    assert (reply.headers or {})["Content-Type"] == "application/vnd.apache.arrow.stream"
    assert (reply.headers or {})["Agentops-Next-Offset"] == "10"
    table = pa.ipc.open_stream(reply.data).read_all()
    page = await ask(client, "runs", limit=10)
    assert tuple(table.column_names) == page.columns
    assert table.column("run_id").to_pylist() == [row["run_id"] for row in page.rows]
    assert table.column("started_at").to_pylist()[0] == datetime.fromisoformat(page.rows[0]["started_at"])
    assert table.column("cost_usd").to_pylist()[3] == Decimal(page.rows[3]["cost_usd"])
    spans = await client.request(subjects.query("run"), orjson.dumps({"format": "arrow", "run_id": "run-3"}), timeout=10)
    assert pa.ipc.open_stream(spans.data).read_all().num_rows == 6


@pytest.mark.parametrize(
    ("name", "request_body", "loc"),
    [
        ("runs", b'{"limit": 0}', "$.limit"),
        ("runs", b'{"limit": "x", "tenant": "a b"}', "$.limit"),
        ("runs", b"{nonsense", "$"),
        ("runs", b'{"unknown": 1}', "$.unknown"),
        ("run", b"{}", "$.run_id"),
        ("spend", b'{"by": ["moon"]}', "$.by[0]"),
        ("latency", b'{"by": ["model"], "kind": "step"}', "$.by"),
        ("runs", b'{"since": "2026-01-02T00:00:00Z", "until": "2026-01-01T00:00:00Z"}', "$.until"),
        ("timeseries", b'{"bucket": "second", "since": "2020-01-01T00:00:00Z", "until": "2026-01-01T00:00:00Z"}', "$.bucket"),
    ],
)
async def test_a_wrong_question_is_answered_with_its_fields(
    asked: tuple[Client, Running], name: str, request_body: bytes, loc: str
) -> None:
    reply = await asked[0].request(subjects.query(name), request_body, timeout=5)
    assert (reply.headers or {})["Agentops-Error"] == "1"
    error = QueryError.model_validate_json(reply.data)
    assert loc in [each.loc for each in error.errors]


async def test_a_page_too_large_for_a_message_is_cut_shorter(running: Running, wire: Wire, client: Client) -> None:
    """An oversized publish would kill the connection."""
    await wire.events(*(accepted("run.failed", error={"type": "E", "message": "x" * 8000}) for _ in range(400)), per_message=50)
    await running.caught_up()
    page = await ask(client, "failures", limit=400)
    assert page.next_offset == len(page.rows)
    assert 200 < len(page.rows) < 400
    rest = await ask(client, "failures", limit=400, offset=page.next_offset)
    assert len(rest.rows) == 400 - len(page.rows)


@pytest.mark.parametrize(
    ("told", "calls"),
    [
        ([], {-2.5, 0, 2.5}),
        ([("run.started", 0)], {0, 2.5}),
        ([("run.completed", 0)], {-2.5, 0}),
        ([("run.started", 0), ("run.completed", 0.1), ("run.started", 0.2)], {0, 2.5}),
        ([("run.started", 0), ("run.failed", 3)], {0, 2.5}),
        ([("run.started", -3), ("run.completed", 0)], {-2.5, 0}),
        ([("run.started", 0), ("run.completed", 0.1)], {0}),
    ],
)
async def test_calls_of_a_run_are_looked_for_from_a_day_before_it_began_to_a_day_after_it_ended(
    running: Running, wire: Wire, client: Client, told: list[tuple[str, float]], calls: set[float]
) -> None:
    """What it did not tell is no bound. Figures are days from a moment."""
    at, run = datetime.now(UTC).replace(microsecond=0) - timedelta(days=10), {"agent_id": "a", "run_id": "long"}
    await wire.events(
        *(accepted(kind, at=at + timedelta(days=day), run=run) for kind, day in told),
        *(accepted("model_call.completed", at=at + timedelta(days=day), run=run) for day in (-2.5, 0, 2.5)),
    )
    await running.caught_up()
    found = (await ask(client, "run", run_id="long")).rows
    ended = {datetime.fromisoformat(row["ended_at"]) for row in found if row["kind"] == "model_call"}
    assert ended == {at + timedelta(days=day) for day in calls}
    assert any(row["kind"] == "run" for row in found) == bool(told)


async def test_a_question_that_takes_too_long_is_stopped(
    running: Running, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    from processors.aggregate import answering
    from processors.aggregate.asking import Question

    endless = Question("SELECT sum(a.range * b.range) AS n FROM range(10000000) a, range(10000000) b")
    monkeypatch.setitem(answering.BUILD, "status", lambda *_: endless)
    assert running.processor._service is not None
    object.__setattr__(
        running.processor._service, "_settings", running.processor._settings.model_copy(update={"query_deadline_s": 0.3})
    )
    reply = await client.request(subjects.query("status"), b"", timeout=5)
    assert "took longer than 0.3 s" in QueryError.model_validate_json(reply.data).message
    assert (await ask(client, "fleet")).rows == ()


async def test_it_is_a_micro_service_anyone_can_discover(asked: tuple[Client, Running]) -> None:
    reply = await asked[0].request("$SRV.INFO.agentops-query", b"", timeout=5)
    told = orjson.loads(reply.data)
    assert {endpoint["subject"] for endpoint in told["endpoints"]} == {subjects.query(name) for name in QUERIES}
    assert micro.__name__ == "nats.micro"
