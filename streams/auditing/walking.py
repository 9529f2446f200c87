"""Message by message: each as it stands in the stream, beside what the warehouse has of it."""

from nats.aio.client import Client

from streams.auditing import asking, reading
from streams.auditing.accounts import CoverageBook, Findings, compare
from streams.auditing.standing import Standing


async def walk(
    client: Client, standing: Standing, applied_to: int, tenant: str | None, book: CoverageBook | None, findings: Findings
) -> int:
    """Compares all of what stands in the range; returns how many messages that were."""
    found = 0
    told_already = standing.deleted if tenant is None else frozenset()
    wanted = standing.standing
    rows = asking.applied(client, standing.name, wanted.after, wanted.last, tenant)
    row = await anext(rows, None)
    async for stored in reading.messages(client, standing, tenant):
        while row is not None and row.sequence < stored.sequence:
            if row.sequence not in told_already:
                compare(standing.name, None, row, findings)
            row = await anext(rows, None)
        same = row if row is not None and row.sequence == stored.sequence else None
        if stored.sequence <= applied_to or same is not None:
            compare(standing.name, stored, same, findings)
        if same is not None:
            row = await anext(rows, None)
        if book is not None:
            book.see(stored)
        found += 1
    while row is not None:
        if row.sequence not in told_already:
            compare(standing.name, None, row, findings)
        row = await anext(rows, None)
    return found
