"""The figures as tables for a person."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from benchmarks.targets import REFERENCE_PER_S, TARGETS, Verdict, judge

_PERCENTILES: Final = ("p50_ms", "p95_ms", "p99_ms", "max_ms")


def number(value: Any) -> str:
    """Three figures that matter, thousands apart; what is no number as it is."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return "–" if value is None else str(value)
    size = abs(value)
    return f"{value:,.0f}" if size >= 100 or value == int(value) else f"{value:.1f}" if size >= 10 else f"{value:.2f}"


def _row(table: Table, name: str, figures: Mapping[str, Any], *columns: str) -> None:
    if "failed" in figures:
        table.add_row(name, f"[red]failed: {figures['failed']}[/]", *[""] * (len(columns) - 1))
    else:
        table.add_row(name, *(number(figures.get(column)) for column in columns))


def _limits(results: Mapping[str, Any]) -> Table:
    table = Table("alone", "per second", title="Limits of what we stand on", title_justify="left")
    for name, value in results["limits"].items():
        table.add_row(name.removesuffix("_per_s"), number(value))
    return table


def _end_to_end(results: Mapping[str, Any]) -> Table:
    table = Table(
        "publish → committed with ledger",
        "events",
        "publishing s",
        "whole s",
        "events/s",
        title="End to end",
        title_justify="left",
    )
    for name, row in results["end_to_end"].items():
        _row(table, name, row, "events", "publish_s", "total_s", "events_per_s")
    return table


def _processes(results: Mapping[str, Any]) -> Table:
    table = Table(
        "process", "CPU loaded", "CPU idle", "RSS MB", "PSS MB", title="Processes (CPU in % of a core)", title_justify="left"
    )
    loaded = results.get("processes_under_load", {})
    for name, row in results["processes_idle"].items():
        busy = loaded.get(name, {}).get("cpu_percent")
        table.add_row(name, number(busy), f"{row['cpu_percent']:.1f}", number(row["rss_mb"]), number(row["pss_mb"]))
    every = list(results["processes_idle"].values())
    table.add_row(
        "in all",
        number(sum(each["cpu_percent"] for each in loaded.values()) if loaded else None),
        f"{sum(each['cpu_percent'] for each in every):.1f}",
        number(sum(each["rss_mb"] for each in every)),
        number(sum(each["pss_mb"] for each in every)),
    )
    return table


def _latency(results: Mapping[str, Any]) -> Table:
    table = Table(
        "events/s",
        "p50",
        "p95",
        "p99",
        "max",
        "with ledger p99",
        "publisher late",
        title="Publish → queryable, ms",
        title_justify="left",
    )
    for rate, row in results["latency"].items():
        shown = dict(row) | {"with_ledger_p99": row.get("with_ledger", {}).get("p99_ms")}
        _row(table, f"{int(rate):,}", shown, *_PERCENTILES, "with_ledger_p99", "published_late_ms")
    return table


def _catch_up(results: Mapping[str, Any]) -> Table:
    row = results["catch_up"]
    table = Table(
        "waiting",
        "of an outage of s",
        "first answer s",
        "caught up s",
        "events/s",
        title="Catching up after an outage of the aggregate",
        title_justify="left",
    )
    _row(table, number(row.get("waiting_events")), row, "outage_s", "answering_s", "caught_up_s", "events_per_s")
    return table


def _queries(results: Mapping[str, Any]) -> Table:
    table = Table(
        "question",
        "events",
        "alone p50",
        "p95",
        "max",
        "ingesting p50",
        "p95",
        "max",
        title="Questions, ms",
        title_justify="left",
    )
    for events, found in results["queries"].items():
        if not isinstance(found, Mapping):
            continue
        if "failed" in found:
            _row(table, "all", found, *[""] * 7)
            continue
        for name, alone in found["alone"].items():
            cells = [_asked(alone), _asked(found["while_ingesting"].get(name, {}))]
            table.add_row(name, f"{int(events):,}", *cells[0], *cells[1])
        ingesting = found["while_ingesting"]
        table.caption = (
            f"ingesting: {ingesting['events_per_s']:,} single events/s, {ingesting['behind_s']:.1f} s behind when asking ended"
        )
    return table


def _asked(figures: Mapping[str, Any]) -> tuple[str, str, str]:
    if "failed" in figures:
        return f"[red]{figures['failed']}[/]", "", ""
    return number(figures.get("p50_ms")), number(figures.get("p95_ms")), number(figures.get("max_ms"))


def _tracer(results: Mapping[str, Any]) -> Table:
    found = results["tracer"]
    title = (
        f"AgentTracer, µs of CPU a call without I/O; import {found['import_ms']:.0f} ms, {found['modules']} modules; "
        f"machine: {number(found['validate_json_per_s'])} validate_json/s"
    )
    table = Table("call", "in the agent's thread", "with the background's", title=title, title_justify="left")
    for name, row in found["calls"].items():
        _row(table, name, row, "caller_us", "cpu_us")
    return table


def _memory(results: Mapping[str, Any]) -> Table:
    memory = results["memory"]
    table = Table(
        "events/s",
        "CPU µs an event",
        "PSS MB in all",
        "slowest process's CPU",
        title="Cost as load doubles",
        title_justify="left",
    )
    for rate, row in memory["steps"].items():
        most = max(row["cpu_us_per_event"].items(), key=lambda item: item[1])
        table.add_row(
            f"{int(rate):,}", number(row["cpu_us_per_event_in_all"]), number(row["pss_mb_in_all"]), f"{most[0]} {most[1]:.0f} µs"
        )
    table.caption = f"bytes an event: {memory['warehouse_bytes_per_event']:.0f} in the warehouse, {memory['stream_bytes_per_event']:.0f} in the streams"
    return table


def _heartbeats(results: Mapping[str, Any]) -> Table:
    row = results["heartbeats"]
    table = Table(
        "agents",
        "heartbeats/s",
        "stored/s",
        "CPU % of a core",
        "µs a heartbeat",
        "PSS MB",
        title="Heartbeats, over all hops",
        title_justify="left",
    )
    _row(
        table, number(row.get("agents")), row, "heartbeats_per_s", "stored_per_s", "cpu_percent", "cpu_us_per_heartbeat", "pss_mb"
    )
    for name, each in row.get("processes", {}).items():
        table.add_row("", "", name, number(each["cpu_percent"]), "", number(each["pss_mb"]))
    return table


def _otlp(results: Mapping[str, Any]) -> Table:
    row = results["otlp"]
    table = Table(
        "spans", "accepted/s", "committed/s", "sidecar's CPU µs a span", "told to come back", title="OTLP door → committed with ledger",
        title_justify="left",
    )  # fmt: skip
    _row(table, number(row.get("spans")), row, "accepted_spans_per_s", "spans_per_s", "door_cpu_us_per_span", "refused")
    published = number(row.get("collector_published_per_s_and_core"))
    table.add_row("OpenTelemetry collector, as published", f"{published} a core", "–", "", "")
    table.caption = (
        "the collector's figure is receiving and exporting on one core; ours is validating, pricing and storing, on two"
    )
    return table


def _peers(results: Mapping[str, Any]) -> Table:
    table = Table(
        "peer", "sent", "stored", "in s", "stored/s", title="The same events elsewhere, counted when stored", title_justify="left"
    )
    for name, row in results["peers"].items():
        _row(table, name, row, "sent", "stored", "took_s", "stored_per_s")
    return table


def _soak(results: Mapping[str, Any]) -> Table:
    row = results["soak"]
    table = Table("minutes", "events", "grows MB an hour", title="Memory over time", title_justify="left")
    _row(table, number(row.get("minutes")), row, "events", "grows_mb_per_hour")
    return table


_TABLES: Final[Mapping[str, Callable[[Mapping[str, Any]], Table]]] = {
    "limits": _limits, "end_to_end": _end_to_end, "processes_idle": _processes, "latency": _latency, "catch_up": _catch_up,
    "queries": _queries, "memory": _memory, "heartbeats": _heartbeats, "otlp": _otlp, "tracer": _tracer, "peers": _peers, "soak": _soak,
}  # fmt: skip
_COLOURS: Final = {"stretch": "bold green", "floor": "green", "missed": "bold red", "not measured": "dim"}


def targets(results: Mapping[str, Any]) -> Table:
    """What was to be reached, and whether it was."""
    reference = f"at {REFERENCE_PER_S // 1000} k/s"
    table = Table(
        "target, on 2 cores", "floor", "stretch", "measured", "", reference, "", title="Targets", title_justify="left",
        caption=f"{reference}: by the processor's speed, as it would be where validate_json does {REFERENCE_PER_S:,} a second; "
        "waiting does not scale, so latencies have none", caption_justify="left",
    )  # fmt: skip
    for target in TARGETS:
        found = judge(target, results)
        sign = "≥" if target.larger_is_better else "≤"
        table.add_row(
            f"{target.what}, {target.unit}", f"{sign} {number(target.floor)}", number(target.stretch),
            number(found.measured), _coloured(found.verdict),
            number(found.scaled), "" if found.scaled is None else _coloured(found.scaled_verdict),
        )  # fmt: skip
    return table


def _coloured(verdict: Verdict) -> str:
    return f"[{_COLOURS[verdict]}]{verdict}[/]"


def tables(results: Mapping[str, Any], keys: set[str]) -> Iterator[Table]:
    """A table for each of ``keys`` that has figures, and the targets."""
    for key, make in _TABLES.items():
        if key in keys and results.get(key):
            yield make(results)
    yield targets(results)


def show(results: Mapping[str, Any], keys: set[str], console: Console) -> None:
    """Prints them, and why parts have none."""
    for table in tables(results, keys):
        console.print(table)
    for name, about in results["parts"].items():
        if "failed" in about:
            console.print(f"[red]{name} failed[/]: {about['failed']}")
