"""``python -m benchmarks.peers.plain_faststream DATABASE``: what one would write without us.

A FastStream handler that is given one event at a time, prices it, stores it and its ledger row in DuckDB in one
transaction, and acknowledges it. Redelivered events are recognised by the primary key, which costs a third of what
``INSERT OR IGNORE`` does. NATS is what ``NATS_URL``,
``NATS_USER`` and ``NATS_PASSWORD`` say.
"""

import asyncio
import logging
import os
import sys
from decimal import Decimal
from pathlib import Path
from typing import Final

import duckdb
import uvloop
from faststream import AckPolicy, FastStream
from faststream.nats import JStream, NatsBroker, NatsMessage, PullSub
from faststream.security import SASLPlaintext
from genai_prices import Usage, calc_price

from schemas.events import Event

STREAM: Final = "PLAIN"
SUBJECTS: Final = "plain.>"
DURABLE: Final = "plain"
_FETCHED: Final = 100
"""Asked for at once, handled one by one: with FastStream's own default, 1, it is slower."""

_TABLES: Final = """
    CREATE TABLE events (
        tenant_id VARCHAR, event_id UUID, event_type VARCHAR, occurred_at TIMESTAMPTZ, agent_id VARCHAR, run_id VARCHAR,
        workflow_id VARCHAR, trace_id VARCHAR, span_id VARCHAR, name VARCHAR, latency_ms DOUBLE, input_tokens BIGINT,
        output_tokens BIGINT, body JSON, PRIMARY KEY (tenant_id, event_id)
    );
    CREATE TABLE ledger (
        tenant_id VARCHAR, event_id UUID, agent_id VARCHAR, occurred_at TIMESTAMPTZ, provider VARCHAR, model VARCHAR,
        input_tokens BIGINT, output_tokens BIGINT, cache_read_tokens BIGINT, cost_usd DECIMAL(18, 9),
        PRIMARY KEY (tenant_id, event_id)
    );
"""
_NINE: Final = Decimal("0.000000001")


def cost(event: Event) -> Decimal:
    """What the model call costs; nothing where its model is not known."""
    assert event.model_call is not None
    assert event.resource_usage is not None
    used = event.resource_usage
    usage = Usage(input_tokens=used.input_tokens, output_tokens=used.output_tokens, cache_read_tokens=used.cache_read_tokens)
    try:
        priced = calc_price(
            usage, event.model_call.model, provider_id=event.model_call.provider, genai_request_timestamp=event.occurred_at
        )
    except LookupError:
        return Decimal(0)
    return Decimal(priced.total_price).quantize(_NINE)


def store(database: duckdb.DuckDBPyConnection, event: Event) -> None:
    """Both rows, or neither."""
    section = event.model_call or event.tool_call or event.step or event.metrics
    used, trace, run = event.resource_usage, event.trace, event.run
    tenant = event.tenant.tenant_id
    database.execute("BEGIN")
    try:
        database.execute(
            "INSERT INTO events VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            [
                tenant, event.event_id, event.event_type, event.occurred_at, run.agent_id, run.run_id, run.workflow_id,
                trace.trace_id if trace else None, trace.span_id if trace else None,
                getattr(section, "model", None) or getattr(section, "name", None), getattr(section, "latency_ms", None),
                used.input_tokens if used else None, used.output_tokens if used else None,
                event.model_dump_json(exclude_none=True),
            ],
        )  # fmt: skip
        if event.model_call is not None and used is not None:
            database.execute(
                "INSERT INTO ledger VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [
                    tenant, event.event_id, run.agent_id, event.occurred_at, event.model_call.provider, event.model_call.model,
                    used.input_tokens, used.output_tokens, used.cache_read_tokens, cost(event),
                ],
            )  # fmt: skip
        database.execute("COMMIT")
    except duckdb.ConstraintException:
        # Delivered again: it is stored.
        database.execute("ROLLBACK")
    except BaseException:
        database.execute("ROLLBACK")
        raise


def service(broker: NatsBroker, database: duckdb.DuckDBPyConnection) -> None:
    """Makes ``broker`` store what comes. FastStream acknowledges each message when its handler has returned."""

    @broker.subscriber(
        SUBJECTS,
        durable=DURABLE,
        stream=JStream(STREAM, subjects=[SUBJECTS]),
        pull_sub=PullSub(batch_size=_FETCHED),
        ack_policy=AckPolicy.NACK_ON_ERROR,
    )
    async def stored(message: NatsMessage) -> None:
        store(database, Event.model_validate_json(message.body))


async def serve(path: Path) -> None:
    """Until asked to stop."""
    # One thread is what suits single rows: a third less CPU than two.
    database = duckdb.connect(str(path), config={"threads": 1})
    database.execute(_TABLES)
    security = SASLPlaintext(os.environ["NATS_USER"], os.environ["NATS_PASSWORD"])
    # Two lines a message, which is what it logs of itself, nobody leaves on.
    logger = logging.getLogger(__name__)
    broker = NatsBroker(os.environ["NATS_URL"], security=security, logger=logger)
    service(broker, database)
    await FastStream(broker, logger=logger).run()
    database.close()


if __name__ == "__main__":
    logging.basicConfig(level=logging.WARNING)
    # As our own processors do.
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    asyncio.run(serve(Path(sys.argv[1])))
