"""Checkpoints: series under ``alerts.<rule>.…``, then, under ``alerts``, how far the streams were read.

Series are written before the positions, and each knows its own (``applied``); what was told since stands in ALERTS.
"""

import asyncio
from collections.abc import Sequence
from typing import Final

from nats.aio.client import Client

from processors.alerts.series import Series
from schemas.model import Count, Instant, Lenient
from streams import topology
from streams.kv import TypedBucket

_KEY: Final = "alerts"
_TOGETHER: Final = 64


class Positions(Lenient):
    """How far each stream is contained in the series."""

    events: Count
    ledger: Count
    alerts: Count
    """Changes told after this stand in ALERTS only."""
    at: Instant


class Checkpoints:
    """The alerts processor's part of bucket ``checkpoints``."""

    def __init__(self, series: TypedBucket[Series], positions: TypedBucket[Positions]) -> None:
        self._series = series
        self._positions = positions
        self._kept: set[str] = set()

    @classmethod
    async def open(cls, client: Client) -> "Checkpoints":
        """Opens the bucket; raises BucketMissingError when the topology lacks it."""
        return cls(
            await TypedBucket.open(client, topology.CHECKPOINTS, Series),
            await TypedBucket.open(client, topology.CHECKPOINTS, Positions),
        )

    async def load(self) -> tuple[Positions | None, list[Series]]:
        """What was last written; None where nothing was."""
        found = await self._positions.get(_KEY)
        series = [entry.value async for entry in self._series.watch(f"{_KEY}.>", once=True) if entry.value is not None]
        self._kept = {each.key for each in series}
        return (found.value if found else None), series

    async def save(self, series: Sequence[Series], positions: Positions) -> None:
        """Writes what is worth keeping, removes what is no more, then the positions. Writing again is harmless."""
        waiting = [each for each in series if each.worth_keeping or each.key in self._kept]
        for start in range(0, len(waiting), _TOGETHER):
            await asyncio.gather(*(self._save(each) for each in waiting[start : start + _TOGETHER]))
        await self._positions.put(_KEY, positions)

    async def _save(self, series: Series) -> None:
        key = f"{_KEY}.{series.key}"
        if series.worth_keeping:
            await self._series.put(key, series)
            self._kept.add(series.key)
        else:
            await self._series.delete(key)
            self._kept.discard(series.key)
