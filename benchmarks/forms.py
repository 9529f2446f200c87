"""How much is measured: short for CI, standard for a look, full where an hour does not matter."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Form:
    """Sizes of every part. Rates are in events a second."""

    name: str
    warm_up: int
    single: int
    """Events, one to a message."""
    batched: int
    mixed: int
    idle_s: float
    latency_s: float
    """At each rate."""
    outage_events: int
    """What an aggregate that was away finds: events a second times seconds."""
    warehouses: tuple[int, ...]
    """Events in the warehouses that are asked."""
    asks: int
    """Times each question is asked, alone and while ingesting."""
    load_rates: tuple[int, ...]
    load_s: float
    heartbeat_s: float
    otlp_spans: int
    peer_spans: int
    """Events sent to each peer."""
    peer_s: float
    """What is stored by then counts."""
    peers_installed: bool
    """Whether Phoenix and MLflow are installed where they are not."""
    limit_events: int


LATENCY_RATES: Final = (100, 500, 1_000, 10_000)
OUTAGE_RATE: Final = 2_000
AGENTS: Final = 10_000
HEARTBEAT_EVERY_S: Final = 5

SHORT: Final = Form(
    "short", warm_up=1_000, single=15_000, batched=80_000, mixed=30_000, idle_s=4, latency_s=4, outage_events=20 * OUTAGE_RATE,
    warehouses=(200_000,), asks=15, load_rates=(1_000, 2_000), load_s=4, heartbeat_s=5, otlp_spans=40_000, peer_spans=1_000, peer_s=10,
    peers_installed=False, limit_events=10_000,
)  # fmt: skip
STANDARD: Final = Form(
    "standard", warm_up=5_000, single=120_000, batched=800_000, mixed=300_000, idle_s=20, latency_s=25,
    outage_events=150 * OUTAGE_RATE, warehouses=(10_000_000,), asks=60, load_rates=(1_000, 2_000, 4_000, 8_000), load_s=15,
    heartbeat_s=30, otlp_spans=300_000, peer_spans=4_000, peer_s=45, peers_installed=True, limit_events=60_000,
)  # fmt: skip
FULL: Final = Form(
    "full", warm_up=5_000, single=400_000, batched=3_000_000, mixed=1_000_000, idle_s=30, latency_s=60,
    outage_events=300 * OUTAGE_RATE, warehouses=(10_000_000, 50_000_000), asks=200, load_rates=(1_000, 2_000, 4_000, 8_000, 16_000),
    load_s=30, heartbeat_s=60, otlp_spans=1_000_000, peer_spans=20_000, peer_s=180, peers_installed=True, limit_events=100_000,
)  # fmt: skip
