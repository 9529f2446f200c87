"""``agentops ledger what-if``: what happened, priced as if other models had been called or another book had held. Writes nothing."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from nats.aio.client import Client

from agent_manager.cli import output
from agent_manager.cli.connection import Place, run
from agent_manager.cli.failure import CommandFailedError
from agent_manager.cli.ledger.correcting import table, usd
from agent_manager.cli.ledger.reading import Scope, entries
from agent_manager.cli.ledger.rows import Row, priced
from agent_manager.cli.prices.shelf import opened, prices
from schemas.prices.finding import Plan, PriceBook

if TYPE_CHECKING:
    import polars as pl

_BY = ("day", "model", "provider", "agent_id", "tenant_id")


def mapping(given: list[str], book: PriceBook) -> dict[str, tuple[str | None, str]]:
    """``a=b`` or ``a=provider/b`` as {a: (provider, b)}; raises CommandFailedError where b has no price at that provider."""
    found: dict[str, tuple[str | None, str]] = {}
    for text in given:
        old, equals, new = text.partition("=")
        if not equals or not old or not new:
            raise CommandFailedError(
                f"--map {text!r} is not OLD=NEW", "For example: --map claude-sonnet-4-5=claude-haiku-4-5", code=2
            )
        ahead, slash, rest = new.partition("/")
        provider, model = (ahead, rest) if slash and ahead.lower() in book.providers else (None, new)
        if provider is not None and not isinstance(plan := book.plan(provider, model), Plan):
            raise CommandFailedError(f"--map {text!r}: {plan.why}", "See `agentops prices list --provider …`", code=2)
        if provider is None and not _is_sold(book, new):
            raise CommandFailedError(
                f"--map {text!r}: no provider has a price for a model {new!r}",
                f"See `agentops prices list --search {new}`",
                code=2,
            )
        found[old] = (provider, model)
    return found


def _is_sold(book: PriceBook, model: str) -> bool:
    """Whether anybody has a price for it, agreements of one tenant included."""
    tenants = {None, *(one.tenant for one in book.overrides)}
    sellers = {*book.providers, *(one.provider for one in book.overrides)}
    return any(isinstance(book.plan(seller, model, None, tenant), Plan) for seller in sellers for tenant in tenants)


def mapped(row: Row, by: dict[str, tuple[str | None, str]]) -> tuple[str | None, str] | None:
    """What the call becomes: looked up by its model as the event named it, as the book does, or as ``provider/model``."""
    return next((by[name] for name in _names(row) if name in by), None)


def _names(row: Row) -> tuple[str, ...]:
    priced_as = row["priced_as"] or ""
    return row["model"], f"{row['provider']}/{row['model']}", priced_as, priced_as.partition("/")[2]


def what_if(data: Path | None, scope: Scope, given: list[str], version: str | None, by: list[str], *, as_json: bool) -> None:
    """Compares and prints."""
    from agent_manager.cli.ledger.comparing import Comparison, shares, sums, whys  # noqa: PLC0415 - polars is heavy

    strange = [name for name in by if name not in _BY]
    if strange:
        raise CommandFailedError(f"--by {strange[0]!r} is not possible", f"Sums are by {', '.join(_BY)}", code=2)
    if not given and version is None:
        raise CommandFailedError("what if what?", "Give --map OLD=NEW, or --book VERSION, or both", code=2)

    async def work(client: Client, _: Place) -> tuple["pl.DataFrame", str, int, list[str]]:
        book = await prices(await opened(client), version)
        others = mapping(given, book)
        compared, untouched, met = Comparison(), 0, set[str]()
        async for page in entries(client, scope, only_open=True):
            for row in page.iter_rows(named=True):
                becomes = mapped(row, others)
                met |= others.keys() & set(_names(row))
                if becomes is None and version is None:
                    untouched += 1
                    continue
                provider, model = becomes or (None, None)
                compared.add(row, priced(row, book, provider=provider, model=model))
        return compared.frame(), book.version, untouched, sorted(others.keys() - met)

    frame, used, untouched, unmet = run(data, work)
    summed, total = sums(frame, by), sums(frame, [])
    (row,) = total.iter_rows(named=True)
    unpriced = whys(frame)
    if as_json:

        def plain(each: dict[str, Any]) -> dict[str, Any]:
            return {name: format(value, "f") if hasattr(value, "as_tuple") else value for name, value in each.items()}

        output.write_json({
            "version": used, "scope": scope.words(), "map": given, "total": plain(row), "rows": [plain(each) for each in summed.iter_rows(named=True)],
            "untouched": untouched, "unmet": unmet, "unpriced": [{"provider": one[0], "model": one[1], "why": one[2], "entries": one[3]} for one in unpriced],
        })  # fmt: skip
        return
    table(summed, by, after="WHAT IF USD")
    output.write_line(
        f"{scope.words()}, by {used}: {usd(row['before_usd'])} → {usd(row['after_usd'])} USD, difference {usd(row['difference_usd'])} "
        f"{shares(row['before_usd'], row['after_usd'])}".rstrip()
    )
    for old in unmet:
        output.note(f"nothing was called as {old!r}: see `agentops ledger list` for the names there are")
    if untouched:
        output.note(f"{untouched:,} entries of other models are left out")
    for provider, model, why, count in unpriced[:10]:
        output.note(f"left out: {count:,} of {provider}/{model}: {why}")
    output.note("the same tokens are assumed: another model may need more or fewer")
