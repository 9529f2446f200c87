"""What others store of the same events: Phoenix, MLflow, and a handler one would write without us."""

import asyncio
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

import duckdb
import nats.js.errors
from nats.aio.client import Client

from benchmarks import workload
from benchmarks.parts.part import Bench, Figures, softly
from benchmarks.peers import environment, plain_faststream
from benchmarks.peers.tracing import MLFLOW, PHOENIX, Stored, measure
from benchmarks.publishing import Publisher, load
from service.signals import die_with_parent
from streams.connect import connect
from streams.embedded import EmbeddedServer

_LOOK_S: Final = 0.1


class HandlerError(RuntimeError):
    """The plain handler did not start, or ended. Its log says why."""


async def _acknowledged(client: Client) -> int | None:
    """How many events the handler has stored and acknowledged; None before it is there."""
    try:
        found = await client.jsm().consumer_info(plain_faststream.STREAM, plain_faststream.DURABLE)
    except nats.js.errors.NotFoundError:
        return None
    return found.ack_floor.stream_seq if found.ack_floor is not None else 0


async def _stored(client: Client, handler: asyncio.subprocess.Process, events: int, within_s: float, log: Path) -> int:
    deadline, done = time.perf_counter() + within_s, -1
    while done < events and time.perf_counter() < deadline:
        if handler.returncode is not None:
            raise HandlerError(f"the handler ended with {handler.returncode}: {log.read_text(errors='replace')[-300:]}")
        found = await _acknowledged(client)
        done = -1 if found is None else found
        await asyncio.sleep(_LOOK_S)
    return done


async def plain(directory: Path, events: Sequence[workload.Made], within_s: float) -> Stored:
    """Publishes single events, and counts what is in DuckDB and acknowledged."""
    directory.mkdir(parents=True)
    server = EmbeddedServer(directory / "nats", dies_with_parent=True)
    await server.start()
    settings, log = server.settings(), directory / "handler.log"
    assert settings.password is not None
    given = os.environ | {"NATS_URL": settings.url, "NATS_USER": "system", "NATS_PASSWORD": settings.password.get_secret_value()}
    client = await connect(settings, "benchmark")
    database = directory / "plain.duckdb"
    with log.open("wb") as output:
        handler = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "benchmarks.peers.plain_faststream", str(database), env=given, stdout=output, stderr=output,
            start_new_session=True, preexec_fn=die_with_parent,
        )  # fmt: skip
    try:
        if await _stored(client, handler, 0, 20, log) < 0:
            raise HandlerError(f"the handler did not subscribe within 20 s: {log.read_text(errors='replace')[-300:]}")
        sent = load(replace(each, subject=f"plain.{each.subject}") for each in workload.singles(list(events)))
        publisher = await Publisher.connect(settings)
        began = time.perf_counter()
        publishing = asyncio.create_task(publisher.publish(sent.frames))
        await _stored(client, handler, len(events), within_s, log)
        took = time.perf_counter() - began
        accepted = publishing.done()
        await publishing
        await publisher.close()
        handler.terminate()
        async with asyncio.timeout(20):
            await handler.wait()
        stored = await asyncio.to_thread(_rows, database)
        if not stored:
            raise HandlerError(f"it stored nothing within {within_s:g} s: {log.read_text(errors='replace')[-300:]}")
        # What it still stored while it was asked to stop is a handful, and in its favour.
        return Stored(len(events), accepted, None, stored, took, min(stored, len(events)) / took)
    finally:
        if handler.returncode is None:
            handler.kill()
            await handler.wait()
        await client.close()
        await server.stop()


def _rows(database: Path) -> int:
    connection = duckdb.connect(str(database), read_only=True)
    try:
        found = connection.execute("SELECT count(*) FROM events").fetchone()
    finally:
        connection.close()
    assert found is not None
    return int(found[0])


async def run(bench: Bench) -> Figures:
    """One after the other, each from nothing."""
    form, measured = bench.form, {}
    events = list(workload.generate(form.peer_spans, seed=60))
    bench.say(f"a plain FastStream handler: {len(events):,} events")
    measured["plain_faststream"] = await softly(bench.say, plain(bench.directory / "plain", events, form.peer_s))
    try:
        python = await environment.interpreter(bench.kept, install=form.peers_installed, say=bench.say)
    except (environment.NotInstalledError, OSError) as error:
        bench.say(str(error))
        return {"peers": measured | {peer.name: {"failed": str(error)} for peer in (PHOENIX, MLFLOW)}}
    sent = bench.directory / "events.ndjson"
    sent.write_bytes(b"\n".join(event.data for event in events))
    for peer in (PHOENIX, MLFLOW):
        bench.say(f"{peer.name}: {len(events):,} spans")
        measured[peer.name] = await softly(
            bench.say, measure(peer, python, bench.directory / peer.name, sent, len(events), form.peer_s)
        )
    return {"peers": measured}
