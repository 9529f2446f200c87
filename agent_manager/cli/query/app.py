"""``agentops query``: one command for each named query, its options made from the contract."""

import inspect
from collections.abc import Callable
from typing import Annotated, Any, Literal

import typer

from agent_manager.cli.failure import CommandFailedError
from agent_manager.cli.options import Data
from agent_manager.cli.query import parameters
from agent_manager.cli.query.showing import Form, show
from schemas.queries import QUERIES

_EXAMPLES = {
    "runs": "agentops query runs --agent my-agent --limit 20",
    "run": "agentops query run 0198c5f2-…",
    "failures": "agentops query failures --grouped --since 7d",
    "logs": "agentops query logs --agent my-agent --level warning --search timeout",
    "spend": "agentops query spend --by model --by day --since 30d",
    "latency": "agentops query latency --kind model_call --by model",
    "timeseries": "agentops query timeseries --metric cost --bucket hour --csv",
    "alerts": "agentops query alerts --state active",
}
_POSITIONAL = {"run": "run_id"}
"""What may be typed without its option."""
_SHORT = {"agent": "-a", "tenant": "-t", "limit": "-n"}


def _option(query: str, one: parameters.Parameter) -> inspect.Parameter:
    names = [f"--{one.name.replace('_', '-')}"] + ([_SHORT[one.name]] if one.name in _SHORT else [])
    text = one.help
    kind: Any = str
    default: Any = None
    if one.choices:
        kind = Literal[tuple(one.choices)]
    match one.shape:
        case "integer":
            kind, default = int, one.default
        case "flag":
            kind, default = bool, bool(one.default)
        case "moment":
            text = f"{text or 'Time.'} Also 24h (ago), today."
        case "list":
            text = f"{text} Repeatable. [default: {', '.join(one.default or ())}]".strip()
        case "text" if query == "timeseries" and one.name == "bucket":
            text = "Length of a bucket [default: what suits the range; without --since the last hour by the minute]"
        case "text" if one.default is not None:
            default = one.default
    if one.name == _POSITIONAL.get(query):
        text = text or "The same as an option."
    elif one.required:
        default = inspect.Parameter.empty
    if one.shape == "list":
        # A comma-separated value is easier to type than the option again; choices are checked by the contract.
        kind, text = list[str], f"{text} Of: {', '.join(one.choices)}."
        annotation: Any = list[str] | None
    else:
        annotation = kind if default is not None else kind | None
        if default is inspect.Parameter.empty:
            annotation = kind
    return inspect.Parameter(
        one.name, inspect.Parameter.KEYWORD_ONLY, default=default,
        annotation=Annotated[annotation, typer.Option(*names, help=text, show_default=default is not None and one.shape != "flag")],
    )  # fmt: skip


_FORMS = (
    ("as_json", "--json", "Print the answer as JSON."), ("as_csv", "--csv", "Print every row as CSV."), ("wide", "--all-columns", "Show every column."),
)  # fmt: skip


def _place(query: str, given: dict[str, Any], value: str | None) -> None:
    """Puts what was typed without an option where it belongs; raises CommandFailedError."""
    name = _POSITIONAL[query]
    if value is not None and given.get(name) not in {None, value}:
        raise CommandFailedError(f"{value!r} and --{name.replace('_', '-')} {given[name]!r} are two", "Name one", code=2)
    given[name] = value or given.get(name)
    if given[name] is None:
        raise CommandFailedError(
            f"query {query!r} needs a {name.replace('_', ' ')}",
            f"For example: {_EXAMPLES[query]}; `agentops query runs` lists them",
            code=2,
        )


def _command(name: str) -> Callable[..., None]:
    def command(**given: Any) -> None:
        data = given.pop("data")
        if name in _POSITIONAL:
            _place(name, given, given.pop("positional"))
        extra = parameters.pairs(given.pop("param") or [])
        as_json, as_csv, wide = (given.pop(form) for form, _, _ in _FORMS)
        if as_json and as_csv:
            raise CommandFailedError("--json and --csv exclude each other", code=2)
        form: Form = "json" if as_json else "csv" if as_csv else "wide" if wide else "table"
        show(data, name, given | extra, form)

    only = inspect.Parameter.KEYWORD_ONLY
    options = []
    if name in _POSITIONAL:
        what = typer.Argument(metavar=_POSITIONAL[name].upper(), help="Whose spans.", show_default=False)
        options.append(inspect.Parameter("positional", only, default=None, annotation=Annotated[str | None, what]))
    options += [_option(name, one) for one in parameters.parameters(name)]
    options.append(
        inspect.Parameter(
            "param",
            only,
            default=None,
            annotation=Annotated[
                list[str] | None,
                typer.Option("--param", "-p", metavar="NAME=VALUE", help="Any parameter by its name in the contract."),
            ],
        )
    )
    options += [
        inspect.Parameter(form, only, default=False, annotation=Annotated[bool, typer.Option(flag, help=text)])
        for form, flag, text in _FORMS
    ]
    options.append(inspect.Parameter("data", only, default=None, annotation=Data))
    command.__signature__ = inspect.Signature(options)  # type: ignore[attr-defined]
    command.__annotations__ = {option.name: option.annotation for option in options}
    command.__name__ = name
    command.__doc__ = parameters.about(name)
    return command


def application() -> typer.Typer:
    """All queries as commands."""
    app = typer.Typer(
        no_args_is_help=True,
        add_completion=False,
        help="Ask the warehouse. Times are of the events; the last 24 hours unless --since says otherwise.",
    )
    for name in QUERIES:
        example = _EXAMPLES.get(name, f"agentops query {name} --json")
        app.command(name, epilog=f"Example: {example}")(_command(name))
    return app
