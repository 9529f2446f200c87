"""Buckets: what is asked for is told whole, and what was not written is told as not written."""

import asyncio
import os
import signal

import nats.errors
from nats.aio.client import Client

from schemas.leases import Lease
from streams import topology
from streams.embedded import EmbeddedServer
from streams.kv import TypedBucket
from tests.conftest import until


def lease(instance: str) -> Lease:
    return Lease.model_validate_json(f'{{"instance":"{instance}","since":"2026-11-20T12:00:00Z","host":"h","pid":1}}')


async def test_all_values_are_told_though_the_server_pauses_meanwhile(server: EmbeddedServer, client: Client) -> None:
    """Half a bucket taken for the whole would be deletions that nobody asked for."""
    bucket = await TypedBucket.open(client, topology.LEASES, Lease)
    wanted = {f"many.{number}": lease(f"host-{number}") for number in range(3000)}
    assert await bucket.put_all(wanted) == {}
    before = client.stats["in_msgs"]
    reading = asyncio.create_task(bucket.all())
    await until(lambda: client.stats["in_msgs"] - before > 200, "values arrive")
    assert server.process is not None
    os.kill(server.process.pid, signal.SIGSTOP)
    await asyncio.wait({reading}, timeout=1.5)
    os.kill(server.process.pid, signal.SIGCONT)
    assert await reading == wanted


async def test_what_is_too_large_is_told_so_and_the_rest_is_written(client: Client) -> None:
    bucket = await TypedBucket.open(client, topology.LEASES, Lease)
    large = lease("a").model_copy(update={"host": "h" * (client.max_payload + 1)})
    failed = await bucket.put_all({"x.0": lease("a"), "x.1": large, "x.2": lease("b")})
    assert {key: type(error) for key, error in failed.items()} == {"x.1": nats.errors.MaxPayloadError}
    assert set(await bucket.all()) == {"x.0", "x.2"}


async def test_what_could_not_be_written_while_nats_was_away_is_not_written_later(server: EmbeddedServer, client: Client) -> None:
    """Somebody else may have written since: an old value that arrives then would stand over a newer one."""
    bucket = await TypedBucket.open(client, topology.LEASES, Lease)
    assert await bucket.put_all({"x.0": lease("old")}) == {}
    await server.stop()
    await until(lambda: not client.is_connected, "the connection is lost")
    assert set(await bucket.put_all({"x.0": lease("late"), "x.1": lease("late")})) == {"x.0", "x.1"}
    await server.start()
    await until(lambda: client.is_connected, "NATS is back", within_s=30)
    assert await bucket.put_all({"x.2": lease("new")}) == {}
    assert {key: value.instance for key, value in (await bucket.all()).items()} == {"x.0": "old", "x.2": "new"}
