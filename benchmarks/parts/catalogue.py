"""Every part, in the order in which they run."""

from typing import Final

from benchmarks.parts import catch_up, end_to_end, heartbeats, latency, limits, memory, otlp, peers, queries, soak
from benchmarks.parts.part import Part

PARTS: Final = {
    part.name: part
    for part in (
        Part("limits", "pydantic, nats-py and DuckDB alone", ("limits",), limits.run),
        Part(
            "end_to_end", "publish → committed with ledger; CPU and memory of each process, loaded and idle",
            ("end_to_end", "processes_under_load", "processes_idle"), end_to_end.run,
        ),
        Part("latency", "publish → queryable", ("latency",), latency.run),
        Part("catch_up", "after an outage of the aggregate", ("catch_up",), catch_up.run),
        Part("queries", "in large warehouses, alone and while ingesting", ("queries",), queries.run),
        Part("memory", "cost and memory as load doubles, bytes on disk", ("memory",), memory.run),
        Part("heartbeats", "10,000 agents that are only alive", ("heartbeats",), heartbeats.run),
        Part("otlp", "spans at a sidecar's OTLP door → committed with ledger", ("otlp",), otlp.run),
        Part("peers", "Phoenix, MLflow, a plain FastStream handler", ("peers",), peers.run, ours=False),
        Part("soak", "memory over an hour (only when named)", ("soak",), soak.run, unasked=False),
    )
}  # fmt: skip
