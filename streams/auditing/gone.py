"""What no longer stands in a stream: aged out at its head, or purged and deleted by hand."""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Final

from nats.aio.client import Client

from streams.auditing import asking, heads
from streams.auditing.accounts import MOST_ALIKE, Findings
from streams.auditing.scope import Range
from streams.auditing.standing import Standing

_ALWAYS: Final = datetime.fromtimestamp(0, UTC)


async def head(client: Client, standing: Standing, tenant: str | None, at: datetime, findings: Findings) -> None:
    """Whether what the range has before the head of the stream has aged out."""
    gone = standing.gone
    if gone.empty:
        return
    since = heads.young_since(standing, at) or _ALWAYS
    [row] = await asking.rows(
        client,
        check="head",
        stream=standing.name,
        after=gone.after,
        until=gone.last,
        tenant=tenant,
        stored_since=since.isoformat(),
    )
    known = heads.Known(row["messages"], row["events"] or 0, row["young"], row["young_first"], row["young_last"])
    for finding in heads.judge(standing, known, at):
        findings.take(finding)


def runs(sequences: Iterable[int]) -> list[Range]:
    """Sequences that follow one another, together."""
    found: list[Range] = []
    for sequence in sorted(sequences):
        if found and found[-1].last == sequence - 1:
            found[-1] = Range(found[-1].after, sequence)
        else:
            found.append(Range(sequence - 1, sequence))
    return found


async def between(client: Client, standing: Standing, findings: Findings) -> None:
    """What is gone though earlier and later messages stand: nothing ages out that way."""
    name, check = standing.name, f"{standing.name}.purged"
    for number, gone in enumerate(runs(standing.deleted)):
        messages, first = gone.last - gone.after, gone.after + 1
        what = f"message {first:,}" if messages == 1 else f"{messages:,} messages from {first:,} to {gone.last:,}"
        held = ""
        if number < MOST_ALIKE:
            [row] = await asking.rows(client, check="head", stream=name, after=gone.after, until=gone.last)
            if row["messages"] < messages:
                held = f"; the warehouse never had {messages - row['messages']:,} of them"
            elif messages == 1:
                [known] = await asking.rows(client, stream=name, after=gone.after, until=gone.last)
                held = f" ({known['subject']}, {known['events']:,} events); the warehouse had applied it"
            else:
                held = f" ({row['events']:,} events); the warehouse had applied them"
        about = {"sequence": first} if messages == 1 else {"first": first, "last": gone.last, "messages": messages}
        findings.add(
            "error", check, f"{what} of {name} {'is' if messages == 1 else 'are'} gone: purged or deleted by hand{held}", **about
        )
    if standing.deleted_more:
        findings.add(
            "error", check, f"{standing.deleted_more:,} messages within {name} are gone: purged or deleted by hand",
            messages=standing.deleted_more,
        )  # fmt: skip
