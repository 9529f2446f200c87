"""Making the server agree with the topology, and saying where it does not."""

from dataclasses import dataclass
from typing import Any, Final, Literal

import nats.js.errors
from nats.aio.client import Client
from nats.js.api import KeyValueConfig, StreamConfig

from streams import topology
from streams.moving import move, must_move

_COMPARED: Final = (
    "subjects", "retention", "discard", "storage", "max_bytes", "max_age", "num_replicas", "duplicate_window",
    "deny_delete", "deny_purge", "allow_direct", "allow_atomic", "allow_msg_ttl",
)  # fmt: skip


class CannotApplyError(RuntimeError):
    """The server cannot be made to agree without harm. Trying again does not help; the message says what does."""


@dataclass(frozen=True, slots=True)
class Drift:
    """One difference between the topology and the server."""

    name: str
    kind: Literal["stream", "bucket"]
    problem: str


def _value(value: Any) -> Any:
    if isinstance(value, list):
        return sorted(value)
    return value or 0 if isinstance(value, bool | int | float | None) else value


def differences(wanted: StreamConfig, found: StreamConfig) -> list[str]:
    """Which compared settings of ``found`` differ from ``wanted``, in words."""
    told = []
    for name in _COMPARED:
        want, have = _value(getattr(wanted, name)), _value(getattr(found, name))
        if want != have:
            told.append(f"{name} is {have!r}, should be {want!r}")
    want, have = topology.partitions_of(wanted), topology.partitions_of(found)
    if want != have:
        told.append(f"is cut into {have} partitions, should be {want}")
    return told


async def _partitions(client: Client, wanted: int | None) -> int:
    """Into how many partitions TELEMETRY is to be cut: as many as it is, unless more are ``wanted``. Raises CannotApplyError."""
    try:
        found = topology.partitions_of((await client.jsm().stream_info(topology.TELEMETRY)).config)
    except nats.js.errors.NotFoundError:
        found = 1
    if wanted is not None and wanted < found:
        msg = (
            f"TELEMETRY is cut into {found} partitions and cannot be cut into {wanted}: what waits in the others would be read by nobody."
            " Keep the number and run fewer instances of validate: each works on as many partitions as are left to it"
        )
        raise CannotApplyError(msg)
    return wanted or found


async def check(client: Client, replicas: int = 1, partitions: int | None = None) -> list[Drift]:
    """Every difference between the topology and the server; empty when they agree. Raises CannotApplyError."""
    manager = client.jsm()
    drifts: list[Drift] = []
    for stream in (*topology.streams(replicas, await _partitions(client, partitions)), *topology.stores(replicas)):
        assert stream.name is not None
        try:
            info = await manager.stream_info(stream.name)
        except nats.js.errors.NotFoundError:
            drifts.append(Drift(stream.name, "stream", "does not exist"))
        else:
            drifts += [Drift(stream.name, "stream", text) for text in differences(stream, info.config)]
    for bucket in topology.buckets(replicas):
        try:
            info = await manager.stream_info(f"KV_{bucket.bucket}")
        except nats.js.errors.NotFoundError:
            drifts.append(Drift(bucket.bucket, "bucket", "does not exist"))
        else:
            if info.config.max_msgs_per_subject != bucket.history:
                drifts.append(
                    Drift(bucket.bucket, "bucket", f"history is {info.config.max_msgs_per_subject}, should be {bucket.history}")
                )
    return drifts


async def apply(client: Client, replicas: int = 1, partitions: int | None = None) -> list[str]:
    """Creates and updates what differs; returns what was done, in words. Twice is as good as once.

    ``partitions`` of TELEMETRY: None leaves as many as there are. Raises CannotApplyError, CannotMoveError.
    """
    manager = client.jsm()
    done: list[str] = []
    for stream in (*topology.streams(replicas, await _partitions(client, partitions)), *topology.stores(replicas)):
        assert stream.name is not None
        if stream.name == topology.TELEMETRY and await must_move(client):
            done.append(await move(client, stream))
            continue
        try:
            info = await manager.stream_info(stream.name)
        except nats.js.errors.NotFoundError:
            await manager.add_stream(stream)
            done.append(f"created stream {stream.name}")
            continue
        changed = differences(stream, info.config)
        if changed:
            await manager.update_stream(stream)
            done.append(f"updated stream {stream.name}: {'; '.join(changed)}")
    for bucket in topology.buckets(replicas):
        done += await _apply_bucket(client, bucket)
    return done


async def _apply_bucket(client: Client, bucket: KeyValueConfig) -> list[str]:
    manager = client.jsm()
    name = f"KV_{bucket.bucket}"
    try:
        info = await manager.stream_info(name)
    except nats.js.errors.NotFoundError:
        await client.jetstream().create_key_value(bucket)
        return [f"created bucket {bucket.bucket}"]
    if info.config.max_msgs_per_subject == bucket.history:
        return []
    info.config.max_msgs_per_subject = bucket.history
    await manager.update_stream(info.config)
    return [f"updated bucket {bucket.bucket}: history {bucket.history}"]
