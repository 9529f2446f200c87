"""``agentops ledger reprice|reverse|duplicates``: what would be corrected, and with ``--yes`` the requests to cost that do it."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal
from uuid import uuid4

from nats.aio.client import Client

from agent_manager.cli import output, readable
from agent_manager.cli.connection import Place, run
from agent_manager.cli.failure import CommandFailedError
from agent_manager.cli.fitting import Column
from agent_manager.cli.ledger.reading import EVER, Scope, entries
from agent_manager.cli.ledger.rows import priced
from agent_manager.cli.money import ask_cost
from agent_manager.cli.prices.shelf import opened, prices
from agent_manager.cli.query.asking import ask
from schemas.corrections import MOST_ENTRIES, CorrectionAnswer, CorrectionRequest, EntryReference
from schemas.prices.finding import Unpriced
from streams import subjects

if TYPE_CHECKING:
    import polars as pl


@dataclass(slots=True)
class Done:
    """What cost said of all requests together."""

    correction_id: str
    corrected: int = 0
    before: Decimal = Decimal(0)
    after: Decimal = Decimal(0)
    left: dict[str, int] = field(default_factory=dict)
    """Entries not corrected, by why."""

    def add(self, answer: CorrectionAnswer) -> None:
        """One more answer."""
        self.corrected += answer.corrected
        self.before += answer.before_usd
        self.after += answer.after_usd
        for one in answer.left:
            self.left[one.outcome] = self.left.get(one.outcome, 0) + 1


def _parts(references: Iterable[EntryReference]) -> Iterator[tuple[EntryReference, ...]]:
    several = iter(references)
    while part := tuple(islice(several, MOST_ENTRIES)):
        yield part


async def correct(
    client: Client, place: Place, wanted: "pl.DataFrame", *, action: Literal["reprice", "reverse"], version: str | None, reason: str,
    duplicates: bool = False,
) -> Done:  # fmt: skip
    """Asks cost for every entry of ``wanted``, day by day. Broken off, the same again corrects what is left and nothing twice."""
    done = Done(uuid4().hex)
    for (tenant,), own in wanted.sort("tenant_id", "day", "stream_sequence").group_by(["tenant_id"], maintain_order=True):
        references = (
            EntryReference(sequence=sequence, entry_id=entry)
            for sequence, entry in own.select("stream_sequence", "entry_id").iter_rows()
        )
        for part in _parts(references):
            request = CorrectionRequest(
                correction_id=done.correction_id, tenant=str(tenant), action=action, version=version, entries=part, reason=reason,
                duplicates=duplicates,
            )  # fmt: skip
            done.add(await ask_cost(client, subjects.cost_corrections(place.user), request, CorrectionAnswer))
            if wanted.height > MOST_ENTRIES:
                output.note(f"{done.corrected + sum(done.left.values()):,} of {wanted.height:,} entries …")
    return done


def _reasoned(reason: str) -> None:
    if not reason.strip():
        raise CommandFailedError("--reason is empty", "Say why: it stands in the ledger for ever", code=2)


def usd(value: Decimal | None) -> str:
    """Exact: finance compares digits."""
    return readable.NOTHING if value is None else f"{value:,.9f}"


def table(frame: "pl.DataFrame", by: list[str], before: str = "BEFORE USD", after: str = "AFTER USD") -> None:
    """Sums as a table. A model's name mostly tells its provider, and the difference follows from what stands before it."""
    columns = [
        *(Column(name.upper(), rank=4 if name == "provider" and "model" in by else 0) for name in by),
        Column("ENTRIES", right=True, rank=3), Column(before, right=True), Column(after, right=True),
        Column("DIFFERENCE", right=True, rank=2),
    ]  # fmt: skip
    rows = (
        [
            *(str(row[name]) for name in by),
            f"{row['entries']:,}",
            usd(row["before_usd"]),
            usd(row["after_usd"]),
            usd(row["difference_usd"]),
        ]
        for row in frame.iter_rows(named=True)
    )
    output.write_table(columns, rows, empty="nothing to compare")


def _json(frame: "pl.DataFrame") -> list[dict[str, Any]]:
    return [
        {name: format(value, "f") if isinstance(value, Decimal) else value for name, value in row.items()}
        for row in frame.iter_rows(named=True)
    ]


def _tell(done: Done | None, *, as_json: bool, preview: dict[str, Any]) -> None:
    if as_json:
        more = {} if done is None else {
            "correction_id": done.correction_id, "corrected": done.corrected, "left": done.left,
            "before_usd": format(done.before, "f"), "after_usd": format(done.after, "f"),
        }  # fmt: skip
        output.write_json({"written": done is not None} | preview | more)
    elif done is None:
        output.note("nothing is written yet: --yes writes it")
    else:
        left = ", ".join(f"{count:,} {why}" for why, count in sorted(done.left.items()))
        output.write_line(
            f"corrected {done.corrected:,} entries: {usd(done.before)} → {usd(done.after)} USD, difference {usd(done.after - done.before)}"
            f"{f' (left alone: {left})' if left else ''}. Correction {done.correction_id}"
        )


def reprice(data: Path | None, scope: Scope, book: str | None, reason: str, *, yes: bool, as_json: bool) -> None:
    """Charges entries anew by a book: what counts today is taken back and charged by the prices of the call's own moment."""
    from agent_manager.cli.ledger.comparing import Comparison, sums, whys  # noqa: PLC0415 - polars is heavy

    _reasoned(reason)

    async def work(client: Client, place: Place) -> tuple["pl.DataFrame", str, Done | None]:
        by = await prices(await opened(client), book)
        compared = Comparison()
        async for page in entries(client, scope, only_open=True):
            for row in page.iter_rows(named=True):
                found = priced(row, by)
                if isinstance(found, Unpriced) or found.cost != row["cost_usd"] or row["priced_as"] is None:
                    compared.add(row, found)
        frame = compared.frame()
        wanted = frame.drop_nulls("after_usd")
        done = None
        if yes and not wanted.is_empty():
            done = await correct(client, place, wanted, action="reprice", version=by.version, reason=reason)
        return frame, by.version, done

    frame, version, done = run(data, work)
    by_day = sums(frame.drop_nulls("after_usd"), ["day", "provider", "model"])
    total = sums(frame, [])
    unpriced = whys(frame)
    if not as_json:
        table(by_day, ["day", "provider", "model"])
        (row,) = total.iter_rows(named=True)
        priced_now = row["entries"] - row["unpriced"]
        output.write_line(
            f"{scope.words()}, by {version}: {readable.number(priced_now, 'entry costs', 'entries cost')} otherwise, {usd(row['before_usd'])} → {usd(row['after_usd'])} USD, difference {usd(row['difference_usd'])}"
        )
        for provider, model, why, count in unpriced[:10]:
            output.note(f"left alone: {count:,} of {provider}/{model}: {why}")
        if priced_now == 0:
            return
    _tell(done, as_json=as_json, preview={
        "version": version, "scope": scope.words(), "total": _json(total)[0], "by_day": _json(by_day),
        "unpriced": [{"provider": one[0], "model": one[1], "why": one[2], "entries": one[3]} for one in unpriced],
    })  # fmt: skip


async def one_entry(client: Client, entry: str) -> dict[str, Any]:
    """The one entry whose id begins so; raises CommandFailedError."""
    scope = Scope(EVER).parameters()
    page = await ask(client, "ledger", scope | {"entry": entry, "limit": 20})
    rows = [row for row in page.rows if row["entry_id"].startswith(entry)]
    exact = [row for row in rows if row["entry_id"] == entry]
    found = exact or rows
    if not found:
        raise CommandFailedError(
            f"the ledger has no entry {entry!r}", "`agentops ledger list` shows them; new ones take a second", code=2
        )
    if len(found) > 1:
        raise CommandFailedError(
            f"{entry!r} begins {len(found)} entries", f"Give more: {', '.join(row['entry_id'] for row in found[:4])}", code=2
        )
    return found[0]


def reverse(data: Path | None, ids: list[str], reason: str, *, yes: bool, as_json: bool) -> None:
    """Takes entries back whole."""
    import polars as pl  # noqa: PLC0415 - heavy

    _reasoned(reason)

    async def work(client: Client, place: Place) -> tuple[list[dict[str, Any]], Done | None]:
        rows = [await one_entry(client, one) for one in ids]
        for row in rows:
            if row["kind"] == "reversal":
                raise CommandFailedError(f"{row['entry_id']} is itself a reversal", "Reprice or charge anew instead", code=2)
            if row["reversed_by"] is not None:
                raise CommandFailedError(
                    f"{row['entry_id']} is reversed already",
                    f"By {row['reversed_by']}: `agentops ledger show {row['reversed_by']}`",
                    code=2,
                )
        wanted = pl.DataFrame([
            {"tenant_id": row["tenant_id"], "day": row["occurred_at"][:10], "stream_sequence": row["stream_sequence"], "entry_id": row["entry_id"]}
            for row in rows
        ])  # fmt: skip
        return rows, await correct(client, place, wanted, action="reverse", version=None, reason=reason) if yes else None

    rows, done = run(data, work)
    total = sum((Decimal(row["cost_usd"]) for row in rows), Decimal(0))
    if not as_json:
        output.write_table(
            [Column("ENTRY"), Column("KIND"), Column("TENANT"), Column("AGENT"), Column("MODEL"), Column("CALLED"), Column("USD", right=True)],
            ([row["entry_id"], row["kind"], row["tenant_id"], row["agent_id"], f"{row['provider']}/{row['model']}", readable.clock(row["occurred_at"]), usd(Decimal(row["cost_usd"]))] for row in rows),
            empty="",
        )  # fmt: skip
        output.write_line(f"{len(rows):,} entries, {usd(total)} USD to be taken back")
    _tell(done, as_json=as_json, preview={"entries": [row["entry_id"] for row in rows], "total_usd": format(total, "f")})


def duplicates(data: Path | None, scope: Scope, reason: str, *, yes: bool, as_json: bool) -> None:
    """Takes back charges of calls that another event reports too: same tenant, provider and response id; the first stays."""
    import polars as pl  # noqa: PLC0415 - heavy

    async def work(client: Client, place: Place) -> tuple["pl.DataFrame", Done | None]:
        found: list[dict[str, Any]] = []
        offset: int | None = 0
        while offset is not None:
            page = await ask(client, "ledger_duplicates", scope.parameters() | {"limit": 1000, "offset": offset}, 60.0)
            found += page.rows
            offset = page.next_offset
        columns = (
            "tenant_id",
            "day",
            "stream_sequence",
            "entry_id",
            "provider",
            "model",
            "response_id",
            "kept_entry_id",
            "cost_usd",
        )
        frame = pl.DataFrame(
            {name: [row[name] for row in found] for name in columns}, schema_overrides={"stream_sequence": pl.Int64}
        )
        done = None
        if yes and not frame.is_empty():
            done = await correct(client, place, frame, action="reverse", version=None, reason=reason, duplicates=True)
        return frame, done

    frame, done = run(data, work)
    total = sum((Decimal(text) for text in frame["cost_usd"].to_list()), Decimal(0))
    if not as_json:
        output.write_table(
            [Column("DAY"), Column("MODEL"), Column("RESPONSE"), Column("ENTRY"), Column("STAYS"), Column("USD", right=True)],
            ([row["day"], f"{row['provider']}/{row['model']}", row["response_id"], row["entry_id"], row["kept_entry_id"], usd(Decimal(row["cost_usd"]))] for row in frame.head(100).iter_rows(named=True)),
            empty="no call is charged twice",
        )  # fmt: skip
        if frame.is_empty():
            return
        output.write_line(
            f"{scope.words()}: {frame.height:,} charges of calls already charged, {usd(total)} USD to be taken back"
        )
    _tell(done, as_json=as_json, preview={"duplicates": frame.to_dicts(), "total_usd": format(total, "f")})
