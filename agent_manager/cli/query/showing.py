"""``query NAME``: asked and printed."""

import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from nats.aio.client import Client

from agent_manager.cli import output
from agent_manager.cli.connection import Place, run
from agent_manager.cli.query import parameters, tables
from agent_manager.cli.query.asking import ask
from schemas.queries import Page

Form = Literal["table", "wide", "json", "csv"]


def show(data: Path | None, name: str, given: Mapping[str, Any], form: Form) -> None:
    """Asks and prints; a note tells when there is more."""
    asked = parameters.request(name, given, datetime.now(UTC))

    async def work(client: Client, _: Place) -> Page:
        return await ask(client, name, asked)

    page = run(data, work)
    if form == "json":
        output.write_json(page.model_dump(mode="json"))
    elif form == "csv":
        sys.stdout.write(tables.as_csv(page))
    else:
        columns, cells = tables.table(page, every=form == "wide")
        output.write_table(
            columns,
            cells,
            empty=f"{name}: nothing found{' in the last 24 hours; --since 7d looks further back' if 'since' not in asked else ''}",
        )
        if page.next_offset is not None:
            output.note(f"there is more: --offset {page.next_offset}")
