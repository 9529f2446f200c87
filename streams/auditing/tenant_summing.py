"""By sums, for one tenant: the warehouse says what of it does not add up; the stream is read only where something is missing.

A sequence the warehouse lacks does not say whose it was, so headers are read there, and nowhere else.
"""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final

from nats.aio.client import Client

from schemas.queries import MAX_PAGE
from streams.auditing import asking, gone, reading, summing
from streams.auditing.accounts import Findings, compare
from streams.auditing.scope import Range
from streams.auditing.standing import Standing

_NEAR: Final = 10_000
"""What is no further apart is read in one go."""


def spans(ranges: Iterable[Range], near: int = _NEAR) -> list[Range]:
    """``ranges`` (in order), those that are ``near`` each other together."""
    found: list[Range] = []
    for one in ranges:
        if found and one.after - found[-1].last <= near:
            found[-1] = Range(found[-1].after, one.last)
        else:
            found.append(one)
    return found


async def sums(client: Client, standing: Standing, until: int, parts: Sequence[Range], tenant: str, findings: Findings) -> int:
    """Finds what of ``tenant`` does not add up in ``parts``, which end at ``until``; returns how many of its messages stand in the range."""
    name = standing.name
    holes: list[Range] = []
    for part in parts:
        rows = await asking.rows(
            client, check="problems", stream=name, after=part.after, until=part.last, tenant=tenant, most=MAX_PAGE
        )
        for row in rows:
            if row["problem"] == "hole":
                holes.append(Range(row["first_sequence"] - 1, row["last_sequence"]))
            else:
                summing.problem(name, row, findings)
        if len(rows) >= MAX_PAGE:
            summing.many(name, part, findings)
    wanted = Range(standing.standing.after, until)
    if wanted.empty:
        return 0
    [row] = await asking.rows(client, check="head", stream=name, after=wanted.after, until=wanted.last, tenant=tenant)
    lacking = await _lacking(client, standing, holes, tenant, findings)
    return int(row["messages"]) + lacking - await _purged(client, standing, wanted, tenant, findings)


async def _lacking(client: Client, standing: Standing, holes: Sequence[Range], tenant: str, findings: Findings) -> int:
    """Tells which messages of the tenant stand in ``holes``, so that the warehouse should have them; returns how many."""
    standing_holes = [Range(max(hole.after, standing.first - 1), hole.last) for hole in holes if hole.last >= standing.first]
    missing = 0
    for span in spans(standing_holes):
        inside = iter([hole for hole in standing_holes if span.after <= hole.after < span.last])
        hole = next(inside)
        async for stored in reading.messages(client, replace(standing, range=span), tenant):
            while stored.sequence > hole.last:
                following = next(inside, None)
                if following is None:
                    break
                hole = following
            if hole.after < stored.sequence <= hole.last:
                compare(standing.name, stored, None, findings)
                missing += 1
    return missing


async def _purged(client: Client, standing: Standing, wanted: Range, tenant: str, findings: Findings) -> int:
    """Tells which messages of the tenant the warehouse has though they are gone from the middle of the stream; returns how many."""
    found = 0
    for span in spans(gone.runs(sequence for sequence in standing.deleted if wanted.after < sequence <= wanted.last)):
        async for row in asking.applied(client, standing.name, span.after, span.last, tenant):
            if row.sequence in standing.deleted:
                compare(standing.name, None, row, findings)
                found += 1
    return found
