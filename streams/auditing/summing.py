"""By sums: the warehouse says what in it does not add up, range by range; coverage records say what should be there.

Every message of a stream has its sequence and every batch its coverage record, so no header needs to be read: a message that
the warehouse lacks is a hole between sequences, and rows, lines and records that disagree are told by the warehouse itself.
"""

from typing import Any, Final

import nats.errors
import nats.js.errors
from nats.aio.client import Client

from schemas.queries import MAX_PAGE
from streams.auditing import asking
from streams.auditing.accounts import MOST_ALIKE, CoverageBook, Findings, Mismatch, messages
from streams.auditing.scope import Range
from streams.auditing.standing import Standing

MOST_ROWS: Final = 1_000_000
"""Rows of one question: what half a gigabyte of memory and a few seconds hold."""

Row = dict[str, Any]


async def windows(client: Client, standing: Standing, until: int) -> list[Range]:
    """The range up to ``until``, in parts of which each makes one question."""
    wanted = Range(standing.range.after, until)
    if wanted.empty:
        return []
    bins = await asking.rows(client, check="extent", stream=standing.name, after=wanted.after, until=wanted.last)
    return wanted.windows([(row["last_sequence"], row["messages"], row["events"]) for row in bins], MOST_ROWS)


async def sums(
    client: Client,
    standing: Standing,
    parts: list[Range],
    book: CoverageBook | None,
    findings: Findings,
    *,
    rows_too: bool = True,
) -> None:
    """Finds what does not add up in ``parts``; ``book`` holds the records of who answers for the outputs, where that is audited."""
    off: list[Mismatch] = []
    for part in parts:
        rows = await asking.rows(client, check="problems", stream=standing.name, after=part.after, until=part.last, most=MAX_PAGE)
        for row in rows:
            if row["problem"] in {"outputs", "letters"}:
                off.append(Mismatch(row["first_sequence"], row["expected"], row["found"], dead=row["problem"] == "letters"))
            elif rows_too and row["problem"] == "hole":
                await _hole(client, standing, row["first_sequence"], row["last_sequence"], findings)
            elif rows_too:
                problem(standing.name, row, findings)
        if len(rows) >= MAX_PAGE:
            many(standing.name, part, findings)
    if book is not None:
        book.tell(off)


def many(stream: str, part: Range, findings: Findings) -> None:
    """More is wrong than one answer holds."""
    findings.add(
        "warning", f"{stream}.many",
        f"more than {MAX_PAGE:,} things do not add up in {stream} between {part.after + 1:,} and {part.last:,}: not all are told",
        first=part.after + 1, last=part.last,
    )  # fmt: skip


def problem(stream: str, row: Row, findings: Findings) -> None:
    """What is wrong with one message."""
    sequence, expected, found = row["first_sequence"], row["expected"], row["found"]
    what = f"message {sequence:,} of {stream} ({row['subject']})"
    match row["problem"]:
        case "rows":
            findings.add(
                "error", f"{stream}.rows", f"{what} has {found:,} rows in the warehouse, there were {expected:,}",
                sequence=sequence, expected=expected, found=found,
            )  # fmt: skip
        case "stray":
            findings.add(
                "error", f"{stream}.rows", f"{found:,} rows in the warehouse are of message {sequence:,} of {stream}, which it never applied",
                sequence=sequence, expected=0, found=found,
            )  # fmt: skip
        case "counts":
            findings.add(
                "error", f"{stream}.counts", f"{what} promises {expected:,} events, the warehouse found {found:,}",
                sequence=sequence, promised=expected, found=found,
            )  # fmt: skip
        case "unreadable":
            findings.add(
                "warning", f"{stream}.unreadable", f"{what} had {found:,} lines the warehouse could not read: dead letters",
                sequence=sequence,
            )  # fmt: skip


async def _hole(client: Client, standing: Standing, first: int, last: int, findings: Findings) -> None:
    """Sequences the warehouse never applied: some may not stand in the stream either, which is told elsewhere."""
    name = standing.name
    if first < standing.first:
        await _below(client, standing, first, min(last, standing.first - 1), findings)
        first = standing.first
    gone = sum(first <= sequence <= last for sequence in standing.deleted)
    lacking = last - first + 1 - gone
    if lacking <= 0:
        return
    if lacking > 1:
        findings.add(
            "error", f"{name}.applied", f"{lacking:,} messages of {name} between {first:,} and {last:,} are missing in the warehouse",
            first=first, last=last, messages=lacking,
        )  # fmt: skip
        return
    sequence = next(one for one in range(first, last + 1) if one not in standing.deleted)
    subject = await _subject(client, name, sequence) if findings.bad(f"{name}.applied") < MOST_ALIKE else None
    findings.add(
        "error", f"{name}.applied", f"message {sequence:,} of {name}{f' ({subject})' if subject else ''} is missing in the warehouse",
        sequence=sequence, messages=1,
    )  # fmt: skip


async def _below(client: Client, standing: Standing, first: int, last: int, findings: Findings) -> None:
    """A hole before the head of the stream: nothing to say of what a warehouse begun later never saw; else it was lost."""
    rows = await asking.rows(client)
    begun = next((row["first_sequence"] for row in rows if row["stream"] == standing.name), None)
    if begun is not None and begun < first:
        findings.add(
            "error", f"{standing.name}.applied",
            f"{messages(last - first + 1)} of {standing.name} between {first:,} and {last:,} gone before the warehouse applied them",
            first=first, last=last, messages=last - first + 1,
        )  # fmt: skip


async def _subject(client: Client, stream: str, sequence: int) -> str | None:
    try:
        return (await client.jsm().get_msg(stream, sequence)).subject
    except (nats.errors.Error, nats.js.errors.Error, TimeoutError):
        return None
