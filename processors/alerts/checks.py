"""How the streams themselves are: how full, and how far behind their readers."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import nats.js.errors
from nats.aio.client import Client

from processors.alerts.metrics import Metric
from processors.alerts.readings import Reading
from processors.alerts.series import Measurement
from schemas.coverage import Coverage
from streams import progress, subjects, topology

_COST = "cost"


async def checks(client: Client, tenant: str, wanted: frozenset[Metric]) -> AsyncIterator[Reading]:
    """One reading for each stream and lag. Raises what NATS raises; trying again helps."""
    if "stream_fullness" in wanted:
        for stream in topology.streams():
            assert stream.name is not None
            info = await client.jsm().stream_info(stream.name)
            if info.config.max_bytes and info.config.max_bytes > 0:
                yield _reading("stream_fullness", tenant, info.state.bytes / info.config.max_bytes, stream.name)
    if "telemetry_lag_s" in wanted:
        yield _reading("telemetry_lag_s", tenant, await _telemetry_lag(client), topology.TELEMETRY)
    if "events_lag_s" in wanted:
        yield _reading("events_lag_s", tenant, await _events_lag(client), topology.EVENTS)


def _reading(metric: Metric, tenant: str, value: float, stream: str) -> Reading:
    now = datetime.now(UTC)
    return Reading(metric, tenant, Measurement(value, now, f"check {now.isoformat()}"), stream=stream)


def _age_s(stored: datetime | None) -> float:
    return 0.0 if stored is None else max(0.0, (datetime.now(UTC) - stored).total_seconds())


async def _telemetry_lag(client: Client) -> float:
    """Age of the oldest message that validate has not covered."""
    return _age_s((await progress.waiting(client)).oldest)


async def _events_lag(client: Client) -> float:
    """Age of the oldest model call after the last one the cost processor has covered."""
    manager = client.jsm()
    try:
        last = await manager.get_last_msg(topology.LEDGER, subjects.covered(_COST), direct=True)
    except nats.js.errors.NotFoundError:
        covered = 0
    else:
        assert last.data is not None
        covered = Coverage.model_validate_json(last.data).last_sequence
    wanted = subjects.events_of("model_call")
    try:
        oldest = await manager.get_msg(topology.EVENTS, seq=covered + 1, subject=wanted, next=True, direct=True)
    except nats.js.errors.NotFoundError:
        return 0.0
    return _age_s(oldest.time)
