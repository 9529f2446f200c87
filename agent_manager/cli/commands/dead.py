# ruff: noqa: PLC0415 - help and completion must not pay for NATS
from typing import Annotated

import typer

from agent_manager.cli.failure import CommandFailedError
from agent_manager.cli.options import ByTenant, Data, Json

app = typer.Typer(no_args_is_help=True, help="Dead letters: see what was refused and why, bring it back after a fix.")

Reason = Annotated[str | None, typer.Option("--reason", help="Only this reason, such as contract_violation.", show_default=False)]
Kind = Annotated[str | None, typer.Option("--kind", "-k", help="Only this kind.", show_default=False)]
Since = Annotated[
    str | None, typer.Option("--since", help="Only those received since: 1h (ago), today, 2026-11-20.", show_default=False)
]


@app.command("list", epilog="Example: agentops dead list --reason contract_violation --since 1h")
def list_(
    tenant: ByTenant = None, reason: Reason = None, kind: Kind = None, since: Since = None,
    waiting: Annotated[bool, typer.Option("--waiting", help="Only those that were not replayed.")] = False,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="At most so many, the newest.")] = 50,
    data: Data = None, as_json: Json = False,
) -> None:  # fmt: skip
    """Show dead letters, the newest last."""
    from agent_manager.cli.dead import showing

    showing.list_(data, tenant, showing.wanted(None, reason, kind, since, waiting=waiting), limit, as_json=as_json)


@app.command(epilog="Example: agentops dead show 5d1c --original > event.json")
def show(
    letter_id: Annotated[str, typer.Argument(metavar="LETTER_ID", help="Its id, or enough of its beginning.", show_default=False)],
    original: Annotated[bool, typer.Option("--original", help="Print the rejected bytes and nothing else.")] = False,
    data: Data = None, as_json: Json = False,
) -> None:  # fmt: skip
    """Show one dead letter: every problem, its source, its original bytes."""
    from agent_manager.cli.dead import showing

    showing.show(data, letter_id, original=original, as_json=as_json)


@app.command(epilog="Examples: agentops dead replay 5d1c · agentops dead replay --all --reason unknown_version")
def replay(
    letter_ids: Annotated[list[str] | None, typer.Argument(metavar="LETTER_ID…", help="Ids, or enough of their beginning.", show_default=False)] = None,
    everything: Annotated[bool, typer.Option("--all", help="Every letter that matches the options and was not replayed yet.")] = False,
    tenant: ByTenant = None, reason: Reason = None, kind: Kind = None, since: Since = None,
    data: Data = None, as_json: Json = False,
) -> None:  # fmt: skip
    """Publish dead letters' original bytes again where they came from."""
    from agent_manager.cli.dead import showing

    if bool(letter_ids) == everything:
        raise CommandFailedError(
            "which letters?", "Give ids from `agentops dead list`, or --all (with --reason, --tenant, --since)", code=2
        )
    showing.replay(data, tenant, showing.wanted(letter_ids, reason, kind, since, waiting=everything), as_json=as_json)
