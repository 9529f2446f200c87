# ruff: noqa: PLC0415 - help and completion must not pay for NATS
from pathlib import Path
from typing import Annotated

import typer

from agent_manager.cli.failure import CommandFailedError
from agent_manager.cli.options import Data, Json

app = typer.Typer(no_args_is_help=True, help="Prices: the books, what is agreed on top of them, and every change there was.")

Reason = Annotated[str, typer.Option("--reason", "-r", help="Why, for whoever looks later.", show_default=False)]
OneProvider = Annotated[str | None, typer.Option("--provider", "-p", help="Only this provider.", show_default=False)]
Version = Annotated[str | None, typer.Option("--version", help="Another version than the one in force.", show_default=False)]


@app.command("list", epilog="Examples: agentops prices list · agentops prices list --provider anthropic --search sonnet")
def list_(
    provider: OneProvider = None,
    search: Annotated[str | None, typer.Option("--search", "-s", help="Only models with this in their id.", show_default=False)] = None,
    version: Version = None, data: Data = None, as_json: Json = False,
) -> None:  # fmt: skip
    """Show what is in force: providers and agreements, or the models of one provider with their prices of today."""
    from agent_manager.cli.prices import showing

    showing.list_(data, provider, search, version, as_json=as_json)


@app.command(epilog="Example: agentops prices show openai/gpt-4o --tier batch --at 2026-01-15")
def show(
    model: Annotated[str, typer.Argument(metavar="PROVIDER/MODEL", help="As events name them.", show_default=False)],
    tenant: Annotated[str | None, typer.Option("--tenant", "-t", help="As this tenant pays.", show_default=False)] = None,
    tier: Annotated[str | None, typer.Option("--tier", help="Service tier of the call: batch, priority, flex, …", show_default=False)] = None,
    at: Annotated[str | None, typer.Option("--at", help="At that moment. [default: now]", show_default=False)] = None,
    version: Version = None, data: Data = None, as_json: Json = False,
) -> None:  # fmt: skip
    """Show how a call would be priced, by which rules, and when that changes."""
    from agent_manager.cli.prices import showing

    showing.show(data, model, tenant, tier, at, version, as_json=as_json)


@app.command(epilog="Example: agentops prices export > book.json")
def export(version: Version = None, data: Data = None) -> None:
    """Print a whole book as JSON: to read, to change under a new version, to import."""
    from agent_manager.cli.prices import showing

    showing.export(data, version)


@app.command("import", epilog="Example: agentops prices import book.json --reason 'prices of our cluster' --use")
def import_(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A book as `agentops prices export` prints it.", show_default=False)],
    reason: Reason,
    use_it: Annotated[bool, typer.Option("--use", help="Bring it into force at once.")] = False,
    data: Data = None, as_json: Json = False,
) -> None:  # fmt: skip
    """Keep a book of your own under its version; versions never change."""
    from agent_manager.cli.prices import changing

    changing.import_(data, file, reason, use_it=use_it, as_json=as_json)


@app.command(epilog="Examples: agentops prices use our-book-2 --reason '…' · agentops prices use --default --reason '…'")
def use(
    reason: Reason,
    version: Annotated[str | None, typer.Argument(metavar="[VERSION]", help="The book.", show_default=False)] = None,
    default: Annotated[bool, typer.Option("--default", help="The book that comes with the system, and the newest from then on.")] = False,
    data: Data = None, as_json: Json = False,
) -> None:  # fmt: skip
    """Bring a book into force for calls priced from now on; agreements stay."""
    from agent_manager.cli.prices import changing

    if (version is None) != default:
        raise CommandFailedError("which book?", "Give a version from `agentops prices history`, or --default", code=2)
    changing.use(data, version, reason, as_json=as_json)


@app.command(
    "set",
    epilog="Examples: agentops prices set --provider openai --discount 12.5 --reason 'contract 2026' · agentops prices set --provider local --model our-llama --price input=0.1 --price output=0.3 --reason 'own GPUs'",
)
def set_(
    provider: Annotated[str, typer.Option("--provider", "-p", help="As events or the book name it.", show_default=False)],
    reason: Reason,
    model: Annotated[str, typer.Option("--model", "-m", help="The book's id, or the name exactly as events give it.")] = "*",
    match: Annotated[str | None, typer.Option("--match", help="Instead of --model: starts_with:…, contains:…, ends_with:… or regex:…", show_default=False)] = None,
    discount: Annotated[str | None, typer.Option("--discount", help="Percent off every price of the book.", show_default=False)] = None,
    price: Annotated[list[str] | None, typer.Option("--price", help="UNIT=USD per million (_k: per thousand); repeatable. input=3@200000:6 costs 6 above 200,000 input tokens.", show_default=False)] = None,
    tenant: Annotated[str | None, typer.Option("--tenant", "-t", help="Only for this tenant. [default: all]", show_default=False)] = None,
    tier: Annotated[str | None, typer.Option("--tier", help="Only for this service tier.", show_default=False)] = None,
    since: Annotated[str | None, typer.Option("--from", help="For calls from then on. [default: all]", show_default=False)] = None,
    until: Annotated[str | None, typer.Option("--until", help="For calls before then.", show_default=False)] = None,
    name: Annotated[str | None, typer.Option("--id", help="Its name; the same name again replaces it. [default: made from provider and model]", show_default=False)] = None,
    data: Data = None, as_json: Json = False,
) -> None:  # fmt: skip
    """Agree on other prices: a discount, own prices, or prices of a model of your own."""
    from agent_manager.cli.prices import changing

    wanted = changing.Wanted(provider, model, match, discount, tuple(price or ()), tenant, tier, since, until, name)
    changing.set_(data, wanted, reason, as_json=as_json)


@app.command(epilog="Example: agentops prices remove openai-all --reason 'contract ended'")
def remove(
    name: Annotated[str, typer.Argument(metavar="ID", help="Of the agreement, from `agentops prices list`.", show_default=False)],
    reason: Reason, data: Data = None, as_json: Json = False,
) -> None:  # fmt: skip
    """Take an agreement away for calls priced from now on."""
    from agent_manager.cli.prices import changing

    changing.remove(data, name, reason, as_json=as_json)


@app.command(epilog="Example: agentops prices diff genai-prices-0.2.3-981193a4 our-book-2")
def diff(
    before: Annotated[str, typer.Argument(metavar="VERSION", show_default=False)],
    after: Annotated[str | None, typer.Argument(metavar="[VERSION]", help="[default: what is in force]", show_default=False)] = None,
    provider: OneProvider = None, data: Data = None, as_json: Json = False,
) -> None:  # fmt: skip
    """Show what differs between two versions, model by model and agreement by agreement."""
    from agent_manager.cli.prices import showing

    showing.diff(data, before, after, provider, as_json=as_json)


@app.command(epilog="Example: agentops prices history --json")
def history(data: Data = None, as_json: Json = False) -> None:
    """Show every book and every change of what is in force: when, by whom, why."""
    from agent_manager.cli.prices import showing

    showing.history(data, as_json=as_json)
