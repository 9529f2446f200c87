"""What is told of an agent, put together from sums and from rows that are not in them."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from processors.aggregate.rollups import MOST, height_of_bucket

FIGURES: Final = ("runs_started", "runs_finished", "runs_failed", "cost_usd", "call_tokens")
_SEEN: Final = 5
"""Columns before the figures: when it was last seen, and two names with the moment each was given."""

Figures = tuple[int, int, int, Decimal, int]
Sketch = Mapping[int, int]
Name = tuple[datetime, str]
_NOTHING: Final[Figures] = (0, 0, 0, Decimal(0), 0)
_NONE: Final = [None] * len(FIGURES)


@dataclass(frozen=True, slots=True)
class Agent:
    """What is known of an agent."""

    last_at: datetime | None
    named: Name | None
    versioned: Name | None
    figures: Figures
    runs: Sketch
    calls: Sketch
    """Of an agent that has no runs; of others it may be empty."""

    @classmethod
    def of_sums(cls, told: Sequence[Any]) -> "Agent":
        """When it was last seen, its names, figures, whether the sketch is of runs, the buckets of the sketch and what fell into each."""
        of_runs, buckets, numbers = told[-3:]
        sketch = dict(zip(buckets or (), numbers or (), strict=True))
        return cls(*_seen(told), _plus(_NOTHING, told[_SEEN:-3]), sketch if of_runs else {}, {} if of_runs else sketch)

    def with_rows(self, several: Sequence[Sequence[Any]]) -> "Agent":
        """With rows that have the columns of ``of_sums``, but in the place of the last three a list of buckets of runs.

        Of two names given at the same moment it is always the same one.
        """
        last_at, named, versioned, runs = self.last_at, self.named, self.versioned, self.runs
        started, finished, failed, cost, tokens = self.figures
        for seen, name_at, name, version_at, version, *figures, buckets in several:
            if last_at is None or seen > last_at:
                last_at = seen
            if name is not None and (named is None or (name_at, name) > named):
                named = (name_at, name)
            if version is not None and (versioned is None or (version_at, version) > versioned):
                versioned = (version_at, version)
            if figures != _NONE:
                started, finished, failed, cost, tokens = _plus((started, finished, failed, cost, tokens), figures)
            if buckets:
                runs = _together(runs, Counter(buckets))
        return Agent(last_at, named, versioned, (started, finished, failed, cost, tokens), runs, self.calls)

    def with_edge(self, several: Sequence[Sequence[Any]]) -> "Agent":
        """With rows of figures, before which stands whether a bucket is of runs, the bucket, and how many fell into it."""
        figures, runs, calls = self.figures, dict(self.runs), dict(self.calls)
        for of_runs, bucket, number, *more in several:
            figures = _plus(figures, more)
            if bucket is not None:
                sketch = runs if of_runs else calls
                sketch[bucket] = sketch.get(bucket, 0) + number
        return replace(self, figures=figures, runs=runs, calls=calls)

    def with_calls(self, buckets: Iterable[int]) -> "Agent":
        """With model calls that took so long."""
        return replace(self, calls=_together(self.calls, Counter(buckets)))


UNKNOWN: Final = Agent(None, None, None, _NOTHING, {}, {})


def _seen(told: Sequence[Any]) -> tuple[datetime | None, Name | None, Name | None]:
    last_at, name_at, name, version_at, version = told[:_SEEN]
    return last_at, None if name is None else (name_at, name), None if version is None else (version_at, version)


def _plus(figures: Figures, more: Sequence[Any]) -> Figures:
    started, finished, failed, cost, tokens = figures
    return (
        started + (more[0] or 0),
        finished + (more[1] or 0),
        failed + (more[2] or 0),
        cost if more[3] is None else cost + more[3],
        tokens + (more[4] or 0),
    )


def _together(one: Sketch, other: Sketch) -> Sketch:
    if not one or not other:
        return one or other
    both = dict(one)
    for bucket, number in other.items():
        both[bucket] = both.get(bucket, 0) + number
    return both


def _percentiles(sketch: Sketch) -> tuple[float | None, float | None]:
    """The median and the 95th percentile."""
    total, upto, median = sum(sketch.values()), 0, None
    for bucket in sorted(sketch):
        upto += sketch[bucket]
        if median is None and upto * 2 >= total:
            median = bucket
        if upto * 20 >= total * 19:
            assert median is not None
            return height_of_bucket(median), height_of_bucket(bucket)
    return None, None


def row(key: tuple[str, str], agent: Agent, percentiles: tuple[float | None, float | None] | None = None) -> tuple[Any, ...]:
    """What is told of it; ``percentiles`` where they are known."""
    started, finished, failed, cost, tokens = agent.figures
    return (
        *key,
        None if agent.named is None else agent.named[1],
        None if agent.versioned is None else agent.versioned[1],
        agent.last_at,
        max(started, finished),
        failed,
        cost,
        min(tokens, MOST),
        *(percentiles or _percentiles(agent.runs or agent.calls)),
    )
