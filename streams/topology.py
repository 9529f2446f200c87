"""Every stream and bucket, as plain values on one page. ``streams.apply`` makes the server agree with it."""

import re
from datetime import timedelta
from typing import Final

from nats.js.api import DiscardPolicy, KeyValueConfig, RetentionPolicy, StorageType, StreamConfig, SubjectTransform

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


def partitions_of(telemetry: StreamConfig) -> int:
    """Into how many partitions this TELEMETRY is cut; 1 where it is whole."""
    if telemetry.subject_transform is None:
        return 1
    found = re.search(r"partition\((\d+)", telemetry.subject_transform.dest)
    return int(found[1]) if found is not None else 1


def streams(replicas: int = 1, partitions: int = 1) -> tuple[StreamConfig, ...]:
    """The streams, in the order in which data flows. All refuse when full: nothing accepted is ever pushed out."""
    telemetry = _stream(
        TELEMETRY,
        (subjects.ALL_TELEMETRY,),
        8 * GIB,
        "What agents and sidecars say, until validate has covered it, and purged it",
    )
    if partitions > 1:
        telemetry.subject_transform = SubjectTransform(*subjects.partition_transform(partitions))
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
RELEASES: Final = "releases"
SIGHTINGS: Final = "sightings"
SIGHTINGS_FORGOTTEN: Final = timedelta(days=1)
"""Agents that announced themselves and have not been heard of since."""
AGENT_STATES: Final = "agent_states"
OBSERVATIONS: Final = "observations"
FAULTS: Final = "faults"
ACKNOWLEDGEMENTS: Final = "acknowledgements"
CHECKPOINTS: Final = "checkpoints"
PRICES: Final = "prices"
LEASES: Final = "leases"
LEASES_FORGOTTEN: Final = timedelta(hours=1)
"""What instances that are no more have left behind."""
BUDGETS: Final = "budgets"
BUDGET_FLAGS: Final = "budget_flags"
API_KEYS: Final = "api_keys"
POLICY_FLAGS: Final = "policy_flags"
CONTENT: Final = "content"
CONTENT_STORE: Final = "content"
"""The object store with content too large for an event; its stream is called ``OBJ_content``."""


def stores(replicas: int = 1) -> tuple[StreamConfig, ...]:
    """The streams that object stores are made of. Full, they refuse: what does not fit is cut off where it stood."""
    content = _stream(
        f"OBJ_{CONTENT_STORE}", (f"$O.{CONTENT_STORE}.C.>", f"$O.{CONTENT_STORE}.M.>"), 1 * GIB,
        "Content too large for an event, as its tenant's policy lets it stand",
    )  # fmt: skip
    content.max_age = EVENTS_AGE.total_seconds()
    content.num_replicas = replicas
    content.allow_atomic = False
    content.allow_rollup_hdrs = True
    return (content,)


_FORGOTTEN: Final = {LEASES: LEASES_FORGOTTEN, SIGHTINGS: SIGHTINGS_FORGOTTEN}


def buckets(replicas: int = 1) -> tuple[KeyValueConfig, ...]:
    """The key-value buckets: bucket, history kept, what for."""
    rows = (
        (REGISTRY, 64, "What each agent is (manifest), with its history"),
        (RELEASES, 8, "The versions of each agent; every change of the registry stands in AUDIT for ever"),
        (SIGHTINGS, 1, "Agents that announced themselves over NATS and are not managed here"),
        (AGENT_STATES, 1, "What the manager wants of and sees in each agent"),
        (OBSERVATIONS, 1, "How each agent is, as the health processor judges"),
        (FAULTS, 8, "Faults asked of each agent, with deadlines"),
        (ACKNOWLEDGEMENTS, 1, "Alerts a person has acknowledged"),
        (BUDGETS, 64, "What may be spent, by whom, in which period, with its history"),
        (BUDGET_FLAGS, 1, "Spent budgets by which doors refuse, each until its period ends"),
        (API_KEYS, 8, "Who may send events for which tenant at a gateway: hashes of keys, never keys"),
        (POLICY_FLAGS, 64, "Policies by which doors refuse model calls, with their history"),
        (CONTENT, 64, "What becomes of prompts, completions and findings, by tenant, with its history; no entry: off"),
        (PRICES, 8, "Price books and what is in force, each version for ever under a key of its own"),
        (CHECKPOINTS, 1, "State of processors without output of their own, with the stream offset it belongs to"),
        (LEASES, 1, "Which instance of a processor works on which partition; key <processor>.<partition>"),
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
            ttl=_FORGOTTEN[bucket].total_seconds() if bucket in _FORGOTTEN else None,
        )
        for bucket, history, about in rows
    )
