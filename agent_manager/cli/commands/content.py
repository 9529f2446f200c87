# ruff: noqa: PLC0415 - help and completion must not pay for NATS
from typing import Annotated, Literal

import typer

from agent_manager.cli.options import ByTenant, Data, Json

app = typer.Typer(no_args_is_help=True, help="Say what becomes of prompts, completions and personal data, tenant by tenant.")

Mode = Literal["off", "redacted", "full"]
Tenant = Annotated[str, typer.Argument(metavar="TENANT", show_default=False)]
Kinds = Annotated[
    str | None,
    typer.Option(
        "--kinds",
        help="What is replaced besides keys and tokens: EMAIL,PHONE,CARD,IBAN,NATIONAL_ID,IP. [default: all]",
        show_default=False,
    ),
]
Patterns = Annotated[
    list[str] | None,
    typer.Option(
        "--pattern", help="NAME=REGEX of your own (RE2); repeatable. Replaces the patterns there were.", show_default=False
    ),
]


@app.command(epilog="Examples: agentops content show · agentops content show acme --json")
def show(
    tenant: Annotated[str | None, typer.Argument(metavar="[TENANT]", show_default=False)] = None,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Show every tenant's policy, or one with its history. A tenant that is not listed has the default: off."""
    from agent_manager.cli.content import showing

    showing.show(data, tenant, as_json=as_json)


@app.command(
    "set",
    epilog="Examples: agentops content set acme redacted --reason 'debugging prompts until May' · "
    "agentops content set acme redacted --pattern 'ORDER=AB-[0-9]{5}' --reason 'our order numbers'",
)
def set_(
    tenant: Tenant,
    mode: Annotated[Mode, typer.Argument(help="off: content is dropped. redacted: kept, findings replaced. full: kept, but for keys and tokens.", show_default=False)],
    reason: Annotated[str, typer.Option("--reason", "-r", help="Why, for whoever looks later.", show_default=False)],
    kinds: Kinds = None, pattern: Patterns = None,
    no_patterns: Annotated[bool, typer.Option("--no-patterns", help="Take the tenant's own patterns away.")] = False,
    data: Data = None, as_json: Json = False,
) -> None:  # fmt: skip
    """Set a tenant's policy, for what arrives from now on; what is not given stays as it was."""
    from agent_manager.cli.content import changing

    changing.set_(data, tenant, mode, reason, kinds, pattern, no_patterns=no_patterns, as_json=as_json)


@app.command(
    "test",
    epilog="Examples: agentops content test 'call +1 202 555 0142' · agentops content test --tenant acme < prompt.txt · "
    "agentops content test 'order AB-12345' --pattern 'ORDER=AB-[0-9]{5}'",
)
def try_(
    text: Annotated[str | None, typer.Argument(metavar="[TEXT]", help="[default: standard input]", show_default=False)] = None,
    tenant: ByTenant = None, kinds: Kinds = None, pattern: Patterns = None,
    data: Data = None, as_json: Json = False,
) -> None:  # fmt: skip
    """Show what a text would become: by a tenant's policy, or by the default and what is given here. Nothing is sent anywhere."""
    from agent_manager.cli.content import trying

    trying.try_(data, text, tenant, kinds, pattern, as_json=as_json)


@app.command(epilog="Example: agentops content get acme.0195f3d2-7d51-7c3a-9a0e-2f5d0e3b1c44.0")
def get(
    reference: Annotated[str, typer.Argument(metavar="REF", help="From an attribute that was cut: what follows agentops-content:", show_default=False)],
    data: Data = None,
) -> None:  # fmt: skip
    """Print content that was too large for its event."""
    from agent_manager.cli.content import trying

    trying.get(data, reference)
