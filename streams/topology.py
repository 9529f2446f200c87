"""Every stream and bucket, as plain values on one page. ``streams.apply`` makes the server agree with it."""

from datetime import timedelta
from typing import Final

from nats.js.api import DiscardPolicy, KeyValueConfig, RetentionPolicy, StorageType, StreamConfig

from streams import subjects

TELEMETRY: Final = "TELEMETRY"
EVENTS: Final = "EVENTS"
LEDGER: Final = "LEDGER"
ALERTS: Final = "ALERTS"
COMMANDS: Final = "COMMANDS"
AUDIT: Final = "AUDIT"

EVENTS_AGE: Final = timedelta(days=30)
"""Also the horizon within which duplicates are recognised."""
ALERTS_AGE: Final = timedelta(days=90)
QUICK_DUPLICATES: Final = timedelta(minutes=2)
"""``Nats-Msg-Id`` repeats within this are dropped by the server before they cost anything."""

GIB: Final = 1024**3


def _stream(name: str, listens: tuple[str, ...], max_bytes: int, description: str) -> StreamConfig:
    return StreamConfig(
        name=name,
        description=description,
        subjects=list(listens),
        retention=RetentionPolicy.LIMITS,
        discard=DiscardPolicy.NEW,
        storage=StorageType.FILE,
        max_bytes=max_bytes,
        max_age=0,
        num_replicas=1,
        duplicate_window=QUICK_DUPLICATES.total_seconds(),
        allow_direct=True,
        allow_atomic=True,
    )


def streams(replicas: int = 1) -> tuple[StreamConfig, ...]:
    """The streams, in the order in which data flows. All refuse when full: nothing accepted is ever pushed out."""
    telemetry = _stream(
        TELEMETRY, (subjects.ALL_TELEMETRY,), 8 * GIB, "What agents and sidecars say, until validate has covered it"
    )
    telemetry.retention = RetentionPolicy.WORK_QUEUE
    events = _stream(
        EVENTS, (subjects.ALL_EVENTS, subjects.ALL_DEAD, subjects.COVERED_VALIDATE), 32 * GIB,
        "Validated events, dead letters, and the coverage records that account for both",
    )  # fmt: skip
    events.max_age = EVENTS_AGE.total_seconds()
    ledger = _stream(LEDGER, (subjects.ALL_LEDGER, subjects.COVERED_COST), 32 * GIB, "The cost ledger, for ever")
    ledger.deny_delete = ledger.deny_purge = True
    alerts = _stream(ALERTS, (subjects.ALL_ALERTS,), 1 * GIB, "State changes of alerts")
    alerts.max_age = ALERTS_AGE.total_seconds()
    commands = _stream(
        COMMANDS, (subjects.ALL_COMMANDS,), 256 * 1024**2, "Commands to the agent manager, until carried out or expired"
    )
    commands.retention = RetentionPolicy.WORK_QUEUE
    commands.allow_msg_ttl = True
    audit = _stream(AUDIT, (subjects.ALL_AUDIT,), 8 * GIB, "Who did what to which agent, for ever")
    audit.deny_delete = audit.deny_purge = True
    every = (telemetry, events, ledger, alerts, commands, audit)
    for stream in every:
        stream.num_replicas = replicas
    return every


REGISTRY: Final = "registry"
AGENT_STATES: Final = "agent_states"
OBSERVATIONS: Final = "observations"
FAULTS: Final = "faults"
ACKNOWLEDGEMENTS: Final = "acknowledgements"
CHECKPOINTS: Final = "checkpoints"


def buckets(replicas: int = 1) -> tuple[KeyValueConfig, ...]:
    """The key-value buckets: bucket, history kept, what for."""
    rows = (
        (REGISTRY, 64, "What each agent is (manifest), with its history"),
        (AGENT_STATES, 1, "What the manager wants of and sees in each agent"),
        (OBSERVATIONS, 1, "How each agent is, as the health processor judges"),
        (FAULTS, 8, "Faults asked of each agent, with deadlines"),
        (ACKNOWLEDGEMENTS, 1, "Alerts a person has acknowledged"),
        (CHECKPOINTS, 1, "State of processors without output of their own, with the stream offset it belongs to"),
    )
    return tuple(
        KeyValueConfig(
            bucket=bucket,
            history=history,
            description=about,
            storage=StorageType.FILE,
            replicas=replicas,
            max_value_size=1_000_000,
            direct=True,
        )
        for bucket, history, about in rows
    )
